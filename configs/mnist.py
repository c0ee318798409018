"""Class-conditional VDM on MNIST, 256 grey levels (discrete likelihood).

Command:   djax train --config=mnist --workdir=runs/mnist
Data:      prepared once with tensorflow-datasets (docs/howto/data.md)
Hardware:  one GPU or a TPU slice; on a CPU use configs/mnist.py:smoke
Expected:  no published result uses this protocol (discrete, 256 levels, given the class). DiffEnc's
           unconditional networks of this size differ by 0.003-0.007 bits/dim (the paper's).
"""

from ml_collections import ConfigDict

from diffusion_jax import config


def get_config(variant: str = "") -> ConfigDict:
    c = config.base()
    c.data = "mnist()"
    c.conditional = True
    c.network = "vdm_unet(width=128, depth=8)"  # 8.9M parameters
    c.batch = 128
    c.steps = 200_000
    c.ema = (0.999, 0.9999)
    c.guidance = "cfg(w=1.5)"
    c.sample.num = 100
    c.sample.batch = 100
    return config.variant(c, variant, smoke="vdm_unet(width=32, depth=1)")

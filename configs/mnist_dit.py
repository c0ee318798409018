"""A transformer on MNIST: DiT, 49 tokens of 4x4 pixels, 9.7M weights.

Command:   djax train --config=mnist_dit --workdir=runs/mnist_dit
Data:      prepared once with tensorflow-datasets (docs/howto/data.md)
Hardware:  one GPU or a TPU slice; on a CPU use configs/mnist_dit.py:smoke
Expected:  no published result uses this protocol (discrete, 256 levels, given the class)
"""

from ml_collections import ConfigDict

from diffusion_jax import config


def get_config(variant: str = "") -> ConfigDict:
    c = config.base()
    c.data = "mnist()"
    c.conditional = True
    c.network = "dit(width=256, depth=8, heads=4, patch=4, dropout=0.1)"
    c.batch = 128
    c.steps = 200_000
    c.lr, c.warmup = 5e-4, 1000
    c.clip = 1.0
    c.ema = (0.999, 0.9999)
    c.guidance = "cfg(w=1.5)"
    c.sample.num = 100
    c.sample.batch = 100
    return config.variant(c, variant, smoke="dit(width=64, depth=2, heads=2, patch=4)")

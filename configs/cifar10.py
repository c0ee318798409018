"""VDM on CIFAR-10 without augmentation: VDM-32, 30.6M parameters, as published.

Command:   djax train --config=cifar10 --workdir=runs/cifar10
Data:      prepared once with tensorflow-datasets (docs/howto/data.md)
Hardware:  the paper used 8 TPUv3 chips for 10M steps; on a CPU try configs/cifar10.py:smoke
Expected:  2.65 bits/dim (the paper's; the released checkpoint gives 2.637 with their evaluator)
"""

from ml_collections import ConfigDict

from diffusion_jax import config


def get_config(variant: str = "") -> ConfigDict:
    c = config.base()
    c.data = "cifar10()"
    c.network = "vdm_unet(width=128, depth=32, dropout=0.1)"
    c.schedule = "learned_linear()"
    c.gamma_min, c.gamma_max = -13.3, 5.0
    c.batch = 128
    c.steps = 10_000_000
    c.optimizer = "adamw(b2=0.99, weight_decay=0.01)"
    c.decay_mask = "all_but_bias"  # theirs
    c.lr, c.warmup = 2e-4, 100
    c.ema, c.ema_warmup = (0.9999,), False
    c.sample.steps = 1000
    return config.variant(c, variant, smoke="vdm_unet(width=32, depth=1)")

"""A transformer with long skips on CIFAR-10: U-ViT-S/2 and its training as published, 45M weights.

The published model is trained on the unweighted eps loss; this one is trained on the bound.

Command:   djax train --config=cifar10_uvit --workdir=runs/cifar10_uvit
Data:      prepared once with tensorflow-datasets (docs/howto/data.md)
Hardware:  one GPU or a TPU slice; on a CPU use configs/cifar10_uvit.py:smoke
Expected:  we know of no published bits/dim for a U-ViT on CIFAR-10
"""

from ml_collections import ConfigDict

from diffusion_jax import config


def get_config(variant: str = "") -> ConfigDict:
    c = config.base()
    c.data = "cifar10()"
    c.augment = "flip()"
    c.network = "uvit(width=512, depth=12, heads=8, patch=2)"
    c.batch = 128
    c.steps = 500_000
    c.optimizer = "adamw(b1=0.99, b2=0.999, weight_decay=0.03)"
    c.lr, c.warmup = 2e-4, 2500
    c.ema = (0.9999,)
    c.sample.steps = 1000
    return config.variant(c, variant, smoke="uvit(width=64, depth=2, heads=2, patch=4)")

"""A transformer on CIFAR-10: DiT-S/2, 256 tokens of 2x2 pixels, 32M weights.

Command:   djax train --config=cifar10_dit --workdir=runs/cifar10_dit
Data:      prepared once with tensorflow-datasets (docs/howto/data.md)
Hardware:  one GPU or a TPU slice; on a CPU use configs/cifar10_dit.py:smoke
Expected:  we know of no published bits/dim for a DiT on CIFAR-10
"""

from ml_collections import ConfigDict

from diffusion_jax import config


def get_config(variant: str = "") -> ConfigDict:
    c = config.base()
    c.data = "cifar10()"
    c.augment = "flip()"  # transformers memorise small data sets
    c.network = "dit(width=384, depth=12, heads=6, patch=2, dropout=0.1)"
    c.batch = 128
    c.steps = 500_000
    c.optimizer = "adamw(b2=0.99, weight_decay=0.03)"
    c.lr, c.warmup = 5e-4, 1000
    c.lr_decay = "cosine"
    c.clip = 1.0
    c.ema = (0.9999,)
    c.sample.steps = 1000
    return config.variant(c, variant, smoke="dit(width=64, depth=2, heads=2, patch=4)")

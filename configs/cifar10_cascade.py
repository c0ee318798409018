"""Cascade on CIFAR-10 in Haar bands: 8x8 means, then the detail added at 16x16 and at 32x32.

Command:   djax train --config=configs/cifar10_cascade.py:8 --workdir=runs/8
           the same with :16 and :32, then
           djax eval --config.stages=runs/8,runs/16,runs/32 --workdir=runs/cascade
Data:      prepared once with tensorflow-datasets (docs/howto/data.md)
Hardware:  a GPU; on a CPU configs/cifar10_cascade.py:8_smoke
"""

from ml_collections import ConfigDict

from diffusion_jax import config

_VIEWS = {
    "8": "low(haar(), level=2)",
    "16": "high(haar(), level=2)",
    "32": "high(haar())",
}


def get_config(variant: str = "") -> ConfigDict:
    name, smoke = config.split_variant(variant, _VIEWS, "8")
    c = config.base()
    c.data = "cifar10()"
    c.view = _VIEWS[name]
    c.network = "vdm_unet(width=128, depth=8)"
    c.schedule = "learned_mlp()"
    c.steps = 500_000
    c.sample.steps = 1000
    return config.variant(c, smoke, smoke="vdm_unet(width=32, depth=1, embed=32)")

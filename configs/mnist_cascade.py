"""Cascade on MNIST: 7x7 images, then the detail added at 14x14 and at 28x28.

Command:   djax train --config=configs/mnist_cascade.py:7 --workdir=runs/7
           the same with :14 and :28, then
           djax eval --config.stages=runs/7,runs/14,runs/28 --workdir=runs/cascade
Data:      prepared once with tensorflow-datasets (docs/howto/data.md)
Hardware:  a GPU; on a CPU configs/mnist_cascade.py:7_smoke
"""

from ml_collections import ConfigDict

from diffusion_jax import config

_STAGES = {
    "7": ("low(subsample(), level=2)", "vdm_unet(width=64, depth=4, embed=64)"),
    "14": ("high(subsample(), level=2)", "vdm_unet(width=64, depth=4, embed=64)"),
    "28": ("high(subsample())", "unet(width=64, mults=(1, 2), attention=(7,))"),
}


def get_config(variant: str = "") -> ConfigDict:
    name, smoke = config.split_variant(variant, _STAGES, "7")
    c = config.base()
    c.data = "mnist()"
    c.view, c.network = _STAGES[name]
    c.conditional = True
    c.schedule = "learned_mlp()"
    c.steps = 100_000
    c.lr_decay = "cosine"
    c.ema = (0.9999,)
    c.guidance = "cfg(w=2.0)"
    c.eval_every = c.save_every = c.sample_every = 5_000
    return config.variant(c, smoke, smoke="vdm_unet(width=32, depth=1, embed=32)")

"""Cascade on 8x8 digits: a model of 4x4 images, and one of the missing detail given these.

Command:   djax train --config=configs/digits_cascade.py:low --workdir=runs/low
           djax train --config=configs/digits_cascade.py:high --workdir=runs/high
           djax eval --config.stages=runs/low,runs/high --workdir=runs/cascade
Hardware:  two CPU cores, minutes
Expected:  2.331 +- 0.017 bits/dim together; 2.013 with --config.steps=4800 for the second run
"""

from ml_collections import ConfigDict

from diffusion_jax import config

_VIEWS = {"low": "low(subsample())", "high": "high(subsample())"}


def get_config(variant: str = "") -> ConfigDict:
    name, smoke = config.split_variant(variant, _VIEWS, "low")
    c = config.base()
    c.data = "digits()"
    c.view = _VIEWS[name]
    c.conditional = True
    c.network = "vdm_unet(width=32, depth=2, embed=64)"
    c.batch = 64
    c.steps = 1600
    c.lr = 2e-3
    c.lr_decay = "cosine"
    c.clip = 1.0
    c.ema = (0.995,)
    c.log_every = 50
    c.eval_every = 400
    c.save_every = 400
    c.sample_every = 0
    c.eval.draws = 32
    c.eval.timesteps = (50, 1000)
    c.guidance = "cfg(w=2.0)"
    c.sampler = "ancestral()"
    c.sample.num = 100
    c.sample.batch = 100
    c.sample.steps = 50
    return config.variant(c, smoke, smoke="vdm_unet(width=32, depth=1, embed=32)")

"""Signals whose entropy is known: an autoregression on levels, or white noise. Nothing to download.

Command:   djax train --config=signals --workdir=runs/signals
           --config=configs/signals.py:white is white noise, whose bits are log2 of its levels
Hardware:  two CPU cores, a few minutes
Expected:  63.05 +- 0.48 bits per signal, with an entropy of 62.76; white noise after 300 steps
           127.93 +- 0.58, with an entropy of 128 (ours)
"""

from ml_collections import ConfigDict

from diffusion_jax import config

_DATA = {"ar1": "signals(rho=0.9)", "white": "signals(law='white')"}


def get_config(variant: str = "") -> ConfigDict:
    name, smoke = config.split_variant(variant, _DATA, "ar1")
    c = config.base()
    c.data = _DATA[name]
    c.network = "vdm_unet(width=48, depth=2, embed=64, dropout=0.0)"
    c.prediction = "levels"
    c.gamma_max = 8.0
    c.batch = 128
    c.steps = 2000
    c.lr = 2e-3
    c.lr_decay = "cosine"
    c.clip = 1.0
    c.ema = (0.995,)
    c.log_every = 100
    c.eval_every = c.save_every = 1000
    c.sample_every = 0
    c.eval.timesteps = ()
    c.sampler = "dpmpp_2m()"
    c.sample.num = c.sample.batch = 16
    c.sample.steps = 50
    return config.variant(c, smoke, smoke="vdm_unet(width=16, depth=1, embed=16)")

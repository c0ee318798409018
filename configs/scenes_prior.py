"""The prior of an unCLIP: samples CLIP embeddings from a text such as "a red three, top left".

Command:   djax train --config=scenes_clip:clean --workdir=runs/clip
           djax train --config=scenes_prior --workdir=runs/prior
Use:       --config.sample.prior=runs/prior with a decoder (configs/scenes_unclip.py)
Hardware:  two CPU cores, minutes
Expected:  4.34 +- 0.01 bits per value given the text (235 core-seconds, ours); docs/howto/unclip.md
"""

from ml_collections import ConfigDict

from diffusion_jax import config


def get_config(variant: str = "") -> ConfigDict:
    c = config.base()
    c.data = "embeddings(checkpoint='runs/clip', of=scenes(objects=1))"
    c.text = "words(length=12)"
    c.network = "prior(width=96, depth=3, heads=4)"
    c.prediction = "v"  # the paper uses "x", with objective "weighted(weight=x())"
    c.batch = 64
    c.steps = 2000
    c.lr, c.lr_decay, c.clip = 1e-3, "cosine", 1.0
    c.ema = (0.998,)
    c.log_every, c.eval_every, c.save_every, c.sample_every = 50, 500, 500, 0
    c.eval.timesteps = ()
    c.sampler = "dpmpp_2m()"
    c.sample.num, c.sample.batch, c.sample.steps = 64, 64, 50
    return config.variant(c, variant, smoke="prior(width=16, depth=1, heads=2, embed=8)")

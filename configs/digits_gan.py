"""A GAN on the 8x8 digits, a small version of R3GAN, as a baseline for diffusion.

Command:   djax train --config=digits_gan --workdir=runs/gan
Use:       --mode=sample and --mode=quality with this work directory; it has no likelihood
Hardware:  two CPU cores, minutes
Expected:  after 2,000 steps a Frechet distance of 0.088 +- 0.007; a guided student has 0.143
           (ours, docs/howto/steps.md); 8,000 not yet run
"""

from ml_collections import ConfigDict

from diffusion_jax import config


def get_config(variant: str = "") -> ConfigDict:
    c = config.base()
    c.data = "digits()"
    c.task = "gan(width=64, blocks=1, noise=32, penalty=0.64)"
    c.conditional = True
    c.batch = 64
    c.steps = 8000
    c.optimizer = "adam(b1=0.0, b2=0.99)"
    c.lr = 5e-4
    c.lr_decay = "cosine"
    c.clip = 0.0
    c.warmup = 0
    c.ema = (0.998,)
    c.log_every = 100
    c.eval_every = 1000
    c.save_every = 1000
    c.sample_every = 0
    c.sample.num = 100
    c.sample.batch = 100
    return config.variant(c, variant, smoke="gan(width=8, noise=4)")

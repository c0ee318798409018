"""A discriminator of noisy digits against a run's samples, which it draws first.

Command:   python -m diffusion_jax.main --config=configs/digits_discriminator.py
               --workdir=runs/discriminator --config.against=runs/digits
Use:       --config.guidance='discriminator(checkpoint="runs/discriminator", scale=1.0)'
"""

from ml_collections import ConfigDict

from diffusion_jax import config


def get_config(variant: str = "") -> ConfigDict:
    c = config.base()
    c.data = "digits()"
    c.gamma_min, c.gamma_max = -7.9, 5.0
    c.scorer = "discriminator(width=32)"
    c.against = "runs/digits"
    c.conditional = True
    c.steps = 600
    # How the samples are drawn: as they will be when they are guided.
    c.guidance = "none()"
    c.sampler = "ancestral()"
    c.sample.num = 2000
    c.sample.batch = 200
    c.sample.steps = 50
    c.batch = 64
    c.lr = 1e-3
    c.lr_decay = "cosine"
    c.optimizer = "adamw(weight_decay=0.05)"
    c.ema = (0.99,)
    c.log_every = 50
    c.eval_every = 200
    c.save_every = 200
    c.eval.batch = 300
    return config.variant(c, variant, smoke=c.network)

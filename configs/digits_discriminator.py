"""A discriminator of noisy digits against a run's samples, which are drawn first.

Command:   python -m diffusion_jax.main --config=configs/digits_discriminator.py
               --workdir=runs/disc --config.against=runs/digits
Use:       --config.guidance='discriminator(checkpoint="runs/disc", scale=1.0)'
Result:    accuracy 0.55 on clean test digits against samples of configs/digits.py (chance: 0.5);
           59 s on two CPU cores (ours, with other jobs running)
"""

from ml_collections import ConfigDict

from diffusion_jax import config


def get_config(variant: str = "") -> ConfigDict:
    c = config.scorer("digits()", "discriminator(width=32)", -7.9, 600)
    c.against = "runs/digits"
    c.conditional = True
    # How the samples are drawn: as they will be when they are guided.
    c.guidance = "none()"
    c.sampler = "ancestral()"
    c.sample.num, c.sample.batch, c.sample.steps = 2000, 200, 50
    c = config.variant(c, variant, smoke="discriminator(width=16, blocks=1)")
    c.sample.num = max(c.sample.num, 100)
    return c

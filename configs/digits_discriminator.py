"""A discriminator of noisy digits and a run's samples, which are drawn first.

The run is runs/digits; for another add --config.task="guide(discriminator(width=32),
against='DIR')".

Command:   djax train --config=digits_discriminator
               --workdir=runs/disc
Use:       --config.guidance='discriminator(checkpoint="runs/disc", scale=1.0)'
Result:    accuracy 0.55 on clean test digits against samples of configs/digits.py (chance: 0.5);
           59 s on two CPU cores (ours, with other jobs running)
"""

from ml_collections import ConfigDict

from diffusion_jax import config

_RUN = "runs/digits"


def get_config(variant: str = "") -> ConfigDict:
    c = config.guide("digits()", f"guide(discriminator(width=32), against={_RUN!r})", 600)
    c.conditional = True
    # The samples are drawn as in the guided sampling that the discriminator is for.
    c.guidance = "none()"
    c.sampler = "ancestral()"
    c.sample.num, c.sample.batch, c.sample.steps = 2000, 200, 50
    smoke = f"guide(discriminator(width=16, blocks=1), against={_RUN!r})"
    c = config.variant(c, variant, smoke=smoke)
    c.sample.num = max(c.sample.num, 100)
    return c

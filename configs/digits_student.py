"""A student with four steps, distilled from the run of configs/digits.py.

Command:   djax train --config=digits_student --workdir=runs/four
Teacher:   runs/digits, or --config.task="distill(teacher='RUN', method=segments(steps=1))"
Hardware:  two CPU cores, minutes
Expected:  after 600 steps, with a guided teacher, a Frechet distance 7% above the teacher's with 50
           calls (ours);
           docs/howto/steps.md
"""

from ml_collections import ConfigDict

from diffusion_jax import config


def get_config(variant: str = "") -> ConfigDict:
    c = config.student("digits()", "distill(teacher='runs/digits', method=segments(steps=4))")
    c.batch = 64
    c.steps = 1600
    c.lr = 5e-4
    c.ema = (0.99,)
    c.log_every = 50
    c.eval_every = 400
    c.save_every = 400
    return config.variant(
        c, variant, smoke="distill(teacher='runs/digits', method=segments(steps=2, inner=2))"
    )

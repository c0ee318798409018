"""A student with four steps, distilled from the run of configs/mnist.py.

Command:   djax train --config=mnist_student --workdir=runs/four
Teacher:   runs/mnist, or --config.task="distill(teacher='RUN', method=segments(steps=1))"
Hardware:  as the teacher's; on a CPU use configs/mnist_student.py:smoke
Expected:  with `pretrained/mnist`, guided, as teacher, and 400 steps of 32 images, a Frechet
           distance 20 +- 5% above the teacher's with 50 calls (ours, docs/howto/steps.md); with
           these settings not yet trained
"""

from ml_collections import ConfigDict

from diffusion_jax import config


def get_config(variant: str = "") -> ConfigDict:
    c = config.student("mnist()", "distill(teacher='runs/mnist', method=segments(steps=4))")
    c.batch = 128
    c.steps = 50_000
    c.lr = 1e-4
    c.ema = (0.999,)
    return config.variant(
        c, variant, smoke="distill(teacher='runs/mnist', method=segments(steps=2, inner=2))"
    )

"""A GAN on MNIST, a small version of R3GAN, as a baseline for diffusion.

Command:   djax train --config=mnist_gan --workdir=runs/mnist_gan
Data:      prepared once with tensorflow-datasets (docs/howto/data.md)
Use:       --mode=sample and --mode=quality with this work directory; it has no likelihood
Hardware:  one GPU or a TPU slice; on a CPU use configs/mnist_gan.py:smoke
Expected:  after 2,500 steps of 32 images a Frechet distance of 0.61 +- 0.04 (three seeds); a
           guided student has 0.34 with one call (ours, docs/howto/steps.md); with these settings
           not yet trained
"""

from ml_collections import ConfigDict

from diffusion_jax import config


def get_config(variant: str = "") -> ConfigDict:
    c = config.base()
    c.data = "mnist(holdout=1000)"
    c.task = "gan(width=(128, 64, 32, 16), blocks=1, noise=32, penalty=20.0)"
    c.conditional = True
    c.batch = 128
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
    return config.variant(c, variant, smoke="gan(width=8, noise=4, penalty=20.0)")

"""CIFAR-10 on a budget: two CPU cores for three hours, including start-up and validation.

Command:   djax train --config=cifar10_3h --workdir=runs/cifar10_3h
           (on Linux with GLIBC_TUNABLES=glibc.malloc.hugetlb=1 set: a fifth fewer core-seconds)
Data:      prepared once with tensorflow-datasets (docs/howto/data.md); 1,000 training images are
           held out
Hardware:  one hardware thread of an EPYC core, with other jobs running: 4,255 core-s, a fifth of
           two cores for three hours (to use it all: --config.steps=14000); 1.9M parameters, seed 0
Expected:  3.515 +- 0.011 bits/dim on the test set, given the class (ours; the weights are in
           `pretrained/`)
"""

from ml_collections import ConfigDict

from diffusion_jax import config


def get_config(variant: str = "") -> ConfigDict:
    c = config.base()
    c.data = "cifar10(holdout=1000)"
    c.augment = "flip()"
    c.conditional = True
    c.network = "unet(width=48, mults=(1, 1, 2), blocks=1, attention=(8,), dropout=0.0)"
    c.prediction = "eps"
    c.proposal = "histogram()"
    c.optimizer = "muon(weight_decay=0.01)"
    c.batch = 32
    c.steps = 2800
    c.lr = 2e-3
    c.lr_decay = "cooldown(0.3)"
    c.clip = 1.0
    c.ema = (0.998, 0.99)
    c.eval_every = 2000
    c.save_every = 100
    c.sample_every = 0
    c.eval.draws = 4
    c.eval.timesteps = ()
    c.guidance = "cfg(w=1.5)"
    c.sampler = "dpmpp_2m()"
    c.sample.num = 100
    c.sample.batch = 100
    c.sample.steps = 50
    return config.variant(c, variant, smoke="unet(width=16, mults=(1, 2), blocks=1, attention=())")

"""CIFAR-10 on a budget: one large GPU for ten minutes, including start-up and validation.

Command:   djax train --config=cifar10_h100 --workdir=runs/cifar10_h100
           (if it does not finish in time: the learning rate is constant until step 5,600, so stop
           before that and resume with fewer steps, --config.steps=6000)
Data:      prepared once with tensorflow-datasets (docs/howto/data.md); 1,000 training images are
           held out
Hardware:  one H100; 24.5M parameters, seed 0
Expected:  not yet run, for lack of such a GPU; the number of steps assumes an eighth of its peak
           bfloat16 rate
"""

from ml_collections import ConfigDict

from diffusion_jax import config


def get_config(variant: str = "") -> ConfigDict:
    c = config.base()
    c.data = "cifar10(holdout=1000)"
    c.augment = "flip()"
    c.conditional = True
    c.network = "unet(width=128, mults=(1, 1, 2), blocks=3, attention=(8,), dropout=0.0)"
    c.prediction = "eps"
    c.proposal = "histogram()"
    c.dtype = "bfloat16"
    c.optimizer = "muon(weight_decay=0.01)"
    c.batch = 256
    c.steps = 8000
    c.lr = 2e-3
    c.lr_decay = "cooldown(0.3)"
    c.clip = 1.0
    c.ema = (0.999, 0.99)
    c.eval_every = 4000
    c.save_every = 1000
    c.sample_every = 0
    c.eval.timesteps = ()
    c.guidance = "cfg(w=1.5)"
    c.sampler = "dpmpp_2m()"
    c.sample.num = 100
    c.sample.batch = 100
    c.sample.steps = 50
    return config.variant(c, variant, smoke="unet(width=16, mults=(1, 2), blocks=1, attention=())")

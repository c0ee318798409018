"""MNIST on a budget: one large GPU for ten minutes, including start-up and validation.

Command:   djax train --config=mnist_h100 --workdir=runs/mnist_h100
           (if it does not finish in time: the learning rate is constant until step 14,000, so stop
           before that and resume with fewer steps, --config.steps=10000)
Data:      prepared once with tensorflow-datasets (docs/howto/data.md); 1,000 training images are
           held out
Hardware:  one H100; 10.8M parameters, seed 0
Expected:  not yet run, for lack of such a GPU; the number of steps assumes an eighth of its peak
           bfloat16 rate
"""

from ml_collections import ConfigDict

from diffusion_jax import config


def get_config(variant: str = "") -> ConfigDict:
    c = config.base()
    c.data = "mnist(holdout=1000)"
    c.conditional = True
    c.network = "unet(width=96, mults=(1, 1, 2), blocks=2, attention=(7,), dropout=0.0)"
    c.prediction = "levels"
    c.proposal = "histogram()"
    c.dtype = "bfloat16"
    c.optimizer = "muon(weight_decay=0.01)"
    c.batch = 256
    c.steps = 20_000
    c.lr = 2e-3
    c.lr_decay = "cooldown(0.3)"
    c.clip = 1.0
    c.ema = (0.999, 0.99)
    c.eval_every = 5000
    c.save_every = 1000
    c.sample_every = 0
    c.eval.timesteps = ()
    c.guidance = "cfg(w=1.5)"
    c.sample.num = 100
    c.sample.batch = 100
    c.sample.steps = 50
    return config.variant(c, variant, smoke="unet(width=16, mults=(1, 2), blocks=1, attention=())")

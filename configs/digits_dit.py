"""The default run with a transformer in place of the U-Net: DiT, one token per pixel, 1.8M weights.

Command:   djax train --config=digits_dit --workdir=runs/digits_dit
Hardware:  two CPU cores, minutes
Expected:  not yet measured; `python -m benchmarks.bits --table networks --out=runs/bits`
           compares a DiT with 2x2 patches with other networks at equal processor time
"""

from ml_collections import ConfigDict

from diffusion_jax import config


def get_config(variant: str = "") -> ConfigDict:
    c = config.base()
    c.data = "digits()"
    c.conditional = True
    c.network = "dit(width=128, depth=6, heads=4, patch=1, dropout=0.05)"
    c.batch = 64
    c.steps = 1600
    c.lr, c.warmup = 1e-3, 100
    c.lr_decay = "cosine"
    c.clip = 1.0
    c.ema = (0.995,)
    c.log_every = 50
    c.eval_every = 400
    c.save_every = 400
    c.sample_every = 0
    c.eval.draws = 32
    c.eval.timesteps = (50, 1000)
    c.guidance = "cfg(w=2.0)"
    c.sample.num = 100
    c.sample.batch = 100
    c.sample.steps = 50
    return config.variant(c, variant, smoke="dit(width=32, depth=2, heads=2, patch=2)")

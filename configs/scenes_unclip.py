"""The decoder of an unCLIP: scenes from their CLIP embeddings and texts.

Command:   djax train --config=scenes_clip:clean --workdir=runs/clip
           djax train --config=scenes_unclip --workdir=runs/decoder
Use:       djax sample --workdir=runs/decoder --config.sample.prior=runs/prior (configs/scenes_prior.py)
Hardware:  two CPU cores, minutes
Expected:  0.2015 +- 0.0022 bits/dim given text and vector (1,000 test images, 1,655 core-seconds,
           ours); docs/howto/unclip.md
"""  # noqa: E501

from ml_collections import ConfigDict

from diffusion_jax import config


def get_config(variant: str = "") -> ConfigDict:
    c = config.base()
    c.data = "scenes(objects=1)"
    c.embedding = "runs/clip"
    c.text = "words(length=12)"
    c.text_dropout, c.embedding_dropout = 0.5, 0.1
    c.network = (
        "unet(width=32, mults=(1, 2), blocks=1, attention=(8,), heads=4, dropout=0.0, "
        "position='sincos', smallest_group=8)"
    )
    c.prediction = "levels"
    c.optimizer = "muon(weight_decay=0.01)"
    c.batch = 64
    c.steps = 1500
    c.lr, c.lr_decay, c.clip = 2e-3, "cosine", 1.0
    c.ema = (0.998,)
    c.log_every, c.eval_every, c.save_every, c.sample_every = 50, 500, 500, 0
    c.eval.timesteps = ()
    c.guidance, c.sampler = "cfg(w=2.0)", "dpmpp_2m()"
    c.sample.num, c.sample.batch, c.sample.steps = 40, 40, 50
    small = "unet(width=8, mults=(1, 2), blocks=1, attention=(8,), heads=2, position='sincos')"
    return config.variant(c, variant, smoke=small)

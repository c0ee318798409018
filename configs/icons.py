"""Text to image on Fugue icons: 3,570 of 16x16 pixels with their names (CC BY 3.0).

Command:   djax train --config=icons --workdir=runs/icons
Data:      pip install --no-deps fugue-icons
Hardware:  two CPU cores; 600 steps take 11 minutes (1,317 core-seconds)
Expected:  4.253 +- 0.057 bits/dim given the name after 600 steps (ours); not yet trained to
           the end
"""

from ml_collections import ConfigDict

from diffusion_jax import config


def get_config(variant: str = "") -> ConfigDict:
    c = config.base()
    c.data = "icons()"
    c.text = "bytes(length=48)"
    c.network = (
        "unet(width=48, mults=(1, 2), blocks=1, attention=(8,), heads=4, dropout=0.1, "
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

r"""Latent diffusion on 8x8 digits: autoencoder, then prior, or both at once. No download.

Command:   djax train --config=digits_latent:vae --workdir=runs/vae
           djax train --config=digits_latent:prior --workdir=runs/latent
           djax eval --workdir=runs/latent
           :joint trains both at once; :decoder trains a diffusion decoder (docs/howto/latent.md)
Hardware:  two CPU cores, minutes
Expected:  test, 1.915 +- 0.015 bits/dim (:vae), 1.817 +- 0.016 (:prior, given the class); :joint
           and :decoder not measured to the end. Latents are 4x4x4, as many values as pixels
"""

from ml_collections import ConfigDict

from diffusion_jax import config, config_latents


def get_config(variant: str = "") -> ConfigDict:
    stage, smoke = config.split_variant(variant, config_latents.STAGES, "vae")
    c = config.base()
    c.data = "digits()"
    c.autoencoder = "conv(widths=(32, 64), channels=4, head=categorical())"
    c.conditional = True
    c.batch = 64
    # The autoencoder memorises 1,400 images: on held-out ones 1,000 steps are better than 2,000.
    c.steps = {"prior": 2000, "decoder": 4000}.get(stage, 1000)
    c.lr = 2e-3
    c.lr_decay = "cosine"
    c.clip = 1.0
    c.ema = (0.995,)
    c.log_every = 100
    c.eval_every = c.save_every = 250
    c.sample_every = 0
    c.eval.draws = 32
    c.eval.timesteps = (50, 1000)
    c.guidance = "cfg(w=2.0)"
    c.sample.num = c.sample.batch = 100
    c.sample.steps = 50
    network = "dit(width=64, depth=4, heads=4, patch=1, dropout=0.05, skip=False, fourier=False)"
    config_latents.latent(c, stage, network, decoder="vdm_unet(width=32, depth=2, embed=64)")
    small = {"vae": "standard_normal()", "decoder": "vdm_unet(width=32, depth=1, embed=32)"}
    other = "dit(width=16, depth=1, heads=1, patch=1, skip=False, fourier=False)"
    if smoke and "checkpoint" not in c.autoencoder:
        c.autoencoder = "conv(widths=(8, 8), channels=4, head=categorical())"
    return config.variant(c, smoke, smoke=small.get(stage, other))

r"""Latent diffusion on CIFAR-10, 8x8x8: narrow latents for speed, not for the lowest bits/dim.

Command:   djax train --config=cifar10_latent:vae --workdir=runs/vae
           djax train --config=cifar10_latent:prior --workdir=runs/latent
           djax eval --workdir=runs/latent
           :joint trains both at once; :decoder trains a diffusion decoder (docs/howto/latent.md)
Data:      prepared once with tensorflow-datasets (docs/howto/data.md)
Hardware:  one GPU; on a CPU a demonstration of an hour
Expected:  not yet measured; 512 latent values carry at most 1,850 bits of about 8,100 per image
"""

from ml_collections import ConfigDict

from diffusion_jax import config, config_latents


def get_config(variant: str = "") -> ConfigDict:
    stage, smoke = config.split_variant(variant, config_latents.STAGES, "vae")
    c = config.base()
    c.data = "cifar10()"
    c.autoencoder = "conv(widths=(64, 128, 128), channels=8, head=logistic(mixtures=10))"
    c.batch = 128
    c.steps = 100_000 if stage in ("prior", "decoder") else 50_000
    c.lr, c.warmup = 3e-4, 1000
    c.clip = 1.0
    c.ema = (0.9999,)
    c.eval_every = c.save_every = 5_000
    c.sample.num = c.sample.batch = 64
    c.sample.steps = 100
    network = (
        "dit(width=256, depth=8, heads=4, patch=1, share=True, dropout=0.1, skip=False, "
        "fourier=False)"
    )
    config_latents.latent(c, stage, network, decoder="vdm_unet(width=128, depth=8)")
    small = {"vae": "standard_normal()", "decoder": "vdm_unet(width=32, depth=1)"}
    other = "dit(width=16, depth=1, heads=1, patch=1, skip=False, fourier=False)"
    if smoke and "checkpoint" not in c.autoencoder:
        c.autoencoder = "conv(widths=(8, 8, 8), channels=8, head=logistic(mixtures=2))"
    return config.variant(c, smoke, smoke=small.get(stage, other))

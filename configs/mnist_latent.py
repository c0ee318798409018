r"""Latent diffusion on MNIST, 7x7x4: fast sampling; the bits are mostly the autoencoder's.

Command:   djax train --config=mnist_latent:vae --workdir=runs/vae
           djax train --config=mnist_latent:prior --workdir=runs/latent
           djax eval --workdir=runs/latent
           :joint trains both at once; :decoder trains a diffusion decoder (docs/howto/latent.md)
Data:      prepared once with tensorflow-datasets (docs/howto/data.md)
Hardware:  two CPU cores, an hour; one GPU, minutes
Expected:  not yet measured
"""

from ml_collections import ConfigDict

from diffusion_jax import config, config_latents


def get_config(variant: str = "") -> ConfigDict:
    stage, smoke = config.split_variant(variant, config_latents.STAGES, "vae")
    c = config.base()
    c.data = "mnist()"
    c.autoencoder = "conv(widths=(32, 64, 64), channels=4, head=logistic(mixtures=3))"
    c.conditional = True
    c.batch = 128
    c.steps = 6_500 if stage in ("prior", "decoder") else 2_500
    c.lr, c.warmup = 1e-3, 200
    c.lr_decay = "cosine"
    c.clip = 1.0
    c.ema = (0.999,)
    c.eval_every = c.save_every = 1_000
    c.sample_every = 0
    c.guidance = "cfg(w=1.5)"
    c.sample.num = c.sample.batch = 100
    c.sample.steps = 50
    network = (
        "dit(width=128, depth=6, heads=4, patch=1, share=True, dropout=0.05, skip=False, "
        "fourier=False)"
    )
    config_latents.latent(c, stage, network, decoder="unet(width=64, mults=(1, 2), attention=(7,))")
    small = {"vae": "standard_normal()", "decoder": "vdm_unet(width=32, depth=1, embed=32)"}
    other = "dit(width=16, depth=1, heads=1, patch=1, skip=False, fourier=False)"
    if smoke and "checkpoint" not in c.autoencoder:
        c.autoencoder = "conv(widths=(8, 8, 8), channels=4, head=logistic(mixtures=1))"
    return config.variant(c, smoke, smoke=small.get(stage, other))

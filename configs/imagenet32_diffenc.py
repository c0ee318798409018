"""DiffEnc-32-8 (default) and VDMv-32 on ImageNet 32x32 (the anti-aliased release), width 256.

Command:   djax train --config=imagenet32_diffenc:VARIANT --workdir=DIR
           VARIANT: diffenc_32_8 (default), vdmv_32; each also with _smoke, or just smoke
Data:      prepared once with tensorflow-datasets (docs/howto/data.md)
Hardware:  a TPU slice or several GPUs; we have not trained it
Expected:  3.46 for both (the paper's, three seeds, 1.5M steps, second-hand)
"""

from ml_collections import ConfigDict

from diffusion_jax import config

VARIANTS = {
    "diffenc_32_8": {"encoder": "diffenc(kind='unet_mult_res', blocks=8, width=64)"},
    "vdmv_32": {},
}


def get_config(variant: str = "diffenc_32_8") -> ConfigDict:
    c = config.base()
    name, smoke = config.split_variant(variant, VARIANTS, "diffenc_32_8")
    c.data = "imagenet32()"
    c.network = "vdm_unet(width=256, depth=32, dropout=0.1, remat=True)"
    c.prediction = "v"
    c.schedule = "linear()"
    c.batch = 256
    c.steps = 1_500_000
    c.decay_mask = "all_but_bias"
    c.ema, c.ema_warmup = (0.9999,), False
    c.eval.batch = 64
    c.sample.steps = 1000
    c.update(VARIANTS[name])
    if smoke:
        c.encoder = c.encoder.replace("width=64", "width=16")
    return config.variant(c, smoke, smoke="vdm_unet(width=32, depth=1)")

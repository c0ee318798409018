"""DiffEnc and its baseline on MNIST: DiffEnc-8-2 (default), DiffEnc-8-nt, VDMv-8.

Command:   djax train --config=mnist_diffenc:VARIANT --workdir=DIR
           VARIANT: diffenc (default), diffenc_nt, vdmv; each also with _smoke, or just smoke
Data:      prepared once with tensorflow-datasets (docs/howto/data.md)
Hardware:  one GPU; the paper trained 2M steps with five seeds (second-hand)
Expected:  differences between the models of 0.003-0.007 bits/dim, within standard errors (the
           paper's, second-hand; no absolute values are published)
"""

from ml_collections import ConfigDict

from diffusion_jax import config

VARIANTS = {
    "diffenc": {"encoder": "diffenc(kind='unet', blocks=2, width=64)"},
    "diffenc_nt": {"encoder": "diffenc_nt()"},
    "vdmv": {},
}


def get_config(variant: str = "diffenc") -> ConfigDict:
    c = config.base()
    name, smoke = config.split_variant(variant, VARIANTS, "diffenc")
    c.data = "mnist()"
    c.network = "vdm_unet(width=128, depth=8, dropout=0.1)"
    c.prediction = "v"
    c.schedule = "linear()"  # the paper's fixed ends; learned_linear() for its trainable ones
    c.batch = 128
    c.steps = 2_000_000
    c.decay_mask = "all_but_bias"
    c.ema, c.ema_warmup = (0.9999,), False
    c.update(VARIANTS[name])
    if smoke:
        c.encoder = c.encoder.replace("blocks=2, width=64", "blocks=1, width=16")
    return config.variant(c, smoke, smoke="vdm_unet(width=32, depth=1)")

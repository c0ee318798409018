"""DiffEnc and its baselines on CIFAR-10, as published: unconditional, v-prediction, no flips.

Command:   djax train --config=cifar10_diffenc:VARIANT --workdir=DIR
           VARIANT: diffenc_32_4 (default), vdmv_32, diffenc_8_2, diffenc_8_nt, vdmv_8; each also
           with _smoke, or just smoke
Data:      prepared once with tensorflow-datasets (docs/howto/data.md)
Hardware:  8 GPUs in the paper's example; 8M steps (32 blocks) and 2M steps (8 blocks), second-hand
Expected:  2.620 +- 0.006 for diffenc_32_4, 2.641 +- 0.003 for vdmv_32, 2.783 for both diffenc_8_2
           and vdmv_8 (the paper's, three and five seeds, second-hand)
"""

from ml_collections import ConfigDict

from diffusion_jax import config

VARIANTS = {
    "diffenc_32_4": {"depth": 32, "encoder": "diffenc(kind='unet_mult_res', blocks=4, width=64)"},
    "vdmv_32": {"depth": 32, "encoder": "identity()"},
    "diffenc_8_2": {"depth": 8, "encoder": "diffenc(kind='unet', blocks=2, width=64)"},
    "diffenc_8_nt": {"depth": 8, "encoder": "diffenc_nt()"},
    "vdmv_8": {"depth": 8, "encoder": "identity()"},
}


def get_config(variant: str = "diffenc_32_4") -> ConfigDict:
    c = config.base()
    name, smoke = config.split_variant(variant, VARIANTS, "diffenc_32_4")
    depth, c.encoder = VARIANTS[name]["depth"], VARIANTS[name]["encoder"]
    c.data = "cifar10()"
    c.network = f"vdm_unet(width=128, depth={depth}, dropout=0.1)"
    c.prediction = "v"
    c.schedule = "linear()"
    c.batch = 128
    c.steps = 8_000_000 if depth == 32 else 2_000_000
    c.decay_mask = "all_but_bias"
    c.ema, c.ema_warmup = (0.9999,), False
    c.sample.steps = 1000
    if smoke:
        c.encoder = c.encoder.replace("width=64", "width=16")
    return config.variant(c, smoke, smoke="vdm_unet(width=32, depth=1)")

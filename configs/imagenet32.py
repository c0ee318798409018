"""VDM on ImageNet 32x32 (the anti-aliased release): 256 channels, 32 blocks, 122M parameters.

Command:   djax train --config=imagenet32 --workdir=runs/imagenet32
Data:      prepared once with tensorflow-datasets, or the published files with
           --config.data="imagenet32(path='DIR')"; the OLD release is imagenet32_old()
Hardware:  a TPU slice; we have not trained it. Network and optimiser are the paper's, the batch
           size is ours.
Expected:  3.72 (the paper's) is on the OLD release and not comparable; DiffEnc reports 3.46 for
           this network on this release (second-hand)
"""

from ml_collections import ConfigDict

from diffusion_jax import config


def get_config(variant: str = "") -> ConfigDict:
    c = config.base()
    c.data = "imagenet32()"
    c.network = "vdm_unet(width=256, depth=32, dropout=0.1, remat=True)"
    c.batch = 256
    c.steps = 10_000_000
    c.decay_mask = "all_but_bias"
    c.ema, c.ema_warmup = (0.9999,), False
    c.eval.batch = 64
    c.sample.steps = 1000
    return config.variant(c, variant, smoke="vdm_unet(width=32, depth=1)")

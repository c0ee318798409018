"""VDM on ImageNet 64x64 (the anti-aliased release): 256 channels, 64 blocks, 238M parameters.

Command:   djax train --config=imagenet64 --workdir=runs/imagenet64
Data:      prepared once with tensorflow-datasets, or the published files with
           --config.data="imagenet64(path='DIR')"; the OLD release is imagenet64_old()
Hardware:  a TPU slice; we have not trained it. Network and optimiser are the paper's, the batch
           size is ours.
Expected:  3.40 (the paper's) is on the OLD release and not comparable
"""

from ml_collections import ConfigDict

from diffusion_jax import config


def get_config(variant: str = "") -> ConfigDict:
    c = config.base()
    c.data = "imagenet64()"
    c.network = "vdm_unet(width=256, depth=64, dropout=0.1, remat=True)"
    c.batch = 256
    c.steps = 10_000_000
    c.decay_mask = "all_but_bias"
    c.ema, c.ema_warmup = (0.9999,), False
    c.eval.batch = 64
    c.sample.steps = 1000
    return config.variant(c, variant, smoke="vdm_unet(width=32, depth=1)")

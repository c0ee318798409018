"""VDM on CIFAR-10 with augmentation: 256 channels, attention everywhere.

Flips, quarter turns and permuted colours. The network is conditioned on the augmentation, and test
results are for images without augmentation.

Command:   djax train --config=cifar10_aug --workdir=runs/cifar10_aug
Data:      prepared once with tensorflow-datasets (docs/howto/data.md)
Hardware:  the paper used a TPUv3-64 slice, batch 1024; with fewer chips set accumulate
Expected:  2.49 bits/dim (the paper's; the released checkpoint gives 2.522 with their evaluator)
"""

from ml_collections import ConfigDict

from diffusion_jax import config


def get_config(variant: str = "") -> ConfigDict:
    c = config.base()
    c.data = "cifar10()"
    c.augment = "chain(dihedral(), permute())"
    # 139M parameters; without remat the activations of 1,024 images do not fit on a chip.
    c.network = "vdm_unet(width=256, depth=32, attention=True, dropout=0.05, remat=True)"
    c.schedule = "learned_mlp()"
    c.batch = 1024
    c.steps = 10_000_000
    c.decay_mask = "all_but_bias"
    c.lr, c.warmup = 2e-4, 100
    c.ema, c.ema_warmup = (0.9999,), False
    c.sample.steps = 1000
    return config.variant(c, variant, smoke="vdm_unet(width=32, depth=1, attention=True)")

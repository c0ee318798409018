"""A classifier of noisy CIFAR-10 images, for guidance and as features for quality metrics.

Command:   djax train --config=cifar10_classifier --workdir=runs/clf
Data:      prepared once with tensorflow-datasets (docs/howto/data.md)
Use:       --config.guidance='classifier(scale=2.0, checkpoint="runs/clf", inner=cfg(w=0.0))'
Result:    with `guide(classifier(width=16, mults=(1, 4, 8), blocks=1), clean=True)` and 2,000 steps
           of 64 images accuracy 0.632 on test images (ours, 1,449 core-seconds); these settings not
           yet trained to the end
"""

from ml_collections import ConfigDict

from diffusion_jax import config


def get_config(variant: str = "") -> ConfigDict:
    c = config.guide("cifar10()", "guide(classifier(width=96, mults=(1, 2, 2)))", 30_000)
    c.batch = 256
    return config.variant(c, variant, smoke="guide(classifier(width=16, blocks=1))")

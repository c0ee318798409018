"""A classifier of noisy digits, for guidance and as features for quality metrics.

Command:   djax train --config=digits_classifier --workdir=runs/clf
Use:       --config.guidance='classifier(scale=2.0, checkpoint="runs/clf", inner=cfg(w=0.0))'
Result:    accuracy 0.993 on clean test digits, 0.700 over all noise levels; 41 core-seconds
           (ours, with other jobs running)
"""

from ml_collections import ConfigDict

from diffusion_jax import config


def get_config(variant: str = "") -> ConfigDict:
    c = config.guide("digits()", "guide(classifier(width=32))", 600)
    return config.variant(c, variant, smoke="guide(classifier(width=16, blocks=1))")

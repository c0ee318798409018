"""A classifier of noisy digits, for guidance and for the features of quality figures.

Command:   python -m diffusion_jax.main --config=configs/digits_classifier.py --workdir=runs/clf
Use:       --config.guidance='classifier(scale=2.0, checkpoint="runs/clf", inner=cfg(w=0.0))'
"""

from ml_collections import ConfigDict

from diffusion_jax import config


def get_config(variant: str = "") -> ConfigDict:
    c = config.base()
    c.data = "digits()"
    c.gamma_min, c.gamma_max = -7.9, 5.0
    c.scorer = "classifier(width=32)"
    c.steps = 600
    c.batch = 64
    c.lr = 1e-3
    c.lr_decay = "cosine"
    c.optimizer = "adamw(weight_decay=0.05)"
    c.ema = (0.99,)
    c.log_every = 50
    c.eval_every = 200
    c.save_every = 200
    c.eval.batch = 300
    return config.variant(c, variant, smoke=c.network)

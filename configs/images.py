"""Your folder of pictures: any size, classes from subfolders (docs/howto/data.md).

Command:   djax train --config=images:PATH --workdir=runs/images
           PATH,128 or PATH,48x64 (height x width) for another size than 64; PATH,smoke for a
           minute on a CPU
Data:      png, jpg and webp files below PATH
Hardware:  one GPU; batch 64 at 64x64
Expected:  depends on your pictures
"""

from pathlib import Path

from ml_collections import ConfigDict

from diffusion_jax import config, registry
from diffusion_jax.errors import ConfigError, DataError
from diffusion_jax.runtime.home import expanded

_DEFAULT = "pictures"
_SIZE = (64, 64)
_ALLOWED = "allowed: images:PATH, images:PATH,SIZE, images:PATH,HEIGHTxWIDTH, also with ,smoke"


def get_config(variant: str = "") -> ConfigDict:
    path, size, smoke = _read(variant)
    c = config.base()
    c.data = f"folder(path={path!r}, size={size})"
    c.conditional = _has_classes(c.data)
    c.guidance = "cfg(w=1.5)" if c.conditional else "none()"
    c.augment = "flip()"
    halvings = max(k for k in range(4) if all(n % 2**k == 0 and n >> k >= 8 for n in size) or not k)
    c.network = f"unet(width=128, mults={(1, 2, 2, 2)[: halvings + 1]}, attention=(16,))"
    c.prediction = "v"
    c.dtype = "bfloat16"
    c.batch = 64
    c.steps = 200_000
    c.lr, c.warmup, c.clip = 1e-4, 1000, 1.0
    c.ema = (0.9999, 0.999)
    c.eval_every = c.save_every = c.sample_every = 5_000
    c.eval.timesteps = ()
    c.sampler = "dpmpp_2m()"
    c.sample.num, c.sample.batch, c.sample.steps = 64, 64, 50
    return config.variant(c, smoke, smoke="unet(width=32, mults=(1,), blocks=1, attention=())")


def _read(text: str) -> tuple[str, tuple[int, int], str]:
    """Parses the optional path, size and `smoke` after the colon."""
    if text in ("", "smoke"):
        if not Path(_DEFAULT).is_dir():
            raise ConfigError(f"name the folder of your pictures after a colon; {_ALLOWED}")
        return _DEFAULT, _SIZE, text
    size, smoke, parts = _SIZE, "", text.split(",")
    # From the end, because a path may contain commas.
    while len(parts) > 1 and not expanded(",".join(parts)).is_dir():
        part = parts.pop().strip()
        sides = part.split("x")
        if part == "smoke":
            smoke = "smoke"
        elif len(sides) <= 2 and all(s.isdigit() and int(s) for s in sides):
            size = (int(sides[0]), int(sides[-1]))
        else:
            raise ConfigError(f"unknown {part!r} after the colon of --config; {_ALLOWED}")
    path = ",".join(parts)
    if not expanded(path).is_dir():
        raise ConfigError(f"there is no folder {path!r}; {_ALLOWED}")
    return path, size, smoke


def _has_classes(data: str) -> bool:
    """Whether the folder has classes; errors are reported when training opens it."""
    try:
        return registry.build("data", data).num_classes > 1
    except DataError:
        return False

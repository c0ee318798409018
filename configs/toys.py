"""Videos of a moving glyph whose entropy is known, 14.32 bits each. Nothing to download.

Command:   djax train --config=toys --workdir=runs/toys
           --config=configs/toys.py:factorised is the default, :torus has filters as large as a
           frame, :stacked uses the frames as channels, :still has no attention between frames;
           :templates is a mixture of training videos at all shifts, made for these data, and needs
           the fewest bits; each also with _smoke
           djax train --config=toys:first --workdir=runs/first
           djax train --config=toys:later --workdir=runs/later
           djax eval --config.stages=runs/first,runs/later --workdir=runs/stages
Hardware:  two CPU cores, 10 to 20 minutes
Expected:  108.7 +- 2.0 bits per video, :torus 27.4 +- 0.7, :still 147.4 +- 2.5, :stacked
           218.3 +- 3.5, :templates 14.9 +- 0.1; the entropy is 14.32 (ours, docs/howto/video.md)
"""

from ml_collections import ConfigDict

from diffusion_jax import config

_UNET = (
    "width=32, mults=(1, 2), blocks=1, attention=(4,), heads=4, dropout=0.0, patch=2, fourier=False"
)
_TORUS = "stacked_frames(of=fno(width=96, depth=2))"
_TEMPLATES = "stacked_frames(of=templates(count=512))"
VARIANTS = {
    "factorised": f"video_unet({_UNET})",
    "still": f"video_unet({_UNET}, time=False)",
    "stacked": f"stacked_frames(of=unet({_UNET}))",
    "torus": _TORUS,
    "templates": _TEMPLATES,
    "first": _TEMPLATES,
    "later": _TEMPLATES,
}
VIEWS = {"first": "first(frames=2)", "later": "later(given=2)"}


def get_config(variant: str = "") -> ConfigDict:
    name, smoke = config.split_variant(variant, VARIANTS, "factorised")
    c = config.base()
    c.data = "toys()"
    c.view = VIEWS.get(name, "whole()")
    c.network = VARIANTS[name]
    c.prediction = "levels"
    # At the usual ends, -3.6 and 5, reconstruction and prior would cost 13 bits.
    c.gamma_min, c.gamma_max = -6.0, 10.0
    c.batch = 32
    c.steps = 1000
    c.lr = 2e-3
    c.lr_decay = "cosine"
    c.clip = 1.0
    c.ema = (0.995,)
    c.proposal = "vloss()"
    c.log_every = 50
    c.eval_every = c.save_every = 500
    c.sample_every = 0
    c.eval.limit = 200
    c.eval.batch = 50
    c.eval.timesteps = ()
    c.sampler = "dpmpp_2m()"
    c.sample.num = c.sample.batch = 16
    c.sample.steps = 50
    if VARIANTS[name] == _TORUS:
        c.batch, c.steps, c.lr, c.lr_decay = 64, 2000, 1.5e-3, "cooldown(0.4)"
    if VARIANTS[name] == _TEMPLATES:
        c.batch, c.steps, c.lr, c.lr_decay = 64, 200, 5e-3, "linear"
        c.eval_every = c.save_every = 100
        c.ema = (0.98,)
    small = VARIANTS[name].replace("width=32", "width=8").replace("width=96", "width=8")
    small = small.replace("count=512", "count=64")
    return config.variant(c, smoke, smoke=small)

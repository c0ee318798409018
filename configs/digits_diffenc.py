"""The default digits model with a learned encoder or schedule, for paired comparison.

Command:   djax train --config=digits_diffenc:VARIANT --workdir=DIR
           VARIANT: diffenc (default), diffenc_nt, vdm (linear schedule), vdm_mlp (learned shape,
           trained on the variance of the loss), mulan; each also with _smoke, or just smoke
Hardware:  two CPU cores, about three minutes each (DiffEnc: up to 12)
Expected:  the first table of docs/howto/learned.md (ours)
"""

from ml_collections import ConfigDict

from diffusion_jax import config

VARIANTS = {
    "diffenc": {"encoder": "diffenc(width=32)"},
    "diffenc_nt": {"encoder": "diffenc_nt()"},
    "vdm": {},
    "vdm_mlp": {"schedule": "learned_mlp()"},
    "mulan": {"schedule": "mulan(latent=8, features=128)"},
}


def get_config(variant: str = "diffenc") -> ConfigDict:
    c = config.base()
    name, smoke = config.split_variant(variant, VARIANTS, "diffenc")
    c.data = "digits()"
    c.conditional = True
    c.network = "vdm_unet(width=32, depth=2, embed=64)"
    c.prediction = "v"  # DiffEnc is a v-prediction model: the same for all variants
    c.batch = 64
    c.steps = 1600
    c.lr = 2e-3
    c.lr_decay = "cosine"
    c.clip = 1.0
    c.ema = (0.995,)
    c.log_every, c.eval_every, c.save_every, c.sample_every = 50, 400, 400, 0
    c.eval.draws = 32
    c.eval.timesteps = ()
    c.guidance = "cfg(w=2.0)"
    c.sample.num, c.sample.batch, c.sample.steps = 100, 100, 50
    c.update(VARIANTS[name])
    if smoke and name == "diffenc":
        c.encoder = "diffenc(width=16, blocks=1)"
    return config.variant(c, smoke, smoke="vdm_unet(width=32, depth=1, embed=32)")

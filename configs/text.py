"""Text by Gaussian diffusion of learned letter embeddings, with a learned schedule (Plaid).

Command:   djax train --config=text --workdir=runs/letters
           the default is a Markov source whose entropy is known; for your own text add
           --config.data='text(path="FILE.txt", length=64)'
Hardware:  two CPU cores, a few minutes
Expected:  34.76 +- 0.26 bits per text of 16 letters, with an entropy of 33.77 (ours)
"""

from ml_collections import ConfigDict

from diffusion_jax import config


def get_config(variant: str = "") -> ConfigDict:
    c = config.base()
    c.data = "letters()"
    c.autoencoder = "embedding(dims=16)"
    c.network = "sequence(width=64, depth=3, heads=4, self_conditioning=True)"
    c.prediction = "levels"
    c.schedule = "learned_mlp()"
    c.gamma_max = 8.0
    c.batch = 128
    c.steps = 2000
    c.lr = 2e-3
    c.lr_decay = "cosine"
    c.clip = 1.0
    c.ema = (0.995,)
    c.log_every = 100
    c.eval_every = c.save_every = 1000
    c.sample_every = 0
    c.eval.timesteps = ()
    c.sampler = "ancestral()"
    c.sample.num = c.sample.batch = 16
    c.sample.steps = 100
    return config.variant(
        c, variant, smoke="sequence(width=16, depth=1, heads=2, self_conditioning=True)"
    )

"""`python -m diffusion_jax`: the command line."""

from diffusion_jax.main import run

run()

"""`python -m diffusion_jax`: the command line."""

from diffusion_jax.main import run

if __name__ == "__main__":
    run()

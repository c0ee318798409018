"""Likelihood-based diffusion with guidance, in JAX.

Import the submodule you need (`diffusion_jax.sampling`, `diffusion_jax.registry`, ...): this file
imports nothing, so that `import diffusion_jax` costs nothing.
"""

__version__ = "0.1.0"

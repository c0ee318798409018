"""A network as users have them: a module of their own, by its dotted name."""

from diffusion_jax.networks.backbones.mlp import make

__all__ = ["make"]

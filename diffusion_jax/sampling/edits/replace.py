"""Inpainting by replacement (Song et al. 2021, appendix I.2): cheap, and biased.

After every step the known pixels are replaced by the noised source. The unknown ones learn of them
too late: even with infinitely many steps the law is not the posterior. `repaint` is the cure.
"""

from diffusion_jax.sampling.edits._fill import Replace


def make() -> Replace:
    """Inpainting by replacement."""
    return Replace()

"""Inpainting by replacement (Song et al. 2021, appendix I.2): cheap, and biased.

After every step the known pixels are replaced by the noised source. The unknown ones see them one
step late, so even with infinitely many steps the result is not a sample from the posterior;
`repaint` corrects that.
"""

from diffusion_jax.sampling.edits._fill import Replace


def make() -> Replace:
    """Inpainting by replacement."""
    return Replace()

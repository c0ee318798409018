"""The binned distributions of a chain of T latents, from which both orders of coding are built.

The model is that of the bound in `objectives/discrete.py`: `p(z_s | z_t)` has the mean and the
noise of `samplers/ancestral_diffenc.py`. All numbers are float64.
"""

import math
from dataclasses import dataclass, field, replace

import numpy as np

from diffusion_jax.compression.bins import Binned, Grid
from diffusion_jax.compression.model_functions import Latents, Network
from diffusion_jax.compression.rans import PRECISION
from diffusion_jax.errors import ConfigError
from diffusion_jax.sampling.samplers.ancestral_diffenc import AncestralDiffEnc
from diffusion_jax.sampling.samplers.base import alpha_of, noise_fraction, sigma_of

_PER_STD = 7  # bins per standard deviation, for the narrowest distribution of a latent
_MOST = 1 << (PRECISION - 2)  # bins on either side: one count for each takes half of all counts
_PIXELS, _LATENTS = 1.5, 64.0  # largest magnitude of data; latents have about unit variance
_REACH = 10.0  # the grid extends this many sigma beyond the data; 32-bit draws reach 6.3 per step


@dataclass(frozen=True)
class LatentChain:
    """The latents `z_0 .. z_T` of a model, each on its own grid.

    Attributes:
        network: the model.
        timesteps: number of steps, T.
        gammas: gammas of the latents, `[T + 1]`, from data to noise.
        alpha: signal scales.
        sigma: noise scales.
        forward: standard deviation of `q(z_i | z_{i-1})`; of `q(z_0 | x)` for i = 0.
        backward: standard deviation of `p(z_i | z_{i+1})`; of the prior for i = T.
        steps: coefficients of the mean of `p(z_i | z_{i+1})`.
        grids: bins of each latent.
    """

    network: Network
    timesteps: int
    gammas: np.ndarray
    alpha: np.ndarray
    sigma: np.ndarray
    forward: np.ndarray
    backward: np.ndarray
    steps: dict[str, np.ndarray] = field(repr=False)
    grids: tuple[Grid, ...] = field(repr=False)

    def given(self, low: np.ndarray | None) -> "LatentChain":
        """The chain conditioned on low-resolution images or latents, see `Network.given`."""
        return replace(self, network=self.network.given(low))

    def latent(self, k: np.ndarray, i: int) -> np.ndarray:
        """The values of latent i at bins `k`."""
        return k * self.grids[i].width

    def predict(self, k: np.ndarray, i: int, labels: np.ndarray | None) -> Binned:
        """The model's `p(z_{i-1} | z_i)`: one network call.

        Args:
            k: bins of `z_i`, `[n, values]`.
            i: index of the latent, 1 .. T.
            labels: int32 `[n]`, or None.

        Returns:
            The distribution of `z_{i-1}`, leaky.
        """
        z = self.latent(k, i)
        x, eps = self.network.predict(z, self.gammas[i], labels)
        row = {name: values[i - 1] for name, values in self.steps.items()}
        mean = row["z"] * z - row["eps"] * eps
        if self.network.model.traits.mean_coefficient:
            mean = mean + row["x"] * x
        return Binned(mean, self.backward[i - 1], self.grids[i - 1], leak=True)

    def prior(self, n: int) -> Binned:
        """The model's `p(z_T) = N(0, I)`."""
        return Binned(np.zeros((n, self.network.values)), 1.0, self.grids[-1], leak=True)

    def first(self, x: Latents, labels: np.ndarray | None) -> Binned:
        """`q(z_0 | x)`."""
        return self._marginal(x, labels, 0)

    def last(self, x: Latents, labels: np.ndarray | None) -> Binned:
        """`q(z_T | x)`."""
        return self._marginal(x, labels, self.timesteps)

    def onwards(self, k: np.ndarray, i: int) -> Binned:
        """`q(z_i | z_{i-1})`, if it does not depend on the data; `k` are bins of `z_{i-1}`."""
        ratio = self.alpha[i] / self.alpha[i - 1]
        return Binned(ratio * self.latent(k, i - 1), self.forward[i], self.grids[i], leak=False)

    def back(self, k: np.ndarray, i: int, x: Latents, labels: np.ndarray | None) -> Binned:
        """`q(z_{i-1} | z_i, x)`, with the diffusion encoder.

        Its mean is `alpha_s x_s + r (z_t - alpha_t x_t)`, `r = alpha_t sigma_s^2 / (alpha_s
        sigma_t^2)`. For noisy latents `tau^2 = alpha^2 std^2 + sigma^2` replaces `sigma^2`.

        Args:
            k: bins of `z_i`.
            i: index of the latent, 1 .. T.
            x: data, from `Network.data`.
            labels: int32 `[n]`, or None.

        Returns:
            The distribution of `z_{i-1}`.
        """
        s, t = i - 1, i
        ratio = self._std(x, s) / self._std(x, t)
        r = self.alpha[t] / self.alpha[s] * ratio**2
        noise = self.latent(k, t) - self.alpha[t] * self._encoded(x.mean, labels, t)
        mean = self.alpha[s] * self._encoded(x.mean, labels, s) + r * noise
        std = self.backward[s] if x.std is None else self.forward[t] * ratio
        return Binned(mean, std, self.grids[s], leak=False)

    def _marginal(self, x: Latents, labels: np.ndarray | None, i: int) -> Binned:
        mean = self.alpha[i] * self._encoded(x.mean, labels, i)
        return Binned(mean, self._std(x, i), self.grids[i], leak=False)

    def _std(self, x: Latents, i: int) -> np.ndarray:
        """Standard deviation of `q(z_i | x)`: a scalar, or `[n, values]` for noisy latents."""
        if x.std is None:
            return self.sigma[i]
        return np.sqrt(np.square(self.alpha[i] * x.std) + self.sigma[i] ** 2)

    def _encoded(self, x: np.ndarray, labels: np.ndarray | None, i: int) -> np.ndarray:
        return x + self.network.shift(x, self.gammas[i], labels)


def make_latent_chain(
    network: Network, timesteps: int, markov: bool, gammas: np.ndarray | None = None
) -> LatentChain:
    """The chain of a model with `timesteps` steps.

    Args:
        timesteps: number of steps, T.
        markov: latents are drawn forwards, from `q(z_i | z_{i-1})` (Bit-Swap), and the bins are
            narrow enough for that; otherwise backwards, from `q(z_{i-1} | z_i, x)`.
        gammas: gammas of the latents, `[T + 1]`, from data to noise; None for equal times.

    Raises:
        ConfigError: a latent needs more bins than can be coded.
    """
    gammas = network.gammas(timesteps) if gammas is None else np.asarray(gammas, np.float64)
    alpha, sigma = alpha_of(gammas), sigma_of(gammas)
    rows = AncestralDiffEnc(network.model.traits.mean_coefficient).rows(gammas[::-1])
    steps = {name: values[::-1] for name, values in rows.items()}
    fraction = np.sqrt(noise_fraction(gammas[::-1])[::-1])
    forward = np.concatenate([sigma[:1], sigma[1:] * fraction])
    backward = np.append(steps.pop("noise"), 1.0)
    if markov:
        narrowest = np.minimum(forward, backward)
    else:
        narrowest = np.append(backward[:-1], min(sigma[-1], 1.0))
    widths = narrowest / _PER_STD
    largest = _PIXELS if network.model.traits.pixels else _LATENTS
    halves = [math.ceil(h) for h in (largest * alpha + _REACH * sigma) / widths]
    finest = int(np.argmax(halves))
    if halves[finest] > _MOST:
        raise ConfigError(
            f"compress: the latent at gamma={gammas[finest]:.1f} needs {2 * halves[finest]:.1e} "
            f"bins, but at most {2 * _MOST:.1e} can be coded; use fewer steps "
            f"(compress.timesteps={timesteps}) or a model with a larger gamma_min"
        )
    grids = tuple(Grid(w, h) for w, h in zip(widths, halves, strict=True))
    return LatentChain(network, timesteps, gammas, alpha, sigma, forward, backward, steps, grids)

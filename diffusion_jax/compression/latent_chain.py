"""The distributions of a chain of T latents, binned: what both orders of coding are made of.

The model is the one whose bound `objectives/discrete.py` is: `p(z_s | z_t)` has the mean and the
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

_PER_STD = 7  # bins in the narrowest standard deviation a latent is coded with
_MOST = 1 << (PRECISION - 2)  # bins on either side: a count for each takes half of all counts
_PIXELS, _LATENTS = 1.5, 64.0  # how far out data may be; latents have about unit variance
_REACH = 10.0  # the grid goes this many sigma beyond the data; draws have 32 bits: 6.3 sigma a step


@dataclass(frozen=True)
class LatentChain:
    """The latents `z_0 .. z_T` of a model, each on a grid of its own.

    Attributes:
        network: the model.
        timesteps: T.
        gammas: `[T + 1]`, from data to noise.
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
        """The chain of images whose smaller images are known, see `Network.given`."""
        return replace(self, network=self.network.given(low))

    def latent(self, k: np.ndarray, i: int) -> np.ndarray:
        """The value of bins `k` of latent i."""
        return k * self.grids[i].width

    def predict(self, k: np.ndarray, i: int, labels: np.ndarray | None) -> Binned:
        """The model's `p(z_{i-1} | z_i)`: one network call.

        Args:
            k: bins of `z_i`, `[n, values]`.
            i: 1 .. T.
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
        """`q(z_i | z_{i-1})` of a chain that does not see the data; `k` are bins of `z_{i-1}`."""
        ratio = self.alpha[i] / self.alpha[i - 1]
        return Binned(ratio * self.latent(k, i - 1), self.forward[i], self.grids[i], leak=False)

    def back(self, k: np.ndarray, i: int, x: Latents, labels: np.ndarray | None) -> Binned:
        """`q(z_{i-1} | z_i, x)`, encoder included: `alpha_s x_s + r (z_t - alpha_t x_t)`.

        With noise of the data, `tau^2 = alpha^2 std^2 + sigma^2` takes the place of `sigma^2`.

        Args:
            k: bins of `z_i`.
            i: 1 .. T.
            x: data, from `Network.data`.
            labels: int32 `[n]`, or None.

        Returns:
            The distribution of `z_{i-1}`; `r = alpha_t sigma_s^2 / (alpha_s sigma_t^2)`.
        """
        s, t = i - 1, i
        part = self._spread(x, s) / self._spread(x, t)
        r = self.alpha[t] / self.alpha[s] * part**2
        noise = self.latent(k, t) - self.alpha[t] * self._encoded(x.mean, labels, t)
        mean = self.alpha[s] * self._encoded(x.mean, labels, s) + r * noise
        std = self.backward[s] if x.std is None else self.forward[t] * part
        return Binned(mean, std, self.grids[s], leak=False)

    def _marginal(self, x: Latents, labels: np.ndarray | None, i: int) -> Binned:
        mean = self.alpha[i] * self._encoded(x.mean, labels, i)
        return Binned(mean, self._spread(x, i), self.grids[i], leak=False)

    def _spread(self, x: Latents, i: int) -> np.ndarray:
        """The deviation of `q(z_i | x)`: a scalar, or `[n, values]` with noise of the data."""
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
        timesteps: T.
        markov: latents are drawn forwards, by `q(z_i | z_{i-1})` (Bit-Swap), and the bins are
            narrow enough for that; else backwards, by `q(z_{i-1} | z_i, x)`.
        gammas: of the latents, `[T + 1]`, from data to noise; None: at equal times.

    Raises:
        ConfigError: a latent has more bins than can be told apart.
    """
    gammas = network.gammas(timesteps) if gammas is None else np.asarray(gammas, np.float64)
    alpha, sigma = alpha_of(gammas), sigma_of(gammas)
    rows = AncestralDiffEnc(network.model.traits.mean_coefficient).rows(gammas[::-1])
    steps = {name: values[::-1] for name, values in rows.items()}
    moved = np.sqrt(noise_fraction(gammas[::-1])[::-1])
    forward = np.concatenate([sigma[:1], sigma[1:] * moved])
    backward = np.append(steps.pop("noise"), 1.0)
    if markov:
        narrowest = np.minimum(forward, backward)
    else:
        narrowest = np.append(backward[:-1], min(sigma[-1], 1.0))
    widths = narrowest / _PER_STD
    within = _PIXELS if network.model.traits.pixels else _LATENTS
    halves = [math.ceil(h) for h in (within * alpha + _REACH * sigma) / widths]
    finest = int(np.argmax(halves))
    if halves[finest] > _MOST:
        raise ConfigError(
            f"compress: the latent at gamma={gammas[finest]:.1f} needs {2 * halves[finest]:.1e} "
            f"bins, more than {2 * _MOST:.1e} cannot be coded; use fewer steps "
            f"(compress.timesteps={timesteps}) or a model with a larger gamma_min"
        )
    grids = tuple(Grid(w, h) for w, h in zip(widths, halves, strict=True))
    return LatentChain(network, timesteps, gammas, alpha, sigma, forward, backward, steps, grids)

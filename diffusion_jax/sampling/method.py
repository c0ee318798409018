"""How to sample: everything but the model and the noise, and whether it fits a model."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from diffusion_jax.errors import ConfigError
from diffusion_jax.model import Model
from diffusion_jax.process.schedules.base import latent_size
from diffusion_jax.sampling.encoded import for_sampler
from diffusion_jax.sampling.final_steps.base import Final
from diffusion_jax.sampling.final_steps.decode import Decode
from diffusion_jax.sampling.guidance.base import Context, Guidance
from diffusion_jax.sampling.loop import Correct
from diffusion_jax.sampling.samplers.base import Sampler
from diffusion_jax.types import Array, Cond, Denoiser, Params, Pred


class Helpers:
    """Second models that guidance names by checkpoint: each is read once.

    Their weights are arguments of the compiled sampler, not constants in it.

    Args:
        load: `load(kind, checkpoint) -> (bind, params)`, where `bind(params)` is the function
            `guidance.base.Context.open` promises; None where no checkpoint can be read.
    """

    def __init__(self, load: Callable[[str, str], tuple[Callable, Params]] | None = None):
        self._load = load
        self._found: dict[tuple[str, str], tuple[Callable, Params]] = {}

    @property
    def params(self) -> dict[tuple[str, str], Params]:
        """The weights of everything opened so far."""
        return {which: params for which, (_, params) in self._found.items()}

    def context(self, model: Model, params: dict | None = None) -> Context:
        """What guidance may use.

        Args:
            model: the model it guides.
            params: weights of the helpers; None for those that were read, which are read now if
                need be.
        """

        def opened(kind: str, checkpoint: str) -> Callable:
            which = (kind, checkpoint)
            if which not in self._found:
                self._found[which] = self._load(kind, checkpoint)
            bind, own = self._found[which]
            return bind(own if params is None else params[which])

        null = model.null if model.num_classes else None
        return Context(null=null, open=opened if self._load else None)


@dataclass(frozen=True)
class Method:
    """How to sample: everything but the model and the noise.

    Attributes:
        guidance: how to guide the denoiser.
        sampler: the solver.
        gammas: the plan, `[n + 1]` float64; it may climb.
        final: what becomes of the last latent.
        correct: moves within a noise level, or None.
        helpers: second models that guidance asks for.
    """

    guidance: Guidance
    sampler: Sampler
    gammas: np.ndarray
    final: Final = field(default_factory=Decode)
    correct: Correct | None = None
    helpers: Helpers = field(default_factory=Helpers)

    def calls(self, model: Model) -> int:
        """Calls of the (guided) denoiser per sample; correctors apart.

        Args:
            model: the model: with an encoder, moves up in gamma ask it too.
        """
        moves = np.diff(self.gammas)
        asks_up = model.encoder.mean_coefficient != 0.0
        per_step = self.sampler.nfe_per_step
        return int(np.sum(moves < 0) * per_step + np.sum(moves > 0) * asks_up) + self.final.nfe


def check_guidance(model: Model, guidance: Guidance, helpers: Helpers | None = None) -> Denoiser:
    """Refuses guidance that does not fit the model, before anything is compiled.

    Args:
        guidance: the guidance; it raises `ConfigError` if it does not fit.
        helpers: second models it may ask for; they are read here.

    Returns:
        A guided denoiser that must not be called: for what can be told from it.
    """

    def never_called(z: Array, gamma: Array, cond: Cond) -> Pred:
        raise AssertionError("a guidance must not call its denoiser while it is built")

    return guidance(never_called, (helpers or Helpers()).context(model))


def check_sampler(model: Model, sampler: Sampler) -> None:
    """Refuses a sampler that does not fit the model's encoder, before anything is compiled.

    Args:
        sampler: the sampler; `sampling.for_sampler` raises `ConfigError` if it does not fit.
    """
    for_sampler(None, model.encoder.mean_coefficient, sampler)


def check_method(model: Model, method: Method) -> None:
    """Refuses a way of sampling that does not fit the model, before anything is compiled.

    Args:
        method: how to sample; guidance and sampler have their own checks.

    Raises:
        ConfigError: the plan moves up for a schedule with one gamma per pixel.
    """
    check_guidance(model, method.guidance, method.helpers)
    check_sampler(model, method.sampler)
    if latent_size(model.schedule) and np.any(np.diff(method.gammas) > 0):
        raise ConfigError("plans that move up in gamma need a schedule of one gamma per image")

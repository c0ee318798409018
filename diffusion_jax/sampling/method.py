"""`Method`: how to sample (everything but the model and the noise), and checks against a model."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from diffusion_jax.errors import ConfigError
from diffusion_jax.model import Model, require
from diffusion_jax.sampling import checks
from diffusion_jax.sampling.encoder_corrections import correction
from diffusion_jax.sampling.final_steps.base import Final
from diffusion_jax.sampling.final_steps.decode import Decode
from diffusion_jax.sampling.guidance import base as guidance_lib
from diffusion_jax.sampling.guidance.base import Context, Guidance
from diffusion_jax.sampling.loop import Correct
from diffusion_jax.sampling.samplers.base import Sampler
from diffusion_jax.types import Params


class Helpers:
    """Second models that guidance names by checkpoint; each is loaded once.

    Their weights are arguments of the compiled sampler, not constants in it.

    Args:
        load: `load(kind, checkpoint) -> (bind, params)`, where `bind(params)` is the function that
            `guidance.base.Context.open` returns; None where no checkpoint can be read.
        encode: see `guidance.base.Context.encode`.
    """

    def __init__(
        self,
        load: Callable[[str, str], tuple[Callable, Params]] | None = None,
        encode: Callable[[str], dict[str, np.ndarray]] | None = None,
    ):
        self._load, self._encode = load, encode
        self._opened: dict[tuple[str, str], tuple[Callable, Params]] = {}

    @property
    def params(self) -> dict[tuple[str, str], Params]:
        """The weights of everything opened so far."""
        return {which: params for which, (_, params) in self._opened.items()}

    def context(self, model: Model, params: dict | None = None) -> Context:
        """The context for guiding `model`.

        Args:
            params: the helpers' weights, structured as `self.params`; None for those on disk.
        """
        load = self._load

        def opened(kind: str, checkpoint: str) -> Callable:
            assert load is not None
            which = (kind, checkpoint)
            if which not in self._opened:
                self._opened[which] = load(kind, checkpoint)
            bind, on_disk = self._opened[which]
            return bind(on_disk if params is None else params[which])

        null = model.null if model.traits.null_class else None
        return Context(
            null=null, open=opened if load else None, cond_scalars=model.cond_scalars,
            encode=self._encode, reader=model.text,
            unconditional=not (model.num_classes or model.text or model.embedding),
            classes=model.num_classes,
        )  # fmt: skip


@dataclass(frozen=True)
class Method:
    """How to sample: everything but the model and the noise.

    Attributes:
        guidance: how to guide the denoiser.
        sampler: the solver.
        gammas: the plan, `[n + 1]` float64; it may move up.
        final: turns the last latent into data.
        correct: corrector, which moves within a noise level; or None.
        helpers: second models that the guidance uses.
    """

    guidance: Guidance
    sampler: Sampler
    gammas: np.ndarray
    final: Final = field(default_factory=Decode)
    correct: Correct | None = None
    helpers: Helpers = field(default_factory=Helpers)

    def calls(self, model: Model) -> int:
        """Calls of the (guided) denoiser per sample, not counting correctors."""
        moves = np.diff(self.gammas)
        # With an encoder, an upward move needs a prediction too.
        per_move_up = int(model.traits.mean_coefficient != 0.0)
        per_step = self.sampler.nfe_per_step
        return int(np.sum(moves < 0) * per_step + np.sum(moves > 0) * per_move_up) + self.final.nfe


def check_guidance(model: Model, guidance: Guidance, helpers: Helpers | None = None) -> None:
    """Raises ConfigError if the model lacks what the guidance needs; opens its checkpoints."""
    name = guidance_lib.of_pixels(guidance)
    if name:
        require(
            model, f"guidance {name}()", "latents have no range: leave it out, or use rescale()",
            pixels=True,
        )  # fmt: skip
    guidance_lib.check(guidance, (helpers or Helpers()).context(model))


def check_sampler(model: Model, sampler: Sampler) -> None:
    """Raises ConfigError if the sampler does not fit the model's encoder or its conditions."""
    if not {*getattr(sampler, "cond_scalars", ())} <= {*model.cond_scalars}:
        name = f"{type(sampler).__name__.lower()}()"
        raise ConfigError(
            f"sampler {name} is for a flow map, whose network receives the end of each step; this "
            "model is not a flow map: use ddim(), or train one with "
            "--config.task=\"distill(teacher='RUN', method=flow_map())\""
        )
    if getattr(sampler, "to_end", False) and model.traits.likelihood:
        name = f"{type(sampler).__name__.lower()}()"
        raise ConfigError(
            f"sampler {name} is for a consistency model, which predicts the end of the trajectory; "
            "this model predicts the mean of the data: use ddim(), or train one with "
            "--config.task=\"distill(teacher='RUN', method=ect())\""
        )
    correction(model.traits.mean_coefficient, sampler)


def check_method(model: Model, method: Method) -> None:
    """Raises ConfigError if this way of sampling does not fit the model; nothing is compiled."""
    checks.check_sampler(method.sampler)
    checks.check_falls(method.gammas)
    if not np.isfinite(method.gammas).all():
        raise ConfigError(
            f"the plan must be finite and end at the model's gamma_0; this one is {method.gammas}"
        )
    check_guidance(model, method.guidance, method.helpers)
    check_sampler(model, method.sampler)
    if np.any(np.diff(method.gammas) > 0):
        require(
            model, "a plan with a move up in gamma", "use plan='once()'",
            per_pixel_gamma=False, latent=0,
        )  # fmt: skip

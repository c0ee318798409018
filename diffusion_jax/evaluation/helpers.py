"""Second models that guidance names by checkpoint, and what it is told of the first."""

from collections.abc import Callable

from diffusion_jax.model import Model
from diffusion_jax.sampling.guidance.base import Context
from diffusion_jax.types import Params


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

        Returns:
            The context.
        """

        def opened(kind: str, checkpoint: str) -> Callable:
            which = (kind, checkpoint)
            if which not in self._found:
                self._found[which] = self._load(kind, checkpoint)
            bind, own = self._found[which]
            return bind(own if params is None else params[which])

        null = model.null if model.num_classes else None
        return Context(null=null, open=opened if self._load else None)

"""What the training loop asks of whatever it trains."""

from typing import Protocol, runtime_checkable

from diffusion_jax.training.meter import Metrics
from diffusion_jax.training.state import State
from diffusion_jax.types import Array


@runtime_checkable
class Task(Protocol):
    """One step, and what it reports.

    Attributes:
        metrics: names of the scalars `update` returns, `loss` and `grad_norm` among them.
        unit: the unit of the loss.
    """

    metrics: tuple[str, ...]
    unit: str

    def update(self, state: State, batch: dict[str, Array]) -> tuple[State, Metrics]:
        """The state after one global batch, and its metrics; a pure function."""

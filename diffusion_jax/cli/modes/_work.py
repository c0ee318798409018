"""What `--mode=train` can train: one value for a diffusion model, one for a scorer."""

from collections.abc import Callable
from dataclasses import dataclass, field

from diffusion_jax.data.base import Split
from diffusion_jax.training.metrics import Writer
from diffusion_jax.training.state import State
from diffusion_jax.training.tasks.base import Task
from diffusion_jax.types import Params


@dataclass(frozen=True)
class Work:
    """Everything training needs besides the loop, the checkpoints and the writers.

    Attributes:
        name: of the network, for the parameter table.
        task: what a step is; it has an `optimizer`.
        init: initial weights.
        load: the training data and the validation data (or None); called once nothing is wrong.
        validate: `(state, valid) -> metrics`.
        sample: `(writer, state, step)`, or None.
        finish: `(state, writer)`, after the last step.
        proposal: initial state of the proposal of times.
        how: a line about how the network is run, if there is something to say.
    """

    name: str
    task: Task
    init: Callable[[], Params]
    load: Callable[[], tuple[Split, Split | None]]
    validate: Callable[[State, Split], dict[str, float]]
    sample: Callable[[Writer, State, int], None] | None
    finish: Callable[[State, Writer], None]
    proposal: Params = field(default_factory=dict)
    how: str = ""

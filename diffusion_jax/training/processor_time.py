"""The processor time that a training run has used."""

from dataclasses import dataclass, field

from diffusion_jax.runtime import cores
from diffusion_jax.runtime.sharding import total


@dataclass(frozen=True)
class Cost:
    """Processor time of all threads, in all processes and all starts of a run.

    Steps that were lost and repeated from an earlier checkpoint are counted once, unless the same
    process rolled back.

    Attributes:
        before: core-seconds used for the state that this start began with.
        since: `cores.used()` when it began.
    """

    before: float = 0.0
    since: float = field(default_factory=cores.used)

    def __call__(self) -> dict[str, float]:
        """`core_seconds` so far; every process must call this."""
        return {"core_seconds": round(self.before + total(cores.used() - self.since), 1)}

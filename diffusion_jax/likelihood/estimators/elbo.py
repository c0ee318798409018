"""The variational bound, in continuous time and for requested numbers of steps.

The formulas are in `likelihood/objectives/`, the pass over a test set in `likelihood/bpd.py`.
"""

from dataclasses import dataclass
from typing import Any

from diffusion_jax import registry
from diffusion_jax.likelihood.objectives.base import Objective


@dataclass(frozen=True)
class Elbo:
    """The bound on the negative log-likelihood (Kingma et al. 2021, equations 14 and 17)."""

    form: str = "B"

    def objectives(self, timesteps: tuple[int, ...]) -> dict[str, Objective]:
        """The continuous-time bound, and the bound of a model with T steps for each T given."""
        return {
            "infinity": registry.build("objectives", f"continuous(form={self.form!r})"),
            **{str(t): registry.build("objectives", f"discrete(timesteps={t})") for t in timesteps},
        }

    def describe(self, latent_noise: bool) -> dict[str, Any]:
        """How the continuous-time bound treats noisy latents; empty if there are none."""
        if not latent_noise:
            return {}
        texts = {"A": "latent drawn (form A)", "B": "noise of the latent averaged out (form B)"}
        return {"form": self.form, "latent": texts[self.form]}


def make(form: str = "B") -> Elbo:
    """The variational bound.

    Args:
        form: treatment of noisy latents in continuous time: `"B"` averages their noise out, `"A"`
            samples it (the same bound with a larger Monte-Carlo error).
    """
    registry.build("objectives", f"continuous(form={form!r})")  # raises for other forms
    return Elbo(form)

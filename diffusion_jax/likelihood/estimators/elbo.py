"""The variational bound: continuous time, and with the numbers of steps that are asked for.

The formula is in `likelihood/objectives/`, the pass over a test set in `likelihood/bpd.py`.
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
        """The continuous-time bound, and that of a model with T steps for each T given."""
        return {
            "infinity": registry.build("objectives", f"continuous(form={self.form!r})"),
            **{str(t): registry.build("objectives", f"discrete(timesteps={t})") for t in timesteps},
        }

    def describe(self, latent_noise: bool) -> dict[str, Any]:
        """What the bound in continuous time does with the noise of latents, if they have any."""
        if not latent_noise:
            return {}
        said = {"A": "latent drawn (form A)", "B": "noise of the latent averaged out (form B)"}
        return {"form": self.form, "latent": said[self.form]}


def make(form: str = "B") -> Elbo:
    """The variational bound.

    Args:
        form: in continuous time, of latents with noise of their own: `"B"` averages that out, `"A"`
            draws it: the same bound with a larger Monte-Carlo error.
    """
    registry.build("objectives", f"continuous(form={form!r})")  # refuses other forms
    return Elbo(form)

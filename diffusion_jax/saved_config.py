"""The configuration a run was started with, as a `--config` file: its argument is a JSON path."""

from ml_collections import ConfigDict

from diffusion_jax import config
from diffusion_jax.runtime.storage import place


def get_config(path: str) -> ConfigDict:
    """Reads `config.json` of a work directory, or the record inside a checkpoint."""
    return config.read(place(path))

"""`--mode=verify`: check that a compressed file decodes, without writing anything."""

from diffusion_jax.cli.modes import _codec_files
from diffusion_jax.experiment import Experiment
from diffusion_jax.runtime.distributed import say

READS = ("compress", "eval", "stages")


def run(experiment: Experiment) -> None:
    """Decodes `config.compress.input`, or the newest file in the work directory."""
    path = _codec_files.input_path(experiment)
    say(_codec_files.verdict(experiment, path, _codec_files.decode(experiment, path)))

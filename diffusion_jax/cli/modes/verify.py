"""`--mode=verify`: decodes a compressed file and checks it; writes nothing."""

from pathlib import Path

from diffusion_jax.cli.modes import _codec
from diffusion_jax.compression.files import Images
from diffusion_jax.experiment import Experiment
from diffusion_jax.runtime.distributed import say


def run(experiment: Experiment) -> None:
    """Decodes `--input`, or the newest file in the work directory."""
    path = _codec.input_path(experiment)
    say(verdict(path, _codec.decode_file(experiment, path)[0]))


def verdict(path: Path, found: Images) -> str:
    """One line for a file that decoded to exactly what was coded."""
    labels = "" if found.labels is None else " and labels"
    return (
        f"{path.name}: {len(found.images)} images{labels} decoded, byte-exact "
        f"(SHA-256 {found.sha256()[:16]}... as in the header)"
    )

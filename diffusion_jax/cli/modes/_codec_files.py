"""The files that compress, decompress and verify read and write."""

from pathlib import Path

from diffusion_jax.compression.files import Images
from diffusion_jax.errors import CodecError, ConfigError
from diffusion_jax.experiment import Experiment, codec
from diffusion_jax.experiment.workdir import check_writable
from diffusion_jax.runtime.storage import modified, place

INSTEAD = "name another file with --config.compress.output"


def output_path(experiment: Experiment) -> Path | None:
    """`config.compress.output`, absolute, or None; an existing file is refused."""
    named = experiment.config.compress.output
    path = place(named) if named else None
    if path is not None:
        refuse_existing(path)
        check_writable(path.parent, INSTEAD)
    return path


def refuse_existing(path: Path) -> None:
    """Nothing is overwritten."""
    if path.exists():
        raise ConfigError(f"{path} exists; {INSTEAD}")


def input_path(experiment: Experiment) -> Path:
    """The file to decode: `config.compress.input`, or the newest in the work directory."""
    if experiment.config.compress.input:
        return place(experiment.config.compress.input)
    folder = experiment.workdir / "compressed"
    written = sorted(folder.glob("*.djz"), key=modified)
    if not written:
        raise ConfigError(
            f"no compressed file in {folder}: name one with --config.compress.input=FILE"
        )
    return written[-1]


def decode(experiment: Experiment, path: Path) -> Images:
    """Decodes a file; `CodecError` unless the digest in its header confirms every byte."""
    try:
        data = path.read_bytes()
    except OSError as e:
        raise CodecError(f"cannot read {path}: {e.strerror or e}") from e
    found, _ = codec.decode(experiment, experiment.params, data, str(path), show=True)
    return found


def verdict(experiment: Experiment, path: Path, found: Images) -> str:
    """One line for a file that decoded to exactly what was coded."""
    labels = "" if found.labels is None else " and labels"
    many = f"{len(found.images)} {experiment.source.medium.name}s{labels}"
    return (
        f"{path.name}: {many} decoded, byte-exact "
        f"(SHA-256 {found.sha256()[:16]}... as in the header)"
    )

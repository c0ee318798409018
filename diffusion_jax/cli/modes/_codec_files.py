"""Files read and written by the modes compress, decompress and verify."""

from pathlib import Path

from diffusion_jax.compression.files import Images
from diffusion_jax.errors import CodecError, ConfigError
from diffusion_jax.experiment import Experiment, codec
from diffusion_jax.experiment.workdir import check_writable
from diffusion_jax.runtime.storage import modified, place

INSTEAD = "name another file with --config.compress.output"


def output_path(experiment: Experiment) -> Path | None:
    """`config.compress.output` as an absolute path, or None; `ConfigError` if the file exists."""
    named = experiment.config.compress.output
    path = place(named) if named else None
    if path is not None:
        refuse_existing(path)
        check_writable(path.parent, INSTEAD)
    return path


def refuse_existing(path: Path) -> None:
    """Raises ConfigError if `path` exists."""
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
            f"no compressed file in {folder}: give one with --config.compress.input=FILE"
        )
    return written[-1]


def decode(experiment: Experiment, path: Path) -> Images:
    """Decodes a file; raises CodecError unless the result has the SHA-256 in the header."""
    try:
        data = path.read_bytes()
    except OSError as e:
        raise CodecError(f"cannot read {path}: {e.strerror or e}") from e
    found, _ = codec.decode(experiment, experiment.params, data, str(path), show=True)
    return found


def verdict(experiment: Experiment, path: Path, found: Images) -> str:
    """The line printed for a file that was decoded without error."""
    labels = "" if found.labels is None else " and labels"
    many = f"{len(found.images)} {experiment.source.medium.name}s{labels}"
    return (
        f"{path.name}: {many} decoded, byte-exact "
        f"(SHA-256 {found.sha256()[:16]}... as in the header)"
    )

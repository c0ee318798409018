"""`--mode=decompress`: the images of a compressed file, bit for bit, as npz (and png)."""

from diffusion_jax.cli.modes import _codec, verify
from diffusion_jax.compression import files
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment
from diffusion_jax.runtime.distributed import say
from diffusion_jax.runtime.storage import is_bucket


def run(experiment: Experiment) -> None:
    """Decodes `--input` into `--output` (by default its name with `.npz`).

    Args:
        experiment: with `--verify` nothing is written.

    Raises:
        ConfigError: the output exists.
    """
    if experiment.verify:
        verify.run(experiment)
        return
    path = _codec.input_path(experiment)
    out = experiment.output_path or path.with_suffix(".npz")
    folder = out.with_name(out.stem + "_png") if experiment.config.compress.png else None
    for target in (out, folder):
        if target is not None and target.exists():
            raise ConfigError(f"{target} exists; name another file with --output")
    if not is_bucket(out) and not out.parent.is_dir():
        raise ConfigError(f"--output: there is no folder {out.parent}")
    found, _ = _codec.decode_file(experiment, path)
    files.write_npz(out, found)
    if folder is not None:
        files.write_pngs(folder, found)
    say(verify.verdict(path, found))
    say(f"  written to {out}" + (f" and {folder}" if folder is not None else ""))

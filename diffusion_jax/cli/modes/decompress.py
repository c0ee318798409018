"""`--mode=decompress`: decoding of a compressed file, bit for bit, to npz (and png)."""

from diffusion_jax.cli.modes import _codec_files, verify
from diffusion_jax.compression import files
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment
from diffusion_jax.experiment.workdir import check_writable
from diffusion_jax.runtime.distributed import say
from diffusion_jax.runtime.storage import is_bucket

READS = ("compress", "eval", "stages")


def run(experiment: Experiment) -> None:
    """Decodes `config.compress.input` to `.output` (by default the same name with `.npz`).

    With `config.compress.verify` nothing is written.
    """
    c = experiment.config.compress
    if c.verify:
        verify.run(experiment)
        return
    path = _codec_files.input_path(experiment)
    out = _codec_files.output_path(experiment) or path.with_suffix(".npz")
    _codec_files.refuse_existing(out)
    if c.png:
        files.check_pngs(tuple(experiment.source.shape))
    folder = out.with_name(out.stem + "_png") if c.png else None
    if folder is not None:
        _codec_files.refuse_existing(folder)
    if not is_bucket(out) and not out.parent.is_dir():
        raise ConfigError(f"compress.output: there is no folder {out.parent}")
    check_writable(out.parent, _codec_files.INSTEAD)
    found = _codec_files.decode(experiment, path)
    files.write_npz(out, found)
    if folder is not None:
        files.write_pngs(folder, found)
    say(_codec_files.verdict(experiment, path, found))
    say(f"  written to {out}" + (f" and {folder}" if folder is not None else ""))

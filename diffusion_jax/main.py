"""The command line: `python -m diffusion_jax.main --config=configs/digits.py --workdir=DIR`."""

import ast
import contextlib
import dataclasses
import importlib
import os
import re
import sys
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from diffusion_jax import registry, saved_config
from diffusion_jax.errors import ConfigError, Preempted, UserError
from diffusion_jax.runtime import cache, distributed
from diffusion_jax.runtime.storage import is_bucket, place

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "Configuration file, with its argument after a colon: configs/digits.py:smoke. "
    "For eval and sample it may be left out: the run's own is used.",
    lock_config=True,
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where everything is written, and resumed from.")
_MODE = flags.DEFINE_enum("mode", "train", registry.available("modes"), "What to do.")
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    "",
    "For eval and sample: a checkpoint folder or another run's work directory, or "
    "vdm:PATH for a published VDM checkpoint.",
)
_A = flags.DEFINE_string("a", "", "For compare: a work directory or checkpoint.")
_B = flags.DEFINE_string("b", "", "For compare: another one; differences are b - a.")
_DATA = flags.DEFINE_string("data", "", "For ood: a data plug-in; empty: the model's own data.")
_AGAINST = flags.DEFINE_string(
    "against", "", "For ood: the data to tell apart, for example rotated(digits())."
)
_INPUT = flags.DEFINE_string(
    "input",
    "",
    "For compress: an .npz, a .png or a folder of .png (empty: the run's own test split). For "
    "decompress and verify: a compressed file (empty: the newest in --workdir).",
)
_KIND = flags.DEFINE_string("kind", "", "For list: only these plug-ins, for example samplers.")
_OUTPUT = flags.DEFINE_string("output", "", "For compress and decompress: the file to write.")
_VERIFY = flags.DEFINE_bool(
    "verify", False, "For compress: decode the file at once. For decompress: write nothing."
)

_HELP = ("help", "helpshort", "helpfull", "helpxml", "?")
_ALONE = ("list",)  # modes that need neither a configuration nor a work directory


def _published(checkpoint: str) -> bool:
    """Whether a checkpoint has a prefix, as `vdm:PATH` has; a bucket has a scheme instead."""
    return ":" in checkpoint and not is_bucket(checkpoint)


def _value(argv: list[str], flag: str) -> str | None:
    """The value of a flag before flags are parsed, in either form, or None."""
    for i, arg in enumerate(argv):
        name, sep, value = arg.lstrip("-").partition("=")
        if arg.startswith("-") and name == flag:
            return value if sep else (argv[i + 1] if i + 1 < len(argv) else None)
    return None


def _with_saved_config(argv: list[str]) -> list[str]:
    """Adds the run's own configuration where none is named, so that overrides work on it too."""
    if _value(argv, "config") or (_value(argv, "mode") or "train") == "train":
        return argv
    where = _value(argv, "checkpoint") or _value(argv, "a") or _value(argv, "workdir")
    if not where or _published(where):
        return argv
    saved = saved_config.find(place(where))
    if saved is None:
        return argv
    reader = Path(__file__).with_name("saved_config.py")
    return [argv[0], f"--config={reader}:{saved}", *argv[1:]]


def _parse(argv: list[str]) -> list[str]:
    """Parses flags; every mistake is one line and exit code 2."""
    path = (_value(argv, "config") or "").partition(":")[0]
    if path and not Path(path).is_file():
        _fail(ConfigError(f"--config: there is no file {path}"))
    try:
        return flags.FLAGS(_with_saved_config(argv))
    except SystemExit:
        if any(a.lstrip("-").partition("=")[0] in _HELP for a in argv if a.startswith("-")):
            sys.exit(0)  # absl ends with 1
        raise
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as e:
        _fail(ConfigError(_explain(e)))


def _explain(e: Exception) -> str:
    """One line for whatever went wrong while flags and the config file were read."""
    lines = [line for line in str(e.args[0] if e.args else e).splitlines() if line.strip()]
    text = " ".join(lines)
    if "Traceback" in text:
        # ml_collections puts the whole traceback of a config file into its message.
        text = re.sub(r"^[\w.]+Error: ", "", lines[-1].strip())
    if text[:1] in "'\"" and text[:1] == text[-1:]:  # a KeyError's message is quoted once more
        with contextlib.suppress(ValueError, SyntaxError):
            text = " ".join(str(ast.literal_eval(text)).split())
    if isinstance(e, AttributeError | KeyError):
        text = f"the configuration has no such field: {text}"
    return text


def _fail(e: UserError, at_once: bool = False) -> None:
    word = "stopped" if isinstance(e, Preempted) else "error"
    print(f"{word}: {e}", file=sys.stderr, flush=True)
    if at_once:
        os._exit(e.exit_code)
    sys.exit(e.exit_code)


def _workdir() -> Path:
    if _WORKDIR.value:
        return place(_WORKDIR.value)
    source = _CHECKPOINT.value or _A.value
    if source and not _published(source):
        path = place(source)
        for parent in (path, *path.parents)[:3]:  # a step is two folders below its run
            if (parent / "config.json").exists():
                return parent
    raise ConfigError("--workdir is needed: where the results are written")


def _main(argv: list[str]) -> None:
    if len(argv) > 1:
        _fail(ConfigError(f"unexpected argument {argv[1]!r}; every option starts with --"))
    distributed.install_hooks()
    clustered = False
    logging.set_verbosity(logging.WARNING)  # orbax logs dozens of lines per checkpoint
    # ... and warns of a file that one item of a step, read by itself, never has.
    logging.get_absl_logger().addFilter(lambda r: "_CHECKPOINT_METADATA" not in r.getMessage())
    try:
        if _MODE.value in _ALONE:
            importlib.import_module(f"diffusion_jax.cli.modes.{_MODE.value}").run(_KIND.value)
            return
        if _CONFIG.value is None:
            raise ConfigError(
                "--config is needed, for example --config=configs/digits.py (eval, sample, ... "
                "find the run's own in --workdir, --checkpoint or --a)"
            )
        clustered = distributed.join()
        cache.remember()
        from diffusion_jax.experiment import open_experiment
        from diffusion_jax.runtime import cpu_devices

        if not clustered:  # there, whoever started the processes has shared out the cores
            c = _CONFIG.value
            cpu_devices.share(c.batch, c.accumulate, c.mesh)

        experiment = open_experiment(
            _CONFIG.value,
            _workdir(),
            _CHECKPOINT.value,
            tuple(p for p in (_A.value, _B.value) if p),
            (_DATA.value, _AGAINST.value),
        )
        experiment = dataclasses.replace(
            experiment, input=_INPUT.value, output=_OUTPUT.value, verify=_VERIFY.value
        )
        if clustered:
            distributed.agree(_identity(experiment))
        importlib.import_module(f"diffusion_jax.cli.modes.{_MODE.value}").run(experiment)
        if clustered:
            distributed.leave()
    except Preempted as e:
        if clustered:
            distributed.leave()
        _fail(e)
    except UserError as e:
        # In a cluster the others may be waiting for this process: end at once, without a barrier.
        _fail(e, at_once=clustered)


def _identity(experiment: Any) -> dict[str, Any]:
    """What every process of a job must have in common."""
    import jax

    import diffusion_jax

    return {
        "jax version": jax.__version__,
        "diffusion_jax version": diffusion_jax.__version__,
        "mode": _MODE.value,
        "work directory": str(experiment.workdir),
        "configuration": saved_config.to_dict(experiment.config),
    }


if __name__ == "__main__":
    app.run(_main, flags_parser=_parse)

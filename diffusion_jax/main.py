"""The command line: `djax train --config=digits --workdir=DIR`."""

import ast
import contextlib
import importlib
import os
import re
import sys
import traceback
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from diffusion_jax import config_fields, saved_config
from diffusion_jax.cli import arguments
from diffusion_jax.errors import ConfigError, Preempted, UserError, out_of_memory, short
from diffusion_jax.runtime import cache, distributed, output
from diffusion_jax.runtime.storage import place

_OWN = ("config", "workdir", "mode", "checkpoint", "trust")
_LESS = "ask for less at once (--config.batch, sample.batch, eval.batch), or for a smaller network"
_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "Configuration file, or the name of a packaged one, with its argument after a colon: "
    "digits:smoke. Where a run is there already it may be left out: the run's own is used.",
    lock_config=True,
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where everything is written, and resumed from.")
_MODE = flags.DEFINE_string("mode", "train", "What to do; --help has them all.")
_TRUST = flags.DEFINE_boolean(
    "trust", False, "Import the modules that a run's own configuration names, see SECURITY.md."
)
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    "",
    "A checkpoint folder or another run's work directory, or vdm:PATH for a published VDM "
    "checkpoint.",
)


def _parse(argv: list[str]) -> list[str]:
    """Parses flags; every mistake is one line and exit code 2."""
    if arguments.asks_for_help(argv):
        print(arguments.help_page(), end="")
        sys.exit(0)
    if "--version" in argv[1:]:
        print(arguments.version())
        sys.exit(0)
    logging.set_verbosity(logging.ERROR)  # ml_collections warns of what is an error here
    try:
        if arguments.switched_on(argv, "trust"):  # a run's own configuration is read with flags
            os.environ[saved_config.TRUST] = "1"
        argv = arguments.with_mode(argv)
        argv = arguments.renamed(argv)
        arguments.check_fields(argv)
        argv = arguments.with_config(argv, arguments.check_mode(argv))
        sys.argv[:] = argv  # where ml_collections looks for overrides
        rest = flags.FLAGS(argv)
        if arguments.value(argv, "config") is not None:
            if not isinstance(_CONFIG.value, ConfigDict):
                raise ConfigError(
                    f"get_config() of the configuration file returned "
                    f"{type(_CONFIG.value).__name__}; it returns a ConfigDict: start from "
                    "diffusion_jax.config.base()"
                )
            config_fields.check_fields(_CONFIG.value)
            overridden = config_flags.get_override_values(flags.FLAGS["config"])
            arguments.check_settings(_MODE.value, overridden)
        return rest
    except SystemExit:
        if any(a.lstrip("-").partition("=")[0] in ("helpfull", "helpxml") for a in argv):
            sys.exit(0)  # absl ends with 1
        raise
    except Exception as e:  # a configuration file is a program: it may raise anything
        _fail(ConfigError(_explain(e)))


def _explain(e: Exception) -> str:
    """One line for whatever went wrong while flags and the config file were read."""
    lines = [line for line in str(e.args[0] if e.args else e).splitlines() if line.strip()]
    text = " ".join(lines)
    if isinstance(e, flags.UnrecognizedFlagError):
        text = arguments.unknown_flag(sys.argv, e.flagname, _OWN)
    if "Traceback" in text:
        # ml_collections puts the whole traceback of a config file into its message.
        text = re.sub(r"^[\w.]+Error: ", "", lines[-1].strip())
    if text[:1] in "'\"" and text[:1] == text[-1:]:  # a KeyError's message is quoted once more
        with contextlib.suppress(ValueError, SyntaxError):
            text = " ".join(str(ast.literal_eval(text)).split())
    text = _mistyped(text)
    told = flags.Error | KeyError | AttributeError | TypeError | ValueError | OSError
    if not isinstance(e, told) or isinstance(e, SyntaxError):
        where = traceback.extract_tb(e.__traceback__)[-1]
        text = f"the configuration file fails: {type(e).__name__}: {text or where.line}"
    if "has no attribute 'get_config'" in text:
        text = "the configuration file has no function get_config(), see those in configs/"
    elif isinstance(e, AttributeError | KeyError):
        text = f"the configuration has no such field: {text}"
    return text


_OVERRIDE = re.compile(
    r"Could not override field '(\w+)' .*?\. (.*) is of original type <class '.*'> and cannot be "
    r"casted to type <class '([\w.]+)'>"
)


def _mistyped(text: str) -> str:
    """What a configuration file did to raise an error with this text."""
    found = _OVERRIDE.search(text)
    if found:
        kinds = {"int": int, "float": float, "bool": bool, "str": str, "tuple": tuple}
        kind = kinds.get(found[3])
        wanted = config_fields.words(kind) if kind else "a group of settings"
        return f"{found[1]}={found[2]} in the configuration file must be {wanted}"
    if "get_config()" in text and "positional argument" in text:
        return "this configuration file takes no variant: leave out the colon and what follows it"
    return text


class Interrupted(Preempted):
    """Ctrl-C where nothing is to be saved: 42 for training, which the same command begins again."""

    def __init__(self, mode: str):
        super().__init__("interrupted before there was anything to save" if mode == "train" else
                         f"interrupted; --mode={mode} has no result")  # fmt: skip
        self.exit_code = Preempted.exit_code if mode == "train" else 130


def _fail(e: UserError | Preempted, at_once: bool = False) -> None:
    word = "stopped" if isinstance(e, Preempted) else "error"
    print(f"{word}: {e}", file=sys.stderr, flush=True)
    if at_once:
        os._exit(e.exit_code)
    sys.exit(e.exit_code)


def _workdir() -> Path:
    if _WORKDIR.value:
        return place(_WORKDIR.value)
    source = _CHECKPOINT.value or _CONFIG.value.compare.a
    if source and not arguments.published(source):
        path = place(source)
        for parent in (path, *path.parents)[:3]:  # a step is two folders below its run
            if (parent / "config.json").exists():
                return parent
    raise ConfigError("--workdir is needed: where the results are written")


def _main(argv: list[str]) -> None:
    if len(argv) > 1:
        _fail(ConfigError(
            f"unexpected argument {argv[1]!r}; a mode is the first word, options start with --, as "
            f"--config={argv[1]} or --config.list.kind={argv[1]}"
        ))  # fmt: skip
    distributed.install_hooks()
    clustered = False
    logging.set_verbosity(logging.WARNING)  # orbax logs dozens of lines per checkpoint
    try:
        if _MODE.value == "list":  # needs neither a configuration nor a work directory
            importlib.import_module("diffusion_jax.cli.modes.list").run(_CONFIG.value.list.kind)
            return
        if _CONFIG.value is None:
            raise ConfigError(
                "--config is needed, for example --config=digits; where a run is there already, "
                "its own is found by --workdir, --checkpoint or --config.compare.a"
            )
        clustered = distributed.join()
        cache.remember()
        from diffusion_jax.experiment import open_experiment
        from diffusion_jax.experiment.workdir import check_writable
        from diffusion_jax.runtime import cpu_devices

        if not clustered:  # there, whoever started the processes has shared out the cores
            c = _CONFIG.value
            cpu_devices.share(c.batch, c.accumulate, c.mesh)

        asked = config_flags.get_override_values(flags.FLAGS["config"])
        experiment = open_experiment(_CONFIG.value, _workdir(), _CHECKPOINT.value, asked)
        if clustered:
            distributed.agree(_identity(experiment))
        mode = importlib.import_module(f"diffusion_jax.cli.modes.{_MODE.value}")
        for folder in getattr(mode, "WRITES", ()):
            check_writable(experiment.workdir / folder)
        mode.run(experiment)
        if clustered:
            distributed.leave()
    except Preempted as e:
        if clustered:
            distributed.leave()
        _fail(e)
    except KeyboardInterrupt:
        _fail(Interrupted(_MODE.value), at_once=clustered)
    except UserError as e:
        # In a cluster the others may be waiting for this process: end at once, without a barrier.
        _fail(e, at_once=clustered)
    except OSError as e:  # of a disk; others have no text of the system's
        if e.strerror is None:
            raise
        what = f"{e.filename}: {e.strerror}" if e.filename else f"{e.strerror} (no file is named)"
        _fail(UserError(f"cannot read or write {what}: make room or put it right, and start "
                        "again"), at_once=clustered)  # fmt: skip
    except Exception as e:
        if not out_of_memory(e):
            raise
        _fail(UserError(f"too little memory ({short(e)}): {_LESS}"), at_once=clustered)


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


def run() -> None:
    """The program: parses the command line and runs the mode; ends the process."""
    output.keep_going()
    app.run(_main, flags_parser=_parse)


if __name__ == "__main__":
    run()

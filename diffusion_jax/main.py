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
_LESS = "lower --config.batch, sample.batch or eval.batch, or use a smaller network"
_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "Configuration file, or the name of a packaged one, with its argument after a colon: "
    "digits:smoke. May be omitted for an existing run, whose own configuration is then used.",
    lock_config=True,
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "The folder that everything is written to, and resumed from."
)
_MODE = flags.DEFINE_string("mode", "train", "What to do; --help lists all modes.")
_TRUST = flags.DEFINE_boolean(
    "trust", False, "Import the modules named in a run's saved configuration, see SECURITY.md."
)
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    "",
    "A checkpoint folder or another run's work directory, or vdm:PATH, diffenc:PATH, "
    "diffenc_nt:PATH or vdmv:PATH for published weights.",
)


def _parse(argv: list[str]) -> list[str]:
    """Parses flags; every mistake gives a one-line message and exit code 2."""
    if arguments.asks_for_help(argv):
        print(arguments.help_page(), end="")
        sys.exit(0)
    if "--version" in argv[1:]:
        print(arguments.version())
        sys.exit(0)
    logging.set_verbosity(logging.ERROR)  # ml_collections warns about what is an error here
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
                    f"{type(_CONFIG.value).__name__}; it must return a ConfigDict: start from "
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
    except Exception as e:  # a configuration file is code and may raise anything
        _fail(ConfigError(_explain(e)))


def _explain(e: Exception) -> str:
    """A one-line message for an error raised while flags and the config file were read."""
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
    explained = flags.Error | KeyError | AttributeError | TypeError | ValueError | OSError
    if not isinstance(e, explained) or isinstance(e, SyntaxError):
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
    """Rewords an ml_collections error for a value of the wrong type, or an unknown variant."""
    match = _OVERRIDE.search(text)
    if match:
        kinds = {"int": int, "float": float, "bool": bool, "str": str, "tuple": tuple}
        kind = kinds.get(match[3])
        expected = config_fields.words(kind) if kind else "a group of settings"
        return f"{match[1]}={match[2]} in the configuration file must be {expected}"
    if "get_config()" in text and "positional argument" in text:
        return "this configuration file has no variants: leave out the colon and what follows it"
    return text


class Interrupted(Preempted):
    """Ctrl-C when there is nothing to save: exit code 42 for training, which can be restarted."""

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
    raise ConfigError("--workdir is needed: the folder for the results")


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
        if _MODE.value == "list":  # needs no configuration and no work directory
            importlib.import_module("diffusion_jax.cli.modes.list").run(_CONFIG.value.list.kind)
            return
        if _CONFIG.value is None:
            raise ConfigError(
                "--config is needed, for example --config=digits; the configuration of an existing "
                "run is found by --workdir, --checkpoint or --config.compare.a"
            )
        clustered = distributed.join()
        cache.remember()
        from diffusion_jax.experiment import open_experiment
        from diffusion_jax.experiment.workdir import check_writable
        from diffusion_jax.runtime import cpu_devices

        if not clustered:  # in a cluster the launcher has already divided the cores
            c = _CONFIG.value
            cpu_devices.share(c.batch, c.accumulate, c.mesh)

        overrides = config_flags.get_override_values(flags.FLAGS["config"])
        experiment = open_experiment(_CONFIG.value, _workdir(), _CHECKPOINT.value, overrides)
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
        # In a cluster the others may be waiting for this process: exit at once, without a barrier.
        _fail(e, at_once=clustered)
    except OSError as e:  # of a disk; others have no text of the system's
        if e.strerror is None:
            raise
        what = f"{e.filename}: {e.strerror}" if e.filename else f"{e.strerror} (no file is named)"
        _fail(UserError(f"cannot read or write {what}: free some space or fix the cause, and start "
                        "again"), at_once=clustered)  # fmt: skip
    except Exception as e:
        if not out_of_memory(e):
            raise
        _fail(UserError(f"too little memory ({short(e)}): {_LESS}"), at_once=clustered)


def _identity(experiment: Any) -> dict[str, Any]:
    """The values that must agree between all processes of a job."""
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
    """Entry point: parses the command line, runs the mode and ends the process."""
    output.keep_going()
    app.run(_main, flags_parser=_parse)


if __name__ == "__main__":
    run()

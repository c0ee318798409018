"""Processing of the command line before flags are parsed."""

import ast
import difflib
import functools
import importlib.metadata
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path

import diffusion_jax
from diffusion_jax import (
    config as config_lib,
    config_fields,
    config_groups,
    packaged,
    registry,
    saved_config,
)
from diffusion_jax.errors import ConfigError
from diffusion_jax.networks.published import is_published
from diffusion_jax.runtime.home import expanded
from diffusion_jax.runtime.run_folders import missing, missing_step, runs_named
from diffusion_jax.runtime.storage import is_bucket, place

# Flags of versions before 0.1 and the settings that replace them, until the next release.
_OLD = {
    "a": "compare.a", "b": "compare.b", "data": "ood.data", "against": "ood.against",
    "input": "compress.input", "output": "compress.output", "verify": "compress.verify",
    "noverify": "compress.verify", "kind": "list.kind",
}  # fmt: skip
_SWITCHES = {"verify": "True", "noverify": "False"}
_HELP = ("help", "helpshort", "h", "?")
_USAGE = """\
usage: djax MODE --config=NAME --workdir=DIR [--config.F=VALUE]
       python -m diffusion_jax --mode=MODE ..., the same without installation

  --config      Configuration file, or the name of a packaged one; a variant follows a colon:
                digits:smoke. For an existing run the default is its own.
{configs}
  --workdir     The folder for everything a run writes: a local folder or gs://bucket/run.
  --checkpoint  A checkpoint folder or another run's work directory, or vdm:PATH, diffenc:PATH
                for published weights.
  --trust       Import the modules that a run's own configuration names; see SECURITY.md.
  --config.F=VALUE overrides the setting F; diffusion_jax/config.py lists all of them.
  MODE          What to do; the default is train:
{modes}

  --version; --helpfull shows the flags of all libraries.
  First: djax train --config=digits --workdir=runs/digits
"""


def published(checkpoint: str) -> bool:
    """Whether a checkpoint is a published one, such as `vdm:PATH`, and not a folder."""
    return is_published(checkpoint)


def value(argv: list[str], flag: str) -> str | None:
    """The value of a flag before flags are parsed (`--flag=VALUE` or `--flag VALUE`), or None."""
    for i, arg in enumerate(argv):
        name, sep, text = arg.lstrip("-").partition("=")
        if arg.startswith("-") and name == flag:
            return text if sep else (argv[i + 1] if i + 1 < len(argv) else None)
    return None


def switched_on(argv: list[str], flag: str) -> bool:
    """Whether a boolean flag is set, without a value or with one that means yes."""
    written = (arg.lstrip("-").partition("=") for arg in argv[1:] if arg.startswith("-"))
    values = [(sep, text) for name, sep, text in written if name == flag]
    return any(not sep or text.lower() in ("true", "t", "1") for sep, text in values)


def renamed(argv: list[str]) -> list[str]:
    """Replaces old flags by the settings that they became, with one line on stderr for each."""
    out, rest, mode = [], iter(argv), check_mode(argv)
    for arg in rest:
        name, sep, text = arg.lstrip("-").partition("=")
        if not arg.startswith("-") or name not in _OLD or _is_newer(name, mode):
            out.append(arg)
            continue
        if not sep:
            text = _SWITCHES.get(name) or next(rest, "")
        new = f"--config.{_OLD[name]}"
        print(
            f"note: --{name} is now {new}; the next release removes the old flag",
            file=sys.stderr,
            flush=True,
        )
        out.append(f"{new}={text}")
    return out


def _is_newer(name: str, mode: str) -> bool:
    """Whether the name of an old flag now means a setting of this mode."""
    return name in config_fields.called(name) and not _is_read(_OLD[name], mode)


def with_mode(argv: list[str]) -> list[str]:
    """Replaces a first argument such as `train` by `--mode=train`.

    Raises:
        ConfigError: two modes are given.
    """
    if len(argv) < 2 or argv[1].startswith("-"):
        return argv
    word, rest = argv[1], argv[2:]
    if value(rest, "mode") not in (None, word):
        raise ConfigError(f"two modes are given: {word} and {value(rest, 'mode')}")
    return [argv[0], f"--mode={word}", *rest]


def check_mode(argv: list[str]) -> str:
    """The mode that is selected; `ConfigError` if there is no such mode."""
    named, modes = value(argv, "mode"), registry.available("modes")
    mode = "train" if named is None else named
    if mode not in modes:
        hint = registry.nearest(mode, modes)
        raise ConfigError(f"there is no mode {mode!r}{hint}; modes: {', '.join(modes)}")
    return mode


def config_path(name: str) -> Path:
    """The path of `--config=NAME`: a file, or a packaged configuration."""
    path = expanded(name)
    if path.is_file():
        return path
    in_package = packaged.folder() / f"{path.name.removesuffix('.py')}.py"
    if path.parent in (Path(), Path("configs")) and in_package.is_file():
        return in_package
    if path.is_dir():
        raise ConfigError(f"--config: {missing(name)}; give a file, or a packaged configuration")
    names = packaged.names()
    hint = registry.nearest(path.stem, names)
    raise ConfigError(f"--config: there is no file {name}{hint}; packaged: {', '.join(names)}")


def with_config(argv: list[str], mode: str) -> list[str]:
    """The arguments with `--config=FILE`, which ml_collections needs for overrides.

    Without `--config`, the file is the configuration saved in the run; `list` uses the defaults.
    """
    named = value(argv, "config")
    if named == "":
        raise ConfigError(f"--config= names no file; packaged: {', '.join(packaged.names())}")
    if named:
        return _with_named_config(argv, named)
    if mode == "list":
        return [argv[0], f"--config={Path(config_lib.__file__)}", *argv[1:]]
    return _with_config_of_run(argv, mode)


def _with_named_config(argv: list[str], named: str) -> list[str]:
    """Replaces `--config=NAME` by the path of the file that it means."""
    name, colon, variant = named.partition(":")
    saved = _of_a_run(named)
    file = _saved_file(saved) if saved else f"{config_path(name)}{colon}{variant}"
    first = next(i for i, a in enumerate(argv) if a.partition("=")[0] in ("-config", "--config"))
    after = first + (1 if "=" in argv[first] else 2)
    return [*argv[:first], f"--config={file}", *argv[after:]]


def _with_config_of_run(argv: list[str], mode: str) -> list[str]:
    """Adds `--config` with the configuration saved in the run that another flag names."""
    several = ("config.compare.a", "config.stages")
    flags = ("checkpoint", *several, "workdir")
    flag = next((f for f in flags if value(argv, f)), None)
    if flag is None or published(value(argv, flag)):
        return argv
    where = value(argv, flag)
    if flag in several:  # settings such as those of sampling come from the last stage
        where = runs_named(where)[-1]
    saved = saved_config.find(place(where))
    if saved is None and mode == "train":
        return argv
    if saved is None:
        if step := missing_step(where):
            raise ConfigError(f"--{flag}: {step}")
        there = place(where).is_dir()
        option = flag if flag in several else "config.stages"
        stages = f" (for a cascade give its stages, --{option}=LOW,HIGH)" if there else ""
        kind = "cascade:high" if flag == "config.stages" else ""
        makes = "" if there and flag in several else packaged.command(kind, "", where)
        raise ConfigError(f"--{flag}: {missing(where)}, and no --config is given{stages}{makes}")
    return [argv[0], f"--config={_saved_file(saved)}", *argv[1:]]


def _of_a_run(name: str) -> Path | None:
    """The saved configuration of `--config=RUN` or `--config=RUN/config.json`, or None."""
    if name.endswith(".json") and ".py:" not in name:  # after .py: it is the name of a variant
        return place(name)
    if not is_bucket(name):
        return saved_config.find(place(name)) if expanded(name).is_dir() else None
    found = saved_config.find(place(name))
    if found is None:  # whatever else a configuration may be, it is not in a bucket
        raise ConfigError(f"--config: {missing(name)}; name a run, a file on this machine, or a "
                          "packaged configuration")  # fmt: skip
    return found


def _saved_file(saved: Path) -> str:
    """The value of `--config` that reads a saved configuration."""
    return f"{Path(saved_config.__file__)}:{saved}"


@functools.cache
def reads(mode: str) -> tuple[str, ...]:
    """The groups and fields of settings that a mode reads, taken from its source."""
    names = _declared(mode, "READS")
    if names is None:
        raise AssertionError(f"mode {mode} does not define READS")
    return names


def _declared(mode: str, name: str) -> tuple[str, ...] | None:
    tree = ast.parse((registry.folder("modes") / f"{mode}.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
    return None


def check_settings(mode: str, fields: Iterable[str]) -> None:
    """Raises ConfigError for settings on the command line that a mode would ignore.

    A mode whose runs bring their own settings lists in `ONLY` the others that it reads.
    """
    only = _declared(mode, "ONLY")
    for field in fields:
        group = config_groups.group(field)
        if not group and only is not None and field not in only:
            raise ConfigError(
                f"--mode={mode} ignores --config.{field}: its runs have their own settings; "
                "leave it out"
            )
        if not _is_read(field, mode):
            users = [m for m in registry.available("modes") if {group, field} & {*reads(m)}]
            raise ConfigError(
                f"--mode={mode} ignores --config.{field}, a setting for "
                f"{', '.join(users)}; leave it out"
            )


def check_fields(argv: list[str]) -> None:
    """Raises ConfigError for `--config.F=V` if there is no setting F, or V is not of its type.

    Only the name is checked if the value is a separate argument.
    """
    for arg in argv[1:]:
        name, sep, text = arg.lstrip("-").partition("=")
        field, item, _ = name.removeprefix("config.").partition("[")
        if arg.startswith("-") and name.startswith("config."):
            config_fields.check_field(field)
            if sep and not item:
                config_fields.check_value(field, text)


def unknown_flag(argv: list[str], name: str, known: Iterable[str]) -> str:
    """Error message for an unknown flag: suggests the setting or the closest flag.

    Args:
        known: the existing flags.
    """
    mode, text = check_mode(argv), value(argv, name)
    equals = "" if text is None or text.startswith("-") else f"={text}"
    fields = config_fields.called(name)
    read = [f for f in fields if _is_read(f, mode)]
    settings = [f for f in read if f in (f"{mode}.{name}", name)] or read or fields
    if settings:
        shown = " or ".join(f"--config.{f}{equals}" for f in settings[:3])
        return f"there is no flag --{name}: settings begin with --config., so write {shown}"
    flags = [f"--{k}" for k in known]
    by_last_part = {f.rpartition(".")[2]: f"--config.{f}" for f in config_fields.known()}
    close = difflib.get_close_matches(name, by_last_part, n=1)
    near = registry.nearest(f"--{name}", flags) or "".join(
        f" (did you mean {by_last_part[m]!r}?)" for m in close
    )
    return (
        f"there is no flag --{name}{near}; the flags are {', '.join(flags)}, and --config.F=VALUE "
        "for every setting F"
    )


def _is_read(field: str, mode: str) -> bool:
    group = config_groups.group(field)
    return not group or bool({group, field} & {*reads(mode)})


def asks_for_help(argv: list[str]) -> bool:
    """Whether help is requested, by a flag or as the first word."""
    flags = any(a.startswith("-") and a.lstrip("-") in _HELP for a in argv[1:])
    return flags or argv[1:2] == ["help"]


def version() -> str:
    """The versions to quote in a bug report."""
    jax = importlib.metadata.version("jax")
    python = ".".join(map(str, sys.version_info[:3]))
    return f"diffusion_jax {diffusion_jax.__version__} (jax {jax}, python {python})"


def help_page() -> str:
    """The options and modes, on one screen."""
    lines = []
    for mode in registry.describe("modes")[1]:
        lines.append(f"    {mode.name:<12}{mode.line.partition(': ')[2].rstrip('.')}")
    names = ", ".join(n for n in packaged.names() if "_" not in n)
    indent = " " * 16
    configs = textwrap.fill(f"packaged: {names}, ...", 96, initial_indent=indent,
                            subsequent_indent=indent)  # fmt: skip
    return _USAGE.format(configs=configs, modes="\n".join(lines))

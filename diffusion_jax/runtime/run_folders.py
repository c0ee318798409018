"""What to say of a path that is not the run, or the step, that somebody meant."""

import difflib
from pathlib import Path

from diffusion_jax.runtime.storage import is_bucket, place

CHECKPOINTS = "checkpoints"
_SHOWN = 8  # names in a message


def runs_named(text: str) -> list[str]:
    """The runs that a setting names: one, or with commas between them the stages of a cascade."""
    if place(text or ".").exists():  # a folder may have a comma in its name
        return [text]
    return [name.strip() for name in text.split(",") if name.strip()] or [text]


def missing(path: str | Path) -> str:
    """A clause about a path where there is no run, with what is there instead.

    A misspelt name is answered with the nearest, a folder of runs with their names.
    """
    where, near = place(path), Path(path).parent
    if where.is_file():
        return f"{path} is a file, and a run is a folder"
    if not where.exists():
        close = difflib.get_close_matches(where.name, _runs(where.parent), n=1)
        hint = f" (did you mean {str(near / close[0])!r}?)" if close else ""
        return f"there is no folder {path}{hint}"
    inside = _runs(where)
    hint = f", but in its folders {', '.join(inside[:_SHOWN])}" if inside else ""
    return f"there is no run in {near / where.name if str(path) else 'this folder'}{hint}"


def missing_step(path: str | Path) -> str:
    """The same of a step that a run does not have, with those that it has; else nothing.

    The run may be named with its folder of checkpoints or without: `runs/digits/999`.
    """
    where, named = place(path), Path(path)
    run, own = (
        (where.parent.parent, named.parent.parent)
        if where.parent.name == CHECKPOINTS
        else (where.parent, named.parent)
    )
    there = _steps(run) if where.name.isdecimal() else []
    if not there:
        return ""
    if int(where.name) in there:
        return f"{path} is no checkpoint: name it as {own / CHECKPOINTS / where.name}"
    shown = ", ".join(map(str, there[-_SHOWN:]))
    return (
        f"there is no step {where.name} in {own}, which has {shown}: name one as "
        f"{own / CHECKPOINTS / str(there[-1])}"
    )


def _steps(run: Path) -> list[int]:
    return sorted(int(p.name) for p in _entries(run / CHECKPOINTS) if p.name.isdecimal())


def _runs(folder: Path) -> list[str]:
    return sorted(p.name for p in _entries(folder) if (p / "config.json").is_file())


def _entries(folder: Path) -> list[Path]:
    """What is in a folder of this machine; a bucket would be asked for every object."""
    if is_bucket(folder) or not folder.is_dir():
        return []
    try:
        return list(folder.iterdir())
    except OSError:
        return []

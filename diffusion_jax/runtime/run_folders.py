"""Error messages for paths that do not name an existing run or checkpoint step."""

import difflib
from pathlib import Path

from diffusion_jax.runtime.storage import is_bucket, place

CHECKPOINTS = "checkpoints"
_SHOWN = 8  # largest number of names in a message


def runs_named(text: str) -> list[str]:
    """The runs that a setting names: one, or the stages of a cascade, separated by commas."""
    if place(text or ".").exists():  # a folder may have a comma in its name
        return [text]
    return [name.strip() for name in text.split(",") if name.strip()] or [text]


def missing(path: str | Path) -> str:
    """Message for a path without a run.

    It suggests the closest name for a misspelt one, and lists the runs in a folder of runs.
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
    """Message for a checkpoint step that does not exist, listing the existing ones; else empty.

    The path may leave out the folder of checkpoints: `runs/digits/999`.
    """
    where, named = place(path), Path(path)
    run, shown_run = (
        (where.parent.parent, named.parent.parent)
        if where.parent.name == CHECKPOINTS
        else (where.parent, named.parent)
    )
    there = _steps(run) if where.name.isdecimal() else []
    if not there:
        return ""
    if int(where.name) in there:
        return f"{path} is not a checkpoint: use {shown_run / CHECKPOINTS / where.name}"
    steps = ", ".join(map(str, there[-_SHOWN:]))
    return (
        f"there is no step {where.name} in {shown_run}, which has {steps}: name one as "
        f"{shown_run / CHECKPOINTS / str(there[-1])}"
    )


def _steps(run: Path) -> list[int]:
    return sorted(int(p.name) for p in _entries(run / CHECKPOINTS) if p.name.isdecimal())


def _runs(folder: Path) -> list[str]:
    return sorted(p.name for p in _entries(folder) if (p / "config.json").is_file())


def _entries(folder: Path) -> list[Path]:
    """The entries of a local folder; for a bucket none, because listing it is slow."""
    if is_bucket(folder) or not folder.is_dir():
        return []
    try:
        return list(folder.iterdir())
    except OSError:
        return []

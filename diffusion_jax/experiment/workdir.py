"""The work directory of a run, which belongs to one configuration."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import jax
from ml_collections import ConfigDict

from diffusion_jax import saved_config
from diffusion_jax.errors import WorkdirError, short
from diffusion_jax.runtime.distributed import say
from diffusion_jax.runtime.storage import is_bucket, write_json
from diffusion_jax.training import lock, restore
from diffusion_jax.training.optimizer import same_rates
from diffusion_jax.training.tasks.base import timed

if TYPE_CHECKING:
    from diffusion_jax.experiment import Experiment

# Folders of the modes' results, which depend on a run's weights.
RESULTS = (
    "audit", "compare", "compressed", "edits", "eval", "inform", "inspect", "ood", "progressive",
    "quality", "report", "samples",
)  # fmt: skip
_PROBE = 2**20  # bytes of a test file, so that a full disk is detected
_END = {"steps", "lr_decay"}  # settings of the end of training
_PATTERNS = "[]*?\\"  # not allowed in paths: orbax uses the path as a pattern to find its files


def check_writable(folder: Path, instead: str = "use another --workdir") -> None:
    """Raises WorkdirError if a folder cannot be written to.

    A file is written and removed in the folder, or in its nearest existing parent.

    Args:
        folder: the folder, which need not exist yet.
        instead: advice for the message.
    """
    if jax.process_index():
        return
    where = folder
    while not is_bucket(where) and not os.path.lexists(where) and where != where.parent:
        where = where.parent
    probe = where / f".writable-{os.getpid()}"
    if not is_bucket(where) and os.path.islink(where) and not os.path.exists(where):
        raise WorkdirError(
            f"cannot write to {folder}: {where} is a link to {os.readlink(where)}, which does not "
            f"exist; {instead}"
        )
    try:
        if where.is_file():
            raise NotADirectoryError(f"{where} is a file")
        try:
            probe.write_bytes(bytes(_PROBE))
        finally:
            probe.unlink(missing_ok=True)
    except Exception as e:  # OSError, or the error types of a bucket's client
        why = getattr(e, "strerror", "") or short(e)
        raise WorkdirError(f"cannot write to {folder}: {why}; {instead}") from e


@contextmanager
def prepare_workdir(experiment: "Experiment") -> Iterator[Callable[[], None]]:
    """Locks the work directory for this process and configuration.

    Yields:
        A function to call before writing; see `lock.only_writer`.

    Raises:
        WorkdirError: another process writes there, the directory belongs to a run with another
            configuration (the message lists the fields that differ), or it cannot be used.
    """
    found = sorted(set(_PATTERNS) & set(str(experiment.workdir)))
    if found:
        raise WorkdirError(
            f"{experiment.workdir}: checkpoints cannot be kept in a folder with {' '.join(found)} "
            "in its path; choose another --workdir"
        )
    if jax.process_index():
        check_config(experiment)
        yield lambda: None
        return
    with lock.only_writer(experiment.workdir) as still_alone:
        check_config(experiment)
        try:
            _set_results_aside(experiment)
            write_json(experiment.workdir / "config.json", saved_config.to_dict(experiment.config))
        except Exception as e:  # OSError, or the error types of a bucket's client
            raise WorkdirError(f"cannot write to {experiment.workdir}: {short(e)}") from e
        yield still_alone


def _set_results_aside(experiment: "Experiment") -> None:
    """Moves results of another run aside when a new run begins in this folder."""
    workdir, saved = experiment.workdir, experiment.workdir / restore.FOLDER
    path, there = workdir / "config.json", [n for n in RESULTS if (workdir / n).is_dir()]
    begins = not (saved.is_dir() and any(saved.iterdir()))
    same = path.exists() and not saved_config.differences(
        saved_config.read(path), experiment.config
    )
    if not there or not begins or same:
        return
    n = 1
    while (workdir / f"earlier-{n}").exists():
        n += 1
    aside = workdir / f"earlier-{n}"
    aside.mkdir()
    for name in there:
        (workdir / name).rename(aside / name)
    say(f"results of another run or of other settings ({', '.join(there)}) were moved to {aside}")


def check_config(experiment: "Experiment") -> None:
    """Raises WorkdirError if the work directory belongs to a run with another configuration."""
    path, saved = experiment.workdir / "config.json", experiment.workdir / restore.FOLDER
    if path.exists():
        old = saved_config.read(path)
        changed = saved_config.differences(old, experiment.config)
        # Before the first checkpoint all settings may change, for example to lower the batch after
        # an error about memory.
        if (
            changed
            and saved.is_dir()
            and any(saved.iterdir())
            and not _only_later(experiment, old, changed, saved)
        ):
            raise WorkdirError(
                f"{experiment.workdir} belongs to a run with another configuration "
                f"({'; '.join(changed)}); {_advice(experiment, changed)}"
            )
    elif saved.exists():
        raise WorkdirError(
            f"{experiment.workdir} has checkpoints but no config.json; restore that file, or use a "
            "new --workdir"
        )


def _only_later(experiment: "Experiment", old: ConfigDict, changed: list[str], saved: Path) -> bool:
    """Whether only the end of training has changed, so that past steps would be the same."""
    new = experiment.config
    if not {line.split(": ")[0] for line in changed} <= _END:
        return False
    if timed(experiment.task) or new.beta_warmup:
        return False
    done = max((int(p.name) for p in saved.iterdir() if p.name.isdecimal()), default=0)
    return same_rates(old, new, done)


def _advice(experiment: "Experiment", changed: list[str]) -> str:
    c = experiment.config
    why = ""
    if any(line.split(": ")[0] in _END for line in changed):
        why = (
            f"with steps={c.steps} and lr_decay={c.lr_decay!r} the steps trained so far would have "
            "been different; "
        )
    return (
        f"{why}use the old settings, or a new --workdir, where --config.init={experiment.workdir} "
        "starts from the weights of this run"
    )

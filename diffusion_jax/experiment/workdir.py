"""The work directory of a run: claimed by one configuration."""

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

# What modes write of a run's weights, each in a folder of its own.
RESULTS = (
    "audit", "compare", "compressed", "edits", "eval", "inform", "inspect", "ood", "progressive",
    "quality", "report", "samples",
)  # fmt: skip
_PROBE = 2**20  # bytes, so that a full disk is noticed
_END = {"steps", "lr_decay"}  # settings of when training ends, and how
_PATTERNS = "[]*?\\"  # orbax looks for its own files with a pattern: the path must not be one


def check_writable(folder: Path, instead: str = "name another --workdir") -> None:
    """Refuses (`WorkdirError`) a folder that cannot be written to, before anything is computed.

    A file is written and removed: in the folder, or where it would be made.

    Args:
        folder: the folder, which need not be there yet.
        instead: what can be done about it.
    """
    if jax.process_index():
        return
    where = folder
    while not is_bucket(where) and not os.path.lexists(where) and where != where.parent:
        where = where.parent
    probe = where / f".writable-{os.getpid()}"
    try:
        if not is_bucket(where) and not where.exists():
            raise FileNotFoundError(
                f"{where} is a link to {os.readlink(where)}, which is not there"
            )
        if where.is_file():
            raise NotADirectoryError(f"{where} is a file")
        try:
            probe.write_bytes(bytes(_PROBE))
        finally:
            probe.unlink(missing_ok=True)
    except Exception as e:  # OSError; a bucket's client has types of its own
        why = getattr(e, "strerror", "") or short(e)
        raise WorkdirError(f"cannot write to {folder}: {why}; {instead}") from e


@contextmanager
def prepare_workdir(experiment: "Experiment") -> Iterator[Callable[[], None]]:
    """Claims the work directory for this process and configuration, or confirms that it is its own.

    Yields:
        What to call before writing; see `lock.only_writer`.

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
        except Exception as e:  # OSError; a bucket's client has types of its own
            raise WorkdirError(f"cannot write to {experiment.workdir}: {short(e)}") from e
        yield still_alone


def _set_results_aside(experiment: "Experiment") -> None:
    """Moves what was measured and drawn of another run out of the way of one that begins here."""
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
    say(f"results of another run or of other settings ({', '.join(there)}) are in {aside} now")


def check_config(experiment: "Experiment") -> None:
    """Refuses (`WorkdirError`) the work directory of a run with another configuration."""
    path, saved = experiment.workdir / "config.json", experiment.workdir / restore.FOLDER
    if path.exists():
        old = saved_config.read(path)
        changed = saved_config.differences(old, experiment.config)
        # Before the first checkpoint there is nothing that settings could be wrong for: whoever was
        # told that a step does not fit may lower the batch.
        if (
            changed
            and saved.is_dir()
            and any(saved.iterdir())
            and not _only_later(experiment, old, changed, saved)
        ):
            raise WorkdirError(
                f"{experiment.workdir} belongs to a run with another configuration "
                f"({'; '.join(changed)}); {_mend(experiment, changed)}"
            )
    elif saved.exists():
        raise WorkdirError(
            f"{experiment.workdir} has checkpoints but no config.json; use a new "
            "--workdir, or restore it"
        )


def _only_later(experiment: "Experiment", old: ConfigDict, changed: list[str], saved: Path) -> bool:
    """Whether what changed is when training ends, and no step already made would differ."""
    new = experiment.config
    if not {line.split(": ")[0] for line in changed} <= _END:
        return False
    if timed(experiment.task) or new.beta_warmup:
        return False
    done = max((int(p.name) for p in saved.iterdir() if p.name.isdecimal()), default=0)
    return same_rates(old, new, done)


def _mend(experiment: "Experiment", changed: list[str]) -> str:
    c = experiment.config
    why = ""
    if any(line.split(": ")[0] in _END for line in changed):
        why = (
            f"with steps={c.steps} and lr_decay={c.lr_decay!r} the steps already made would have "
            "been others; "
        )
    return (
        f"{why}use the old settings, or a new --workdir, where --config.init={experiment.workdir} "
        "starts from the weights of this run"
    )

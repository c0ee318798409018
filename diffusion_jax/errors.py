"""Errors a user can mend: each carries one clear line, and `main` turns it into an exit code."""

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path


def short(e: BaseException) -> str:
    """The first line of a message, or the name of its type."""
    return str(e).strip().splitlines()[0][:200] if str(e).strip() else type(e).__name__


def out_of_memory(e: BaseException) -> bool:
    """Whether the machine or a device had too little memory, as Python or XLA say it."""
    return isinstance(e, MemoryError) or "RESOURCE_EXHAUSTED" in str(e)


class UserError(ValueError):
    """What was wrong, what is allowed, how to mend it: in one line."""

    exit_code = 2


class ConfigError(UserError):
    """The configuration asks for something that does not exist or does not fit."""


class SpecError(ConfigError):
    """A plug-in string such as `"cfg(w=2.0)"` does not parse, or names nothing."""


@contextlib.contextmanager
def foreign(what: str) -> Iterator[None]:
    """Whatever a plug-in raises in here, as `ConfigError` in one line; `what` begins it."""
    try:
        yield
    except UserError:
        raise
    except Exception as e:
        frames = traceback.extract_tb(e.__traceback__)
        parts = [(f, Path(f.filename).parts) for f in frames if f.filename[:1] != "<"]
        own = [f for f, names in parts if "site-packages" not in names]
        where = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
        raise ConfigError(f"{what}: {type(e).__name__}: {short(e)}{where}") from e


class DataError(UserError):
    """A data set is missing, or holds values outside what it declares."""


class WorkdirError(UserError):
    """The work directory belongs to another run, or lacks what is asked of it."""


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, or of another architecture."""


class CodecError(UserError):
    """A compressed file is damaged, or was made by another model, machine or version."""


class NonFiniteError(UserError):
    """The training loss or gradient became NaN, infinite or absurd.

    Args:
        message: the line.
        step: the first such step.
    """

    exit_code = 3

    def __init__(self, message: str, step: int):
        super().__init__(message)
        self.step = step


class Preempted(BaseException):
    """The run was asked to stop; its state has been saved, and the same command resumes it.

    As with KeyboardInterrupt, no `except Exception` of a library's may swallow it: it is raised
    wherever a signal finds the program.
    """

    exit_code = 42

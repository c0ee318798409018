"""Errors that a user can fix: each has a one-line message, and `main` maps it to an exit code."""

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path


def short(e: BaseException) -> str:
    """The first line of a message, or the name of its type."""
    return str(e).strip().splitlines()[0][:200] if str(e).strip() else type(e).__name__


def out_of_memory(e: BaseException) -> bool:
    """Whether an error of Python or XLA means that a machine or device ran out of memory."""
    return isinstance(e, MemoryError) or "RESOURCE_EXHAUSTED" in str(e)


class UserError(ValueError):
    """An error whose message says in one line what is wrong, what is allowed, and how to fix it."""

    exit_code = 2


class ConfigError(UserError):
    """The configuration asks for something that does not exist or is inconsistent."""


class SpecError(ConfigError):
    """A plug-in string such as `"cfg(w=2.0)"` does not parse, or names an unknown plug-in."""


@contextlib.contextmanager
def foreign(what: str) -> Iterator[None]:
    """Converts any exception raised in this block to a one-line ConfigError prefixed by `what`."""
    try:
        yield
    except UserError:
        raise
    except Exception as e:
        frames = traceback.extract_tb(e.__traceback__)
        parts = [(f, Path(f.filename).parts) for f in frames if f.filename[:1] != "<"]
        local = [f for f, names in parts if "site-packages" not in names]
        where = f" ({local[-1].filename}, line {local[-1].lineno})" if local else ""
        raise ConfigError(f"{what}: {type(e).__name__}: {short(e)}{where}") from e


class DataError(UserError):
    """A data set is missing, or has values outside the declared range."""


class WorkdirError(UserError):
    """The work directory belongs to another run, or lacks something that is needed."""


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, or of another architecture."""


class CodecError(UserError):
    """A compressed file is damaged, or was made by another model, machine or version."""


class NonFiniteError(UserError):
    """The training loss or gradient became NaN, infinite or larger than allowed.

    Args:
        message: the one-line message.
        step: the first such step.
    """

    exit_code = 3

    def __init__(self, message: str, step: int):
        super().__init__(message)
        self.step = step


class Preempted(BaseException):
    """The run was asked to stop; its state has been saved, and the same command resumes it.

    Like KeyboardInterrupt it can be raised anywhere in the program, so it is a BaseException that
    an `except Exception` in a library cannot swallow.
    """

    exit_code = 42

"""Append-only files in a work directory, also in a bucket, which stores whole objects only."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from diffusion_jax.errors import WorkdirError
from diffusion_jax.runtime.storage import is_bucket, write

_EVERY = 30.0  # seconds between copies


class Spool:
    """A folder to append to: the work directory, or a local folder copied to it if it is a bucket.

    Args:
        workdir: where the files belong.
        go_on: names of files that are continued; all others are started afresh.
        check: called before every copy; raises `WorkdirError` if this process may no longer write.
    """

    def __init__(
        self,
        workdir: Path,
        go_on: Iterable[str] = (),
        check: Callable[[], None] | None = None,
    ):
        self._check_alone, self._overtaken = check or (lambda: None), False
        self.folder, self._to, self._sent, self._last = workdir, None, {}, time.monotonic()
        if is_bucket(workdir):
            self.folder, self._to = Path(tempfile.mkdtemp(prefix="spool-")), workdir
            for name in go_on:
                if (workdir / name).exists():
                    (self.folder / name).write_bytes((workdir / name).read_bytes())

    def due(self) -> bool:
        """Whether it is time for `send`."""
        return self._to is not None and time.monotonic() - self._last > _EVERY

    def changed(self, name: str) -> None:
        """Marks a file as rewritten, so that it is copied next time whatever its size."""
        self._sent.pop(name, None)

    def send(self) -> None:
        """Copies the files that have grown; flush them first.

        Raises:
            WorkdirError: another process has taken over. Nothing is copied then or later, because
                the files in the bucket now belong to that process.
        """
        if self._to is None or self._overtaken:
            return
        try:
            self._check_alone()
        except WorkdirError:
            self._overtaken = True
            raise
        for path in sorted(self.folder.iterdir()):
            size = path.stat().st_size
            if self._sent.get(path.name) != size:
                write(self._to / path.name, path.read_bytes()[:size])
                self._sent[path.name] = size
        self._last = time.monotonic()

    def close(self) -> None:
        """Copies once more and deletes the local folder."""
        try:
            self.send()
        finally:
            if self._to is not None:
                shutil.rmtree(self.folder, ignore_errors=True)

"""Calls gcloud: argv lists only, nothing but printing in a dry run, blips told from answers."""

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from launch.slices import LaunchError

_MISSING = "gcloud is not installed: https://cloud.google.com/sdk"
_ABSENT = ("NOT_FOUND", "was not found", "not found")
# Answers that no repetition changes.
_FINAL = ("PERMISSION_DENIED", "INVALID_ARGUMENT", "UNAUTHENTICATED", "active account",
          "RESOURCE_EXHAUSTED", "ALREADY_EXISTS", "QUOTA", "Reauthentication")  # fmt: skip


_FULL = ("ZONE_RESOURCE_POOL_EXHAUSTED", "does not have enough resources", "no more capacity")


class Blip(RuntimeError):
    """The cloud did not answer: nothing is known, so nothing may be deleted because of it."""


class CloudError(RuntimeError):
    """The cloud answered no."""


class NoCapacity(CloudError):
    """The zone has none left now; later it may."""


@dataclass(frozen=True)
class Done:
    """What a command gave."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Gcloud:
    """Runs gcloud.

    Attributes:
        dry_run: print commands, call nothing.
        pause: seconds between repetitions of a read; grows with each.
        tries: how often a read is tried.
    """

    dry_run: bool = False
    pause: float = 5.0
    tries: int = 5

    def call(self, argv: Sequence[str], timeout: float = 600.0) -> Done:
        """Runs a command once, whatever comes of it.

        Args:
            argv: the arguments after `gcloud`.
            timeout: seconds; a command that takes longer counts as failed with code 124.

        Returns:
            Its exit code and output.
        """
        try:
            done = subprocess.run(
                ["gcloud", *argv], capture_output=True, text=True, timeout=timeout,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except FileNotFoundError as e:
            raise LaunchError(_MISSING) from e
        except subprocess.TimeoutExpired as e:
            return Done(124, _text(e.stdout), _text(e.stderr))
        return Done(done.returncode, done.stdout, done.stderr)

    def show(self, argv: Sequence[str]) -> int:
        """Runs a command whose output goes straight to the terminal.

        Args:
            argv: the arguments after `gcloud`.

        Returns:
            Its exit code.
        """
        try:
            return subprocess.run(["gcloud", *argv]).returncode
        except FileNotFoundError as e:
            raise LaunchError(_MISSING) from e

    def change(self, argv: Sequence[str], absent_is_fine: bool = False) -> str:
        """Runs a command that changes something; printed, and only printed in a dry run.

        Args:
            argv: the arguments after `gcloud`.
            absent_is_fine: whether "not found" is success, as it is for deleting.

        Returns:
            Its output.

        Raises:
            CloudError: it failed.
        """
        print(shlex.join(["gcloud", *argv]), flush=True)
        if self.dry_run:
            return ""
        done = self.call(argv)
        if done.code and not (absent_is_fine and _has(done.err, _ABSENT)):
            raise _refusal(done)
        return done.out

    def change_by_any(self, tracks: Sequence[str], argv: Sequence[str]) -> str:
        """`change` by the first release track whose parser knows the flags.

        gcloud's parser refuses unknown flags with exit code 2 before anything is sent.

        Args:
            tracks: `""`, `"beta"`, `"alpha"` in the order to try.
            argv: the arguments after `gcloud TRACK`.

        Returns:
            Its output.

        Raises:
            CloudError: it failed, or no track knows the flags.
        """
        for track in tracks:
            command = [*([track] if track else []), *argv]
            print(shlex.join(["gcloud", *command]), flush=True)
            if self.dry_run:
                return ""
            done = self.call(command)
            if done.code == 2:
                continue
            if done.code:
                raise _refusal(done)
            return done.out
        raise CloudError(f"this gcloud is too old: {done.err.strip()}")

    def read(self, argv: Sequence[str]) -> Any:
        """Runs a command that reads, with JSON output, through blips.

        Args:
            argv: the arguments after `gcloud`.

        Returns:
            What it says; None if the thing does not exist, and in a dry run.

        Raises:
            Blip: no answer after all tries.
            CloudError: an answer that no repetition would change.
        """
        argv = [*argv, "--format=json"]
        if self.dry_run:
            print("# would read: " + shlex.join(["gcloud", *argv]), flush=True)
            return None
        err = ""
        for i in range(self.tries):
            if i:
                time.sleep(self.pause * i)
            done = self.call(argv, timeout=120)
            if done.code == 0:
                try:
                    return json.loads(done.out or "null")
                except ValueError:
                    err = "not JSON: " + done.out[:200]
                    continue
            err = done.err.strip()
            if done.code == 2 or _has(err, _FINAL):
                raise CloudError(err)
            if _has(err, _ABSENT):
                return None
        raise Blip(f"gcloud {argv[0]} ...: {err or 'no answer'}")


def _refusal(done: Done) -> CloudError:
    kind = NoCapacity if _has(done.err, _FULL) else CloudError
    return kind(done.err.strip() or f"exit code {done.code}")


def _text(value: str | bytes | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""


def _has(text: str, words: Sequence[str]) -> bool:
    return any(w in text for w in words)


def say(text: str) -> None:
    """A line for the user, on standard error: standard output holds commands and results."""
    print(text, file=sys.stderr, flush=True)

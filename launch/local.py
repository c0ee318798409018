"""N processes of one command on this machine, as one job: the restart loop, without a cluster.

    python launch/local.py -n 2 --devices 2 --restarts 2 -- python -m diffusion_jax.main ...

Every process gets `JAX_COORDINATOR_ADDRESS`, `DJAX_NUM_PROCESSES` and `DJAX_PROCESS_ID`, and CPU
devices of its own. The processes live and die together: the first that fails takes the others with
it, and all are started again. Exit codes of the command: 0 done; 2 a mistake of the user's, never
repeated; 42 preempted with its state saved, repeated free of charge; others are crashes and count.
"""

import argparse
import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

USER_ERROR, PREEMPTED = 2, 42
_POLL = 0.05
_PDEATHSIG = 1  # of prctl: the signal for when the parent dies


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def environment(rank: int, args: argparse.Namespace, port: int) -> dict[str, str]:
    """The environment of process `rank` of an attempt."""
    env = dict(os.environ)
    env.update({
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "DJAX_NUM_PROCESSES": str(args.n),
        "DJAX_PROCESS_ID": str(rank),
        "PYTHONUNBUFFERED": "1",
    })  # fmt: skip
    if args.devices:
        env |= {
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": str(args.devices),
            "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
        }
    return env


class Gang:
    """The processes of one attempt.

    Args:
        args: the command line.
        attempt: number of the attempt, from 0.
    """

    def __init__(self, args: argparse.Namespace, attempt: int):
        port = free_port()  # a new one each time: the old may still be in TIME_WAIT
        self._grace = args.grace
        self.processes = [
            subprocess.Popen(
                args.command, env=environment(rank, args, port), start_new_session=True,
                preexec_fn=_end_with(os.getpid()),
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
            for rank in range(args.n)
        ]  # fmt: skip
        self._readers = []
        for rank, process in enumerate(self.processes):
            prefix = f"[{attempt}:{rank}] ".encode()
            reader = threading.Thread(target=_copy, args=(process.stdout, prefix), daemon=True)
            reader.start()
            self._readers.append(reader)

    def send(self, number: int) -> None:
        """Sends a signal to every process and its children."""
        for process in self.processes:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):  # it ended in between
                    os.killpg(process.pid, number)

    def wait(self, stopping: threading.Event) -> int:
        """Waits for all; kills the rest when one has failed, or when `stopping` is old.

        Args:
            stopping: set when this program was asked to stop.

        Returns:
            The first failure's code, or 0.
        """
        first, deadline = 0, None
        while True:
            codes = [p.poll() for p in self.processes]
            first = first or next((c for c in codes if c), 0)
            if all(c is not None for c in codes):
                break
            if deadline is None and (first or stopping.is_set()):
                deadline = time.monotonic() + self._grace
            if deadline is not None and time.monotonic() > deadline:
                self.send(signal.SIGKILL)
            time.sleep(_POLL)
        self.send(signal.SIGKILL)
        for reader in self._readers:
            reader.join(timeout=5)
        return first


def _end_with(parent: int) -> Callable[[], None] | None:
    """What a new process does first, so that it ends when this one is killed; on Linux only."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None) if sys.platform == "linux" else None
    if prctl is None:
        return None

    def ask() -> None:
        prctl(_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # killed already
            os._exit(1)

    return ask


def _copy(source, prefix: bytes) -> None:
    """Copies lines to standard output, each whole and with its prefix."""
    for line in source:
        sys.stdout.buffer.write(prefix + line.rstrip(b"\n") + b"\n")
        sys.stdout.buffer.flush()


def run(args: argparse.Namespace) -> int:
    """Runs the command until it is done, hopeless, or out of restarts.

    Args:
        args: the command line.

    Returns:
        The exit code: the job's own, with a signal's as 128 + its number.
    """
    stopping, current = threading.Event(), []

    def stop(number: int, _frame: object) -> None:
        stopping.set()
        for gang in current:
            gang.send(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    attempt = failures = 0
    while True:
        gang = Gang(args, attempt)
        current[:] = [gang]
        if stopping.is_set():
            gang.send(signal.SIGTERM)  # the request came while the processes were being started
        code = gang.wait(stopping)
        attempt += 1
        if stopping.is_set() or code in (0, USER_ERROR):
            break
        if code != PREEMPTED:
            failures += 1
            if failures > args.restarts:
                break
        _say(f"exit code {code}; starting again, {args.restarts - failures} restarts left")
        stopping.wait(args.backoff)
        if stopping.is_set():
            break
    _say(f"exit code {code} after {attempt} attempts")
    return 128 - code if code < 0 else code


def _say(text: str) -> None:
    print(f"[local] {text}", flush=True)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Reads the command line; the command comes after `--`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=2, help="processes (default 2)")
    parser.add_argument(
        "--devices", type=int, default=1, help="CPU devices of each; 0: leave the platform alone"
    )
    parser.add_argument("--restarts", type=int, default=0, help="restarts after a crash")
    parser.add_argument(
        "--grace", type=float, default=30.0, help="seconds the others have after the first failed"
    )
    parser.add_argument("--backoff", type=float, default=1.0, help="seconds between attempts")
    argv = list(argv)
    cut = argv.index("--") if "--" in argv else len(argv)
    args = parser.parse_args(argv[:cut])
    args.command = argv[cut + 1 :]
    if not args.command:
        parser.error("give the command after --, for example -- python -m diffusion_jax.main ...")
    if shutil.which(args.command[0]) is None:
        parser.error(f"{args.command[0]}: no such program")
    if args.n < 1 or args.devices < 0 or args.restarts < 0:
        parser.error("-n must be at least 1, --devices and --restarts at least 0")
    return args


if __name__ == "__main__":
    sys.exit(run(parse(sys.argv[1:])))

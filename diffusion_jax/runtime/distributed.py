"""Runs several processes as one job: joining a cluster, checking that they agree, leaving.

After an uncaught exception on one host the others would wait for minutes at the shutdown barrier.
Hooks therefore end the process at once, and the launcher stops the rest.
"""

import hashlib
import json
import os
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

from diffusion_jax.errors import ConfigError

_PROCESSES, _ID = "DJAX_NUM_PROCESSES", "DJAX_PROCESS_ID"
# Environment variables and defaults in seconds: the time to wait for a missing peer at the start,
# to notice one that is dead or frozen, and to wait at the end.
_TIMEOUTS = {
    "initialization_timeout": ("DJAX_START_TIMEOUT", 300),
    "heartbeat_timeout_seconds": ("DJAX_HEARTBEAT_TIMEOUT", 30),
    "shutdown_timeout_seconds": ("DJAX_END_TIMEOUT", 300),
}
# Variables of clusters that JAX detects itself.
_DETECTED = ("SLURM_STEP_NODELIST", "OMPI_MCA_orte_hnp_uri", "TPU_WORKER_HOSTNAMES")


def install_hooks() -> None:
    """Makes uncaught exceptions print their traceback and end the process at once with code 1."""

    def end(kind: type, value: BaseException, trace: Any) -> None:
        traceback.print_exception(kind, value, trace)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)

    def end_thread(args: Any) -> None:
        if args.exc_type is not SystemExit:
            end(args.exc_type, args.exc_value, args.exc_traceback)

    sys.excepthook = end
    threading.excepthook = end_thread


def join(env: Mapping[str, str] = os.environ) -> bool:
    """Joins the cluster, if there is one, before any device is used.

    Args:
        env: the environment: `JAX_COORDINATOR_ADDRESS`, `DJAX_NUM_PROCESSES` and
            `DJAX_PROCESS_ID` describe a cluster by hand; SLURM, Open MPI and TPU hosts are
            detected. `DJAX_START_TIMEOUT`, `DJAX_HEARTBEAT_TIMEOUT` and `DJAX_END_TIMEOUT` are in
            seconds.

    Returns:
        Whether there is a cluster.

    Raises:
        ConfigError: the description is incomplete, or the cluster cannot be joined. If a peer does
            not join in time, the process ends with code 1 and an error message.
    """
    by_hand = [k for k in (_PROCESSES, _ID) if k in env]
    on_tpu = os.path.exists("/dev/accel0") or os.path.exists("/dev/vfio/0")
    if not by_hand and not on_tpu and not any(env.get(k) for k in _DETECTED):
        return False
    who = {}
    if by_hand:
        if len(by_hand) == 1 or "JAX_COORDINATOR_ADDRESS" not in env:
            raise ConfigError(
                f"a cluster by hand needs JAX_COORDINATOR_ADDRESS, {_PROCESSES} and {_ID}"
            )
        try:
            who = {"num_processes": int(env[_PROCESSES]), "process_id": int(env[_ID])}
        except ValueError as e:
            raise ConfigError(f"{_PROCESSES} and {_ID} must be whole numbers: {e}") from e
    try:
        timeouts = {k: int(env.get(name, s)) for k, (name, s) in _TIMEOUTS.items()}
    except ValueError as e:
        names = ", ".join(name for name, _ in _TIMEOUTS.values())
        raise ConfigError(f"{names} must be whole seconds: {e}") from e
    import jax

    # JAX aborts the process at its own timeout, which cannot be caught: end it before that.
    patience = timeouts["initialization_timeout"]
    watch = threading.Timer(patience, _end_incomplete, (patience, env))
    watch.daemon = True
    watch.start()
    timeouts["initialization_timeout"] += 30
    try:
        jax.distributed.initialize(**who, **timeouts)
    except RuntimeError as e:
        raise ConfigError(f"could not join the cluster: {str(e).splitlines()[0]}") from e
    finally:
        watch.cancel()
    return True


def _end_incomplete(seconds: int, env: Mapping[str, str]) -> None:
    where = env.get("JAX_COORDINATOR_ADDRESS", "the first process")
    print(
        f"error: after {seconds} s not all processes of the cluster have joined at {where}: start "
        "every one of them, and check that each can reach that address",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)  # not 2: a launcher may try again


def agree(what: Mapping[str, Any]) -> None:
    """Checks that all processes run the same code and configuration.

    Args:
        what: values that must be equal in all processes, by name.

    Raises:
        ConfigError: a process has a different value.
    """
    import jax

    if jax.process_count() == 1:
        return
    import numpy as np
    from jax.experimental import multihost_utils

    texts = dict(_fields(what))
    for fields in ({"set of fields": ", ".join(texts)}, texts):
        digests = [hashlib.sha256(text.encode()).digest() for text in fields.values()]
        mine = np.frombuffer(b"".join(digests), np.uint8).reshape(len(fields), -1)
        theirs = multihost_utils.process_allgather(mine)  # [processes, fields, bytes]
        for i, (name, text) in enumerate(fields.items()):
            other = np.flatnonzero((theirs[:, i] != theirs[0, i]).any(1))
            if other.size:
                raise ConfigError(
                    f"process {other[0]} has another {name} than process 0; here (process "
                    f"{jax.process_index()}) it is {text[:200]}: start every process alike"
                )


def _fields(what: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every value as text, under its dotted name.

    Yields:
        Name and text.
    """
    for name, value in sorted(what.items()):
        if isinstance(value, Mapping):
            yield from _fields(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value, sort_keys=True, default=str)


def meet(where: str) -> None:
    """Waits until every process has called it; does nothing with a single process.

    Args:
        where: a name for the place in the code, the same in every process.
    """
    import jax

    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(where)


def leave() -> None:
    """Waits for the other processes and leaves the cluster; every process must call it."""
    import jax

    jax.distributed.shutdown()


def say(text: str) -> None:
    """Prints a result, on the first process only."""
    import jax

    if jax.process_index() == 0:
        print(text, flush=True)


def describe_devices() -> str:
    """Number and kind of the devices, for example `"1 x cpu"`."""
    import jax

    devices = jax.devices()
    return f"{len(devices)} x {devices[0].device_kind}"

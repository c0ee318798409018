"""Processor cores: how many this process may use, and how much processor time it has used."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")  # of containers and services, on Linux
_MINE = Path("/proc/self/cgroup")


def available() -> int:
    """Number of cores this process may use, by its affinity and container quota; at least 1."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, math.ceil(min([count or 1, *_quotas()])))


def used() -> float:
    """Processor time in seconds, of all threads of this process and the children it waited for."""
    now = os.times()
    return now.user + now.system + now.children_user + now.children_system


def _quotas() -> Iterator[float]:
    """Quotas of the process's control group and of its parents.

    Yields:
        Each quota, in cores.
    """
    for folder in _folders():
        try:
            files = ("cpu.max",) if (folder / "cpu.max").exists() else (
                "cpu.cfs_quota_us", "cpu.cfs_period_us"
            )  # fmt: skip
            quota, period = " ".join((folder / f).read_text() for f in files).split()
            if int(quota) > 0 and int(period) > 0:
                yield int(quota) / int(period)
        except (OSError, ValueError):  # no limit ("max", in version 1 -1), or no such group
            continue


def _folders() -> Iterator[Path]:
    """Folders that may contain quotas.

    Yields:
        Folders of control groups; in a container its own group is the root.
    """
    roots = [_GROUPS, _GROUPS / "cpu", _GROUPS / "cpu,cpuacct"]
    yield from roots
    try:
        lines = _MINE.read_text().splitlines()
    except OSError:
        return
    for line in lines:  # number:controllers:path
        _, controllers, where = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        below = Path(where.lstrip("/"))
        for part in (below, *below.parents):
            yield from (root / part for root in (roots[1:] if controllers else roots[:1]))

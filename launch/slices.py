"""What a TPU slice is: its name, size, machine, labels and rough price; nothing is called here."""

import getpass
import math
import re
import time
from dataclasses import dataclass

APP = "diffusion-jax"
# Per chip and hour on demand in US dollars, list prices in US regions, written down in late 2025
# from memory of the public price list: an order of magnitude to stop mistakes, not a bill.
PRICE = {"v2": 1.2, "v3": 2.2, "v4": 3.3, "v5litepod": 1.2, "v5p": 4.2, "v6e": 2.7, "tpu7x": 12.0}
SPOT = 0.5  # spot slices cost at most about this part of it
RUNTIME = {
    "v2": "tpu-ubuntu2204-base",
    "v3": "tpu-ubuntu2204-base",
    "v4": "tpu-ubuntu2204-base",
    "v5litepod": "v2-alpha-tpuv5-lite",
    "v5p": "v2-alpha-tpuv5",
    "v6e": "v2-alpha-tpuv6e",
}
_CORES = ("v2", "v3", "v4", "v5p", "tpu7x")  # named by cores, two of them on a chip
CAPACITIES = ("spot", "on-demand", "reserved", "flex-start")


class LaunchError(ValueError):
    """A mistake of the user's: one line, exit code 2."""


@dataclass(frozen=True)
class Slice:
    """One slice, as asked for.

    Attributes:
        name: its name, which is the key of everything.
        project: the cloud project.
        zone: the zone.
        type: generation and size as the TPU API writes it: `"v5litepod-8"`.
        capacity: `"spot"`, `"on-demand"`, `"reserved"` or `"flex-start"`.
        hours: after how long it is deleted (by the server where that is possible) or reaped.
        wait_hours: how long the request may queue.
        service_account: identity of the hosts; empty for the project's default.
        image: boot image family for Compute Engine; empty for the known one.
    """

    name: str
    project: str
    zone: str
    type: str
    capacity: str = "spot"
    hours: float = 24.0
    wait_hours: float = 6.0
    service_account: str = ""
    image: str = ""

    def __post_init__(self):
        for field in ("name", "project", "zone", "type"):
            if not getattr(self, field):
                raise LaunchError(f"--{field} is needed")
        if not re.fullmatch(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", self.name):
            raise LaunchError(
                f"--name={self.name}: small letters, digits and dashes, a letter first, at most 40"
            )
        match = re.fullmatch(r"([a-z0-9]+)-(\d+)", self.type)
        if not match or match[1] not in PRICE or int(match[2]) < 1:
            known = ", ".join(f"{g}-N" for g in PRICE)
            raise LaunchError(f"--type={self.type}: allowed are {known}, for example v5litepod-8")
        if self.capacity not in CAPACITIES:
            raise LaunchError(f"--capacity={self.capacity}: allowed are {', '.join(CAPACITIES)}")
        if not all(math.isfinite(h) and h > 0 for h in (self.hours, self.wait_hours)):
            raise LaunchError("--hours and --wait-hours must be positive and finite")

    @property
    def generation(self) -> str:
        """For example `"v5litepod"`."""
        return self.type.split("-")[0]

    @property
    def region(self) -> str:
        """The zone's region."""
        return self.zone.rpartition("-")[0]

    @property
    def chips(self) -> int:
        """Chips of the slice; some generations are named by cores."""
        n = int(self.type.split("-")[1])
        return max(n // 2, 1) if self.generation in _CORES else n

    @property
    def hosts(self) -> int:
        """Hosts of the slice: up to 8 chips on one for v5e and v6e, 4 otherwise."""
        if self.generation in ("v5litepod", "v6e") and self.chips <= 8:
            return 1
        return -(-self.chips // 4)

    def labels(self, now: float | None = None) -> str:
        """Labels as gcloud takes them: whose it is and when it may be reaped."""
        now = time.time() if now is None else now
        owner = re.sub(r"[^a-z0-9_-]", "-", _user().lower())[:60] or "unknown"
        expires = int(now + 3600 * self.hours)
        return f"app={APP},owner={owner},slice={self.name},expires={expires}"

    def price(self) -> float:
        """Roughly, in US dollars an hour."""
        part = SPOT if self.capacity in ("spot", "flex-start") else 1.0
        return PRICE[self.generation] * self.chips * part


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def age(seconds: float) -> str:
    """For example `"3.5 h"`."""
    return f"{seconds / 3600:.1f} h"

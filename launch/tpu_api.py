"""Back end `tpu`: queued resources of the Cloud TPU API. v2 to v6e; nothing newer exists there."""

from collections.abc import Sequence
from dataclasses import dataclass

from launch.gcloud import Gcloud
from launch.slices import APP, RUNTIME, LaunchError, Slice

_NODE_DEAD = ("PREEMPTED", "TERMINATED", "STOPPED", "STOPPING", "DELETING", "HIDDEN")
_QR = ("compute", "tpus", "queued-resources")
_VM = ("compute", "tpus", "tpu-vm")


@dataclass(frozen=True)
class TpuApi:
    """The verbs of a slice on the Cloud TPU API.

    Attributes:
        gcloud: how to call.
        slice: the slice.
    """

    gcloud: Gcloud
    slice: Slice

    def __post_init__(self):
        if self.slice.generation not in RUNTIME:
            raise LaunchError(
                f"{self.slice.generation} does not exist on the Cloud TPU API; use --api=gce"
            )

    def _where(self) -> list[str]:
        return [f"--zone={self.slice.zone}", f"--project={self.slice.project}"]

    def state(self) -> str:
        """`"none"`, `"queued"`, `"ready"`, `"failed"` or `"dead"` (preempted)."""
        found = self.gcloud.read([*_QR, "describe", self.slice.name, *self._where()])
        if found is None:
            return "none"
        state = found.get("state", {})
        state = state.get("state", "") if isinstance(state, dict) else state
        if state == "FAILED":
            return "failed"
        if state in ("SUSPENDING", "SUSPENDED", "DELETING"):
            return "dead"  # none of them becomes ACTIVE again
        if state != "ACTIVE":
            return "queued"  # also what is new to us: nothing is deleted for that
        node = self.gcloud.read([*_VM, "describe", self.slice.name, *self._where()])
        if node is None or node.get("state") in _NODE_DEAD:
            return "dead"
        return "ready" if node.get("state") == "READY" else "queued"

    def create(self, now: float | None = None) -> None:
        """Asks for the slice; the request is forgotten by the server after `wait_hours`."""
        s = self.slice
        capacity = {
            "spot": ["--spot"],
            "on-demand": [],
            "reserved": ["--reserved"],
            "flex-start": [
                "--provisioning-model=flex-start", f"--max-run-duration={int(s.hours * 3600)}s",
            ],
        }[s.capacity]  # fmt: skip
        account = [f"--service-account={s.service_account}"] if s.service_account else []
        argv = [
            *_QR, "create", s.name, f"--node-id={s.name}", *self._where(),
            f"--accelerator-type={s.type}", f"--runtime-version={RUNTIME[s.generation]}",
            *capacity, *account, f"--valid-until-duration={int(s.wait_hours * 3600)}s",
            f"--labels={s.labels(now)}", "--async", "--quiet",
        ]  # fmt: skip
        if s.capacity == "flex-start":
            self.gcloud.change_by_any(("", "alpha"), argv)
        else:
            self.gcloud.change(argv)

    def delete_commands(self, name: str, several: bool | None = None) -> list[list[str]]:
        """The commands that delete the slice `name`, its node included."""
        return [[*_QR, "delete", name, *self._where(), "--force", "--quiet"]]

    def hosts(self) -> list[str]:
        """What ssh is run on: the slice as a whole."""
        return [self.slice.name]

    def ssh(self, host: str, command: str, worker: str = "all") -> list[str]:
        """The argv that runs a command on every worker, or on one."""
        return [*_VM, "ssh", host, *self._where(), f"--worker={worker}", f"--command={command}",
                "--quiet"]  # fmt: skip

    def scp(self, host: str, source: str, target: str) -> list[str]:
        """The argv that copies a file to every worker."""
        return [*_VM, "scp", source, f"{host}:{target}", *self._where(), "--worker=all", "--quiet"]

    def ours(self) -> list[dict]:
        """All slices of this application in the zone: name, owner, expires, state."""
        found = self.gcloud.read([*_QR, "list", *self._where()]) or []
        return [one for one in map(_record, found) if one]


def _record(found: dict) -> dict | None:
    specs: Sequence[dict] = found.get("tpu", {}).get("nodeSpec", [])
    labels = specs[0].get("node", {}).get("labels", {}) if specs else {}
    if labels.get("app") != APP:
        return None
    state = found.get("state", {})
    return {
        "name": found["name"].rpartition("/")[2],
        "owner": labels.get("owner", "?"),
        "expires": labels.get("expires", ""),
        "state": state.get("state", "?") if isinstance(state, dict) else state,
    }

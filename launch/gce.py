"""Back end `gce`: TPUs as Compute Engine instances; several hosts as a managed group in bulk mode.

Every instance carries a time limit after which the server deletes it, whatever happens to us.
"""

from dataclasses import dataclass

from launch.gcloud import Gcloud
from launch.slices import APP, LaunchError, Slice

_MACHINE = {"v6e": "ct6e-standard", "v5p": "ct5p-hightpu", "tpu7x": "tpu7x-standard"}
_FAMILY = dict.fromkeys(("v6e", "v5p"), "ubuntu-accel-2204-amd64-tpu-v5e-v5p-v6e")
# Shapes of slices of several hosts, by chips.
_SHAPE = {
    "v6e": {16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"},
    "v5p": {8: "2x2x2", 16: "2x2x4", 32: "2x4x4", 64: "4x4x4", 128: "4x4x8"},
    "tpu7x": {8: "2x2x2", 16: "2x2x4", 32: "2x4x4", 64: "4x4x4", 128: "4x4x8"},
}
_MODEL = {"spot": "SPOT", "on-demand": "STANDARD", "reserved": "RESERVATION_BOUND",
          "flex-start": "FLEX_START"}  # fmt: skip
_GROUP = ("compute", "instance-groups", "managed")
_TRACKS = ("", "beta", "alpha")


@dataclass(frozen=True)
class Gce:
    """The verbs of a slice on Compute Engine.

    Attributes:
        gcloud: how to call.
        slice: the slice.
    """

    gcloud: Gcloud
    slice: Slice

    def __post_init__(self):
        s = self.slice
        if s.generation not in _MACHINE:
            raise LaunchError(f"--api=gce has {', '.join(_MACHINE)}; use --api=tpu for {s.type}")
        if s.hosts > 1 and s.chips not in _SHAPE[s.generation]:
            sizes = ", ".join(str(n) for n in _SHAPE[s.generation])
            raise LaunchError(f"--type={s.type}: slices of several hosts have {sizes} chips")
        if not (s.image or s.generation in _FAMILY):
            raise LaunchError(f"--image is needed for {s.generation}: its boot image family")

    @property
    def _project(self) -> str:
        return f"--project={self.slice.project}"

    def _where(self) -> list[str]:
        return [f"--zone={self.slice.zone}", self._project]

    def _machine(self, now: float | None) -> list[str]:
        s = self.slice
        per_host = s.chips if s.hosts == 1 else 4
        account = [f"--service-account={s.service_account}"] if s.service_account else []
        return [
            f"--machine-type={_MACHINE[s.generation]}-{per_host}t",
            "--image-project=ubuntu-os-accelerator-images",
            f"--image-family={s.image or _FAMILY[s.generation]}",
            f"--provisioning-model={_MODEL[s.capacity]}",
            f"--max-run-duration={int(s.hours * 3600)}s", "--instance-termination-action=DELETE",
            "--maintenance-policy=TERMINATE", "--scopes=cloud-platform", *account,
            "--boot-disk-size=100GB", f"--labels={s.labels(now)}",
        ]  # fmt: skip

    def create(self, now: float | None = None) -> None:
        """Asks for the slice."""
        s, machine = self.slice, self._machine(now)
        if s.hosts == 1:
            argv = ["compute", "instances", "create", s.name, *self._where(), *machine]
            self.gcloud.change_by_any(_TRACKS, [*argv, "--quiet"])
            return
        shape = _SHAPE[s.generation][s.chips]
        self.gcloud.change_by_any(_TRACKS, [
            "compute", "resource-policies", "create", "workload-policy", s.name,
            "--type=HIGH_THROUGHPUT", f"--accelerator-topology={shape}", f"--region={s.region}",
            self._project, "--quiet",
        ])  # fmt: skip
        self.gcloud.change_by_any(_TRACKS, [
            "compute", "instance-templates", "create", s.name,
            f"--instance-template-region={s.region}", self._project, *machine, "--quiet",
        ])  # fmt: skip
        url = f"https://www.googleapis.com/compute/v1/projects/{s.project}/regions/{s.region}"
        self.gcloud.change_by_any(_TRACKS, [
            *_GROUP, "create", s.name, *self._where(), "--size=0",
            f"--template={url}/instanceTemplates/{s.name}", "--target-size-policy-mode=bulk",
            "--default-action-on-vm-failure=do-nothing",
            f"--workload-policy={url}/resourcePolicies/{s.name}", "--quiet",
        ])  # fmt: skip
        self.gcloud.change(
            [*_GROUP, "resize", s.name, *self._where(), f"--size={s.hosts}", "--quiet"]
        )

    def _instances(self) -> list[dict] | None:
        s = self.slice
        if s.hosts == 1:
            found = self.gcloud.read(["compute", "instances", "describe", s.name, *self._where()])
            return None if found is None else [found]
        if self.gcloud.read([*_GROUP, "describe", s.name, *self._where()]) is None:
            return None
        return self.gcloud.read([*_GROUP, "list-instances", s.name, *self._where()]) or []

    def state(self) -> str:
        """`"none"`, `"queued"`, `"ready"` or `"dead"` (preempted or expired)."""
        found = self._instances()
        if found is None:
            return "none"
        states = [i.get("instanceStatus") or i.get("status") or "PENDING" for i in found]
        if any(s in ("STOPPING", "STOPPED", "SUSPENDED", "TERMINATED") for s in states):
            return "dead"
        return "ready" if states == ["RUNNING"] * self.slice.hosts else "queued"

    def delete_commands(self, name: str, several: bool | None = None) -> list[list[str]]:
        """The commands that delete the slice `name`, which has `several` hosts or not.

        The group is deleted, not its instances: it would create them again.
        """
        if not (self.slice.hosts > 1 if several is None else several):
            return [["compute", "instances", "delete", name, *self._where(), "--quiet"]]
        region = [f"--region={self.slice.region}", self._project, "--quiet"]
        return [
            [*_GROUP, "delete", name, *self._where(), "--quiet"],
            ["compute", "instance-templates", "delete", name, *region],
            ["compute", "resource-policies", "delete", name, *region],
        ]

    def hosts(self) -> list[str]:
        """The instances of the slice."""
        if self.slice.hosts == 1:
            return [self.slice.name]
        return sorted(i["instance"].rpartition("/")[2] for i in self._instances() or [])

    def ssh(self, host: str, command: str, worker: str = "all") -> list[str]:
        """The argv that runs a command on one instance."""
        return ["compute", "ssh", host, *self._where(), f"--command={command}", "--quiet"]

    def scp(self, host: str, source: str, target: str) -> list[str]:
        """The argv that copies a file to one instance."""
        return ["compute", "scp", source, f"{host}:{target}", *self._where(), "--quiet"]

    def ours(self) -> list[dict]:
        """All slices of this application in the zone: name, owner, expires, state, several."""
        argv = ["compute", "instances", "list", self._project, f"--zones={self.slice.zone}",
                f"--filter=labels.app={APP}"]  # fmt: skip
        slices: dict[str, dict] = {}
        for one in self.gcloud.read(argv) or []:
            labels = one.get("labels", {})
            if labels.get("app") != APP:
                continue
            name = labels.get("slice") or one["name"]
            old = slices.get(name, {"several": name != one["name"]})
            slices[name] = old | {
                "name": name, "owner": labels.get("owner", "?"),
                "expires": labels.get("expires", ""), "state": one.get("status", "?"),
            }  # fmt: skip
        return list(slices.values())

"""One run on all hosts of a slice, which live and die together: ship the code, start, ask, stop."""

import gzip
import hashlib
import io
import re
import shlex
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.gcloud import CloudError, Done
from launch.slices import LaunchError

ROOT = Path(__file__).resolve().parent.parent
CODE = "djax-code"
DATA = "tensorflow_datasets"  # where data sets are looked for unless told otherwise
_LINE = re.compile(r"^djax-status (\S+) (\S+) (running|exited|absent) (\S+)\s*$", re.M)
_BUSY = 3  # exit code of host.sh
# Whole names, also as the end of longer ones: `hf_token=`, but not `cond_tokens=`.
_SECRET = re.compile(
    r"(?<![a-z0-9/])(token|secret|password|(api|access|secret|private)[-_]?key)=", re.I
)


class Busy(LaunchError):
    """The hosts hold a run that is not this one: it is left alone, and so is the slice."""


@dataclass(frozen=True)
class Host:
    """What a host says of its run.

    Attributes:
        name: the host.
        unit: the run it holds.
        state: `"running"`, `"exited"` or `"absent"`.
        code: the exit code if it has exited.
    """

    name: str
    unit: str
    state: str
    code: int | None


def verdict(found: Sequence[Host], unit: str, hosts: int) -> tuple[str, int]:
    """What the hosts' answers mean for the run as a whole.

    Args:
        found: the answers.
        unit: the run.
        hosts: how many hosts there are.

    Returns:
        `("unreachable", 255)`, `("done", 0)`, `("mistake", 2)`, `("preempted", 42)`,
        `("crashed", code)`, `("finishing", 0)` if some are done and others run, or
        `("running", 0)`.
    """
    codes = [h.code for h in found if h.unit == unit and h.state == "exited"]
    bad = [c for c in codes if c]
    if 2 in bad:
        return "mistake", 2
    if len(found) < hosts:
        # A failure that somebody reports counts, also while others do not answer.
        return ("crashed", bad[0]) if bad and set(bad) != {42} else ("unreachable", 255)
    crashes = [c for c in bad if c != 42]
    if crashes:
        return "crashed", crashes[0]
    if bad:
        return "preempted", 42
    running = [h for h in found if h.unit == unit and h.state == "running"]
    if len(codes) == hosts:
        return "done", 0
    if len(codes) + len(running) < hosts:
        return "crashed", 1  # a host lost its run: it was rebooted, or all was killed
    return ("finishing", 0) if codes else ("running", 0)


def tree() -> list[str]:
    """The files of the working tree, as git sees it.

    Raises:
        LaunchError: git does not know this tree, or is not installed.
    """
    argv = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True)
    except FileNotFoundError as e:
        raise LaunchError("git is not installed; it names the files that hosts are sent") from e
    names = sorted({n for n in done.stdout.split("\0") if n and (ROOT / n).is_file()})
    if done.returncode or "launch/host.sh" not in names:
        said = (done.stderr.strip().splitlines() or ["it does not hold launch/host.sh"])[0]
        raise LaunchError(f"hosts are sent what git sees of {ROOT}, a clone: {said}")
    return names


def bundle() -> tuple[str, bytes]:
    """The working tree, as git sees it, packed; the same tree gives the same bytes.

    Returns:
        The first digits of its SHA-256, and the gzipped tar.
    """
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        for name in tree():
            info = tar.gettarinfo(str(ROOT / name), name)
            info.mtime, info.uid, info.gid, info.uname, info.gname = 0, 0, 0, "", ""
            with open(ROOT / name, "rb") as f:
                tar.addfile(info, f)
    packed = gzip.compress(plain.getvalue(), mtime=0)
    return hashlib.sha256(packed).hexdigest()[:16], packed


@dataclass(frozen=True)
class Gang:
    """A run on a slice.

    Attributes:
        backend: `TpuApi` or `Gce`.
        workdir: where the run writes; `gs://` if there are several hosts.
        arguments: of `python -m diffusion_jax.main`.
        retries: restarts each host makes by itself.
        data: `gs://` folder that each host copies before it starts; empty for none.
    """

    backend: Any
    workdir: str
    arguments: tuple[str, ...] = ()
    retries: int = 0
    data: str = ""

    def __post_init__(self):
        hosts = self.backend.slice.hosts
        if self.workdir and hosts > 1 and not self.workdir.startswith("gs://"):
            raise LaunchError(
                f"--workdir={self.workdir}: a slice of {hosts} hosts needs a gs:// folder that all "
                "of them can reach"
            )
        if self.workdir and not self.workdir.startswith(("gs://", "/")):
            raise LaunchError(
                f"--workdir={self.workdir}: it would lie inside the code on the host, which every "
                "edit replaces; give a gs:// folder, or a path that begins with /"
            )
        for word in self.arguments:
            if _SECRET.search(word):
                raise LaunchError(
                    f"{word.partition('=')[0]}: looks like a secret; command lines can be read by "
                    "everybody on the host. Give the slice a --service-account instead"
                )

    @property
    def unit(self) -> str:
        """The run's name on the hosts: the same for the same workdir."""
        return "djax-" + hashlib.sha256(self.workdir.encode()).hexdigest()[:8]

    def everywhere(self, command: str, timeout: float = 180.0) -> list[Done]:
        """Runs a command on all hosts; nothing is raised for what it answers."""
        gcloud, hosts = self.backend.gcloud, self.backend.hosts()
        if gcloud.dry_run:
            for host in hosts or ["HOST"]:
                print(shlex.join(["gcloud", *self.backend.ssh(host, command)]), flush=True)
            return []
        with ThreadPoolExecutor(max(len(hosts), 1)) as pool:
            return list(
                pool.map(lambda h: gcloud.call(self.backend.ssh(h, command), timeout), hosts)
            )

    def _host(self, *words: str) -> str:
        return f"bash ~/{CODE}/current/launch/host.sh {shlex.join(words)}"

    def ask(self) -> list[Host]:
        """What the hosts say now; hosts that do not answer are missing."""
        nothing = 'echo "djax-status $(hostname) none absent -"'
        command = f"if [ -e ~/{CODE}/current ]; then {self._host('status')}; else {nothing}; fi"
        found = {}
        for done in self.everywhere(command, timeout=120):
            for name, unit, state, code in _LINE.findall(done.out):
                number = int(code) if code.lstrip("-").isdigit() else None
                found[name] = Host(name, unit, state, number)
        return list(found.values())

    def start(self) -> None:
        """Ships the code and starts the run on all hosts; where it runs already, nothing happens.

        Raises:
            Busy: a host holds another run; what was started on the others is stopped.
            CloudError: a host refused, or could not be reached by ssh.
        """
        sha, packed = bundle()
        name = f"{sha}.tgz"
        gcloud = self.backend.gcloud
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(packed)
            if self.workdir.startswith("gs://"):
                url = f"{self.workdir.rstrip('/')}/code/{name}"
                gcloud.change(["storage", "cp", "--no-clobber", str(path), url])
                fetch = f"gcloud storage cp {shlex.quote(url)} - | tar xz -C $d"
            else:
                for host in self.backend.hosts() or ["HOST"]:
                    gcloud.change(self.backend.scp(host, str(path), name))
                fetch = f"tar xzf ~/{name} -C $d"
        copy = ""
        if self.data:  # a slice created again after a preemption has empty disks
            url, into = shlex.quote(self.data.rstrip("/")), f"$HOME/{DATA}"
            copy = f"mkdir -p {into}; gcloud storage rsync --recursive {url} {into}; "
        words = (self.unit, self.workdir, str(self.retries), "-m", "diffusion_jax.main",
                 *self.arguments, f"--workdir={self.workdir}")  # fmt: skip
        script = (
            f"d=$HOME/{CODE}/{sha}; if [ ! -e $d/.whole ]; then mkdir -p $d; {fetch}; "
            f"touch $d/.whole; fi; {copy}"
            # A host that is busy answers with an error, and keeps the other run's tree.
            f"bash $d/launch/host.sh {shlex.join(('start', *words))}; "
            f"ln -sfn $d $HOME/{CODE}/current"
        )
        command = shlex.join(["bash", "-euo", "pipefail", "-c", script])
        answers = self.everywhere(command, 3600 if self.data else 600)
        if any(x.code == _BUSY or (x.code and "busy with another run" in x.err) for x in answers):
            self.stop()
            raise Busy(
                f"{self.backend.slice.name} is busy with another run, which is left alone; take "
                "another --name"
            )
        for done in answers:
            if done.code:
                raise CloudError(f"start: exit code {done.code}: {(done.err or done.out).strip()}")
            print(done.out.strip(), flush=True)

    def stop(self) -> None:
        """Ends the run on all hosts: TERM, time to save, KILL. Another run is left alone."""
        ours = f'[ -e ~/{CODE}/current ] && [ "$(cat ~/.djax/unit 2>/dev/null)" = {self.unit} ]'
        self.everywhere(f"if {ours}; then {self._host('stop')}; fi")

    def newest_step(self) -> int | None:
        """The newest checkpoint in the bucket, or None if that cannot be known."""
        if not self.workdir.startswith("gs://"):
            return None
        done = self.backend.gcloud.call(
            ["storage", "ls", f"{self.workdir.rstrip('/')}/checkpoints/"]
        )
        steps = re.findall(r"/(\d+)/\s*$", done.out, re.M)
        return max(map(int, steps)) if done.code == 0 and steps else None

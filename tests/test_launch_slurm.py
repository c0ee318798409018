"""launch/slurm.sbatch on a real SLURM of two nodes, both of them this machine."""

import os
import shutil
import socket
import subprocess
import time

import pytest
from conftest import REPO

CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
MpiDefault=none
ReturnToService=2
KillWait=10
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1
PartitionName=main Nodes=ALL Default=YES State=UP
"""
# Stands in for `python -u -m diffusion_jax.main`: waits for TERM, "saves", and exits 42; run again,
# it finds what it saved and is done.
PROGRAM = """\
#!/usr/bin/env python3
import os, pathlib, signal, sys, time
rank = os.environ["SLURM_PROCID"]
saved = pathlib.Path({folder!r}, "saved-" + rank)
print("arguments", sys.argv[1:], flush=True)
if "crash" in sys.argv:
    sys.exit(17) if rank == "1" else time.sleep(300)
if saved.exists():
    print("resumed", os.environ["SLURM_NTASKS"], flush=True)
    sys.exit(0)
def save(*_):
    # The last of a job's processes leaves later than the first, and a second TERM would kill it.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    saved.write_text("step")
    time.sleep(2 * int(rank))
    sys.exit(42)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
time.sleep(300)
"""


def _free(n):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


@pytest.fixture
def cluster(tmp_path_factory):
    """A SLURM of two nodes: its folder, and a function that calls its commands."""
    needed = ("slurmctld", "slurmd", "sbatch", "munged", "scontrol")
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    programs = {n: shutil.which(n, path=path) for n in needed}
    missing = [n for n, where in programs.items() if where is None]
    if missing:
        pytest.skip(f"SLURM is not installed ({', '.join(missing)}): apt install slurm-wlm munge")
    if os.geteuid():
        pytest.skip("SLURM's daemons need root")
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool-n1", "spool-n2"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    host = socket.gethostname().partition(".")[0]
    config = folder / "slurm.conf"
    config.write_text(CONFIG.format(folder=folder, host=host, ports=_free(3)))
    program = folder / "program"
    program.write_text(PROGRAM.format(folder=str(folder)))
    program.chmod(0o755)
    env = dict(os.environ, SLURM_CONF=str(config), PATH=path, PYTHON=str(program), SLURM_WAIT="15")
    munge = [programs["munged"], "--force", "--foreground", f"--socket={folder}/munge.socket",
             f"--key-file={folder}/munge.key", f"--log-file={folder}/munge.log",
             f"--pid-file={folder}/munge.pid", f"--seed-file={folder}/munge.seed"]  # fmt: skip
    daemons = [munge, [programs["slurmctld"], "-D", "-c"], [programs["slurmd"], "-D", "-N", "n1"],
               [programs["slurmd"], "-D", "-N", "n2"]]  # fmt: skip
    running = []

    def call(*words):
        return subprocess.run(
            words, env=env, cwd=folder, capture_output=True, text=True, timeout=60
        )

    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        for argv in daemons:
            running.append(subprocess.Popen(argv, env=env, **quiet))
            until(lambda: (folder / "munge.socket").exists())
        until(lambda: call("sinfo", "-h", "-o", "%T %D").stdout.split() == ["idle", "2"])
        yield folder, call
    finally:
        for process in reversed(running):
            process.terminate()
        for process in running:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def until(true, seconds=300):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.3)


@pytest.mark.slow
def test_term_saves_and_queues_again_and_a_crash_takes_all_along(cluster):
    folder, call = cluster
    script = str(REPO / "launch" / "slurm.sbatch")
    options = ["--parsable", "--nodes=2", "--ntasks-per-node=1"]
    assert call("sbatch", "--test-only", *options, script).returncode == 0

    made = call("sbatch", *options, script, "crash")
    assert made.returncode == 0, made.stderr
    crashed = made.stdout.strip()

    def state(job):
        """The job as a dictionary; what is not known (yet) is missing."""
        words = call("scontrol", "show", "job", job).stdout.split()
        return dict(w.split("=", 1) for w in words if "=" in w)

    def until_state(job, wanted):
        """Waits; a job that ends in another state fails at once, and says what it printed."""

        def there():
            now = state(job).get("JobState")
            over = now in ("COMPLETED", "FAILED", "CANCELLED", "NODE_FAIL", "TIMEOUT")
            log = folder / f"diffusion-jax-{job}.log"
            assert now == wanted or not over, f"{now}\n{log.read_text()}"
            return now == wanted

        until(there)

    until_state(crashed, "FAILED")  # rank 0 would have slept on for 300 s
    assert "Exited with exit code 17" in (folder / f"diffusion-jax-{crashed}.log").read_text()

    job = call("sbatch", *options, script, "--config=c", "--workdir=a b").stdout.strip()
    log = folder / f"diffusion-jax-{job}.log"
    until(lambda: log.exists() and log.read_text().count("ready") == 2)
    assert "['-u', '-m', 'diffusion_jax.main', '--config=c', '--workdir=a b']" in log.read_text()
    assert call("scancel", "--signal=TERM", job).returncode == 0

    def again():
        """Queued again, or already running again."""
        now = state(job)
        assert now.get("JobState") != "FAILED", log.read_text()
        return now.get("Restarts") == "1"

    until(again)
    assert {p.name for p in folder.glob("saved-*")} == {"saved-0", "saved-1"}

    # SLURM holds a requeued job back for two minutes: a start in the second of the requeue would be
    # refused by the node, whose revoked credentials have whole seconds. A few seconds are enough.
    sooner = ("scontrol", "update", f"JobId={job}", "StartTime=now+5seconds")
    until(lambda: call(*sooner).returncode == 0)
    until_state(job, "COMPLETED")
    assert log.read_text().count("resumed 2") == 2

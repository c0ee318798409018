"""launch/host.sh on this machine: a fake interpreter makes the environment, the rest is real."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import REPO

from launch import gang, tpu

HOST = REPO / "launch" / "host.sh"

pytestmark = pytest.mark.skipif(
    shutil.which("flock") is None or not Path("/proc/self").exists(), reason="needs flock and /proc"
)
if Path("/run/systemd/system").is_dir():
    pytestmark = pytest.mark.skip(reason="here host.sh would start real systemd units")


@pytest.fixture
def host(tmp_path):
    """Runs host.sh with a state folder of its own; stops what a test leaves running."""
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(
        f'#!/bin/sh\ncase "$*" in *"-m pip"*) echo pip >> {tmp_path}/installs;;\n'
        f'*) exec {sys.executable} "$@";; esac\n'
    )
    python = tmp_path / "python"
    python.write_text(
        '#!/bin/sh\n[ "$1" = -c ] && exit 0\n'
        f'mkdir -p "$3/bin" && cp {wrapper} "$3/bin/python" && chmod +x "$3/bin/python"\n'
    )
    python.chmod(0o755)
    lock = tmp_path / "lock.txt"
    lock.write_text("numpy==2\n")
    env = dict(os.environ, DJAX_STATE=str(tmp_path / "state"), DJAX_PYTHON=str(python),
               DJAX_LOCK=str(lock), DJAX_GRACE="2", DJAX_BACKOFF="0")  # fmt: skip

    def run(*words, check=True):
        done = subprocess.run(
            ["bash", str(HOST), *words], capture_output=True, text=True, env=env, timeout=120
        )
        assert not check or done.returncode == 0, done.stderr + done.stdout
        return done

    def wait(state):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            line = run("status").stdout.split()
            if line[3] == state:
                return line
            time.sleep(0.1)
        raise AssertionError(f"still {line}")

    run.wait, run.folder, run.lock = wait, tmp_path, lock
    yield run
    run("stop", check=False)


def until(true):
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def start(host, code, unit="u", retries="0"):
    return host("start", unit, str(host.folder / "work"), retries, "-c", code)


def test_the_environment_is_made_once_per_lock_file(host):
    host("install")
    host("install")
    assert (host.folder / "installs").read_text().split() == ["pip"]
    host.lock.write_text("numpy==3\n")
    host("install")
    assert (host.folder / "installs").read_text().split() == ["pip", "pip"]


def test_without_a_lock_file_nothing_is_installed(host):
    host.lock.unlink()
    done = host("install", check=False)
    assert done.returncode == 2 and "no lock file" in done.stderr


@pytest.mark.parametrize("code", [0, 2, 42, 7])
def test_the_exit_code_reaches_status_and_the_log_the_workdir(host, code):
    assert host("status").stdout.split()[3] == "absent"
    start(host, f"import sys; print('hello'); sys.exit({code})")
    assert host.wait("exited")[2:] == ["u", "exited", str(code)]
    (log,) = (host.folder / "work" / "logs").iterdir()
    assert "hello" in log.read_text()
    assert "hello" in host("logs").stdout


def test_start_again_leaves_the_run_alone_and_refuses_another(host):
    """gcloud repeats a remote command when its connection breaks."""
    marker = host.folder / "starts"
    code = f"import time; open({str(marker)!r}, 'a').write('x'); time.sleep(300)"
    start(host, code)
    host.wait("running")
    assert "running" in start(host, code).stdout
    done = host("start", "other", str(host.folder), "0", "-c", "pass", check=False)
    assert done.returncode == 3 and "busy" in done.stderr
    until(lambda: marker.exists() and marker.read_text())
    assert marker.read_text() == "x"


def test_a_crash_is_repeated_and_counted_and_a_mistake_is_not(host):
    marker = host.folder / "tries"
    code = f"import sys; open({str(marker)!r}, 'a').write('x'); sys.exit({{}})"
    start(host, code.format(7), retries="2")
    host.wait("exited")
    assert marker.read_text() == "xxx"
    for final in (2, 42):
        marker.unlink()
        start(host, code.format(final), retries="2")
        host.wait("exited")
        assert marker.read_text() == "x"


def test_stop_lets_the_run_save_and_keeps_its_code(host):
    saved = host.folder / "saved"
    code = (
        "import signal, sys, time\n"
        f"def save(*_): open({str(saved)!r}, 'w').write('step'); sys.exit(42)\n"
        "signal.signal(signal.SIGTERM, save); print('ready'); time.sleep(300)"
    )
    start(host, code, retries="3")
    until(lambda: "ready" in host("logs", check=False).stdout)
    assert host("stop").stdout.split()[3:] == ["exited", "42"]
    assert saved.read_text() == "step"
    assert host("stop").stdout.split()[3] == "exited"


def test_stop_kills_what_does_not_listen(host):
    code = (
        "import signal, os, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"open({str(host.folder / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(300)"
    )
    start(host, code, retries="3")
    until(lambda: (host.folder / "pid").exists() and (host.folder / "pid").read_text())
    assert host("stop").stdout.split()[3:] == ["exited", "137"]
    stat = Path("/proc", (host.folder / "pid").read_text(), "stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_killed_loop_is_seen_as_lost_not_as_running(host):
    start(host, "import time; time.sleep(300)")
    host.wait("running")
    loop = int((host.folder / "state" / "pid").read_text())
    os.killpg(loop, signal.SIGKILL)  # as the machine does when it restarts
    host.wait("absent")


@pytest.mark.parametrize("name", ["host.sh", "slurm.sbatch"])
def test_shellcheck(name):
    program = shutil.which("shellcheck")
    if program is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([program, str(REPO / "launch" / name)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_sky_yaml_copies_the_data_where_they_are_looked_for(tmp_path):
    import yaml

    config = yaml.safe_load((REPO / "launch" / "sky.yaml").read_text())
    (tmp_path / "launch").mkdir()
    (tmp_path / "launch" / "host.sh").write_text("echo $@ >> said")
    (tmp_path / "gcloud").write_text("#!/bin/sh\necho $@ >> said")
    (tmp_path / "gcloud").chmod(0o755)
    env = {"HOME": str(tmp_path), "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    copied = f"storage rsync --recursive gs://b/sets {tmp_path}/{gang.DATA}"
    for data, said in (config["envs"]["DATA"], []), ("gs://b/sets", [copied]):
        (tmp_path / "said").unlink(missing_ok=True)
        subprocess.run(["bash", "-c", config["setup"]], cwd=tmp_path, check=True,
                       env={**env, "DATA": data})  # fmt: skip
        assert (tmp_path / "said").read_text().splitlines() == ["install", *said]


def test_commands_for_fresh_hosts_say_where_prepared_data_are():
    """configs/cifar10.py reads a prepared set, which a new host does not have."""
    texts = [tpu.__doc__, *((REPO / f).read_text() for f in (
        "launch/README.md", "launch/sky.yaml", "docs/howto/tpu.md"))]  # fmt: skip
    lines = "\n".join(texts).replace("\\\n", " ").splitlines()
    slices = [x for x in lines if "launch.tpu" in x and "configs/cifar10.py" in x and " -- " in x]
    clouds = [x for x in lines if "sky jobs launch" in x]
    assert len(slices) >= 5 and all("--data=gs://" in x for x in slices), slices
    assert len(clouds) >= 2 and all("--env DATA=gs://" in x for x in clouds), clouds


def test_sky_yaml_is_valid(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))  # it writes there when it is imported
    monkeypatch.setenv("SKYPILOT_DISABLE_USAGE_COLLECTION", "1")
    sky = pytest.importorskip("sky", reason="SkyPilot is not installed")
    import yaml

    config = yaml.safe_load((REPO / "launch" / "sky.yaml").read_text())
    task = sky.Task.from_yaml_config(config, env_overrides=[("WORKDIR", "gs://b/r")])
    assert task.envs["WORKDIR"] == "gs://b/r"
    with pytest.raises(ValueError, match="WORKDIR"):
        sky.Task.from_yaml_config(config)

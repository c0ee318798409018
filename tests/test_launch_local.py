"""launch/local.py: processes that live and die together."""

import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import REPO

LOCAL = [sys.executable, str(REPO / "launch" / "local.py")]


def run(options, code, **kwargs):
    return subprocess.run(
        [*LOCAL, *options, "--", sys.executable, "-c", code],
        capture_output=True, text=True, timeout=120, **kwargs,
    )  # fmt: skip


def test_every_process_gets_its_rank_one_address_and_its_devices():
    code = (
        "import os; e = os.environ; print(e['DJAX_PROCESS_ID'], e['DJAX_NUM_PROCESSES'], "
        "e['JAX_COORDINATOR_ADDRESS'], e['JAX_NUM_CPU_DEVICES'])"
    )
    done = run(["-n", "3", "--devices", "4"], code)
    assert done.returncode == 0
    lines = sorted(x for x in done.stdout.splitlines() if x.startswith("[0:"))
    assert [x.split()[:3] for x in lines] == [[f"[0:{i}]", str(i), "3"] for i in range(3)]
    assert len({x.split()[3] for x in lines}) == 1
    assert {x.split()[4] for x in lines} == {"4"}


@pytest.mark.parametrize("code", [0, 2])
def test_done_and_mistakes_are_not_repeated(code):
    done = run(["--restarts=3"], f"import sys; print('here'); sys.exit({code})")
    assert done.returncode == code
    assert done.stdout.count("] here") == 2


def test_a_crash_restarts_all_and_is_counted(tmp_path):
    """Rank 1 crashes in attempts 0 and 1; rank 0 would wait for ever and is taken along."""
    code = (
        "import os, sys, time, pathlib\n"
        f"p = pathlib.Path({str(tmp_path)!r}) / os.environ['DJAX_PROCESS_ID']\n"
        "n = len(p.read_text()) if p.exists() else 0; p.write_text('x' * (n + 1))\n"
        "if n == 2: sys.exit(0)\n"
        "sys.exit(9) if p.name == '1' else time.sleep(100)"
    )
    options = ["--grace=0.5", "--backoff=0"]
    assert run([*options, "--restarts=2"], code).returncode == 0
    assert (tmp_path / "0").read_text() == (tmp_path / "1").read_text() == "xxx"
    for p in tmp_path.iterdir():
        p.unlink()
    assert run([*options, "--restarts=1"], code).returncode == 9


def test_preemptions_are_free(tmp_path):
    code = (
        "import os, sys, pathlib\n"
        f"p = pathlib.Path({str(tmp_path)!r}) / os.environ['DJAX_PROCESS_ID']\n"
        "n = len(p.read_text()) if p.exists() else 0; p.write_text('x' * (n + 1))\n"
        "sys.exit(42 if n < 3 else 0)"
    )
    assert run(["--restarts=0", "--backoff=0"], code).returncode == 0
    assert (tmp_path / "0").read_text() == "xxxx"


def test_a_killed_process_has_the_shells_code():
    code = "import os, time\nos.kill(os.getpid(), 9) if os.environ['DJAX_PROCESS_ID'] == '0' else 0"
    assert run(["--grace=0.2"], code).returncode == 128 + 9


def test_term_reaches_the_processes_and_nothing_is_restarted():
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(42)); print('ready'); time.sleep(300)"
    )
    argv = [*LOCAL, "--restarts=5", "--", sys.executable, "-c", code]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        seen = 0
        while seen < 2:
            line = process.stdout.readline()
            assert line, "it ended before both were ready"
            seen += "ready" in line
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
        assert process.wait(timeout=120) == 42
    assert "starting again" not in rest


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child")
def test_a_launcher_that_is_killed_leaves_no_orphans():
    code = "import os, time; print('pid', os.getpid()); time.sleep(300)"
    argv = [*LOCAL, "-n1", "--", sys.executable, "-c", code]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        pid = int(process.stdout.readline().split()[-1])
        process.kill()
    deadline = time.monotonic() + 30
    while os.path.exists(f"/proc/{pid}") and "State:\tZ" not in _status(pid):
        assert time.monotonic() < deadline, "it still runs"
        time.sleep(0.01)


def _status(pid):
    try:
        with open(f"/proc/{pid}/status") as f:
            return f.read()
    except OSError:
        return "State:\tZ"


def test_what_does_not_stop_is_killed():
    code = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('pid', os.getpid()); time.sleep(300)"
    )
    argv = [*LOCAL, "-n1", "--grace=0.5", "--", sys.executable, "-c", code]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        pid = int(process.stdout.readline().split()[-1])
        process.terminate()
        assert process.wait(timeout=120) == 128 + 9  # killed: left alone it ends with 0, later
        process.stdout.read()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("argv", [[], ["-n", "0", "--", "true"], ["--"], ["--", "pyhton"]])
def test_mistakes(argv):
    done = subprocess.run([*LOCAL, *argv], capture_output=True, text=True)
    assert done.returncode == 2 and "error:" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_two_processes_of_two_devices_compute_as_one(tmp_path):
    """A sum over all devices; rank 1 is killed in the first attempt while rank 0 waits for it."""
    program = tmp_path / "program.py"
    program.write_text(
        "import os, pathlib, signal\n"
        "import jax, jax.numpy as jnp\n"
        "from jax.sharding import Mesh, NamedSharding, PartitionSpec as P\n"
        "rank = int(os.environ['DJAX_PROCESS_ID'])\n"
        "jax.distributed.initialize(num_processes=int(os.environ['DJAX_NUM_PROCESSES']),\n"
        "    process_id=rank, initialization_timeout=60, heartbeat_timeout_seconds=10,\n"
        "    shutdown_timeout_seconds=10)\n"
        f"first = pathlib.Path({str(tmp_path / 'killed')!r})\n"
        "if rank == 1 and not first.exists():\n"
        "    first.write_text('x'); os.kill(os.getpid(), signal.SIGKILL)\n"
        "mesh = Mesh(jax.devices(), ('data',))\n"
        "x = jax.make_array_from_callback((8,), NamedSharding(mesh, P('data')),\n"
        "    lambda i: jnp.arange(8.0)[i])\n"
        "total = jax.jit(jnp.sum, out_shardings=NamedSharding(mesh, P()))(x)\n"
        "print('total', float(total), jax.process_count(), jax.device_count(), flush=True)\n"
        "jax.distributed.shutdown()\n"
    )
    argv = [*LOCAL, "-n2", "--devices=2", "--restarts=1", "--grace=5", "--", sys.executable,
            str(program)]  # fmt: skip
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    assert "[1:0] total 28.0 2 4" in done.stdout
    assert "[1:1] total 28.0 2 4" in done.stdout

"""A run that an older layout of the package began, with options that have other names now."""

import tarfile

import pytest
from command import config_file, main
from conftest import REPO

import diffusion_jax as dj

# What the older package measured when it trained the same run to its end.
BITS_PER_DIM = 2.5072596993288263


@pytest.mark.slow
def test_an_old_run_opens_resumes_and_ends_where_it_would_have(tmp_path):
    workdir = tmp_path / "run"
    with tarfile.open(REPO / "tests" / "old_run.tar.xz") as old:
        old.extractall(workdir, filter="data")
    config = config_file(
        tmp_path, steps=4, ema=(0.9,), network="unet(width=4, mults=(1,), blocks=1, attention=())"
    )
    record = workdir / "config.json"
    record.write_text(record.read_text().replace("/tmp/old/images.npz", f"{tmp_path}/images.npz"))
    assert dj.open_run(workdir).weights()[1]["step"] == 2
    done = main(f"--config={config}", f"--workdir={workdir}", "--config.sample.num=0")
    assert done.returncode == 0, done.stderr
    assert "resuming at step 2" in done.stdout + done.stderr
    found = dj.open_run(workdir).bits_per_dim("test")
    assert found.value == pytest.approx(BITS_PER_DIM, rel=1e-5)

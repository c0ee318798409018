"""The program as a user runs it: exit codes, files, one clear line for each mistake."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tiny
from command import config_file, main, program, refused
from conftest import REPO
from html_page import check_page, headings
from PIL import Image

from diffusion_jax.cli.report import collect, sections_likelihood, sections_measured
from diffusion_jax.cli.report.elements import Section
from diffusion_jax.runtime import cores, image_grids


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    config = config_file(folder, report=True)
    done = program(f"--config={config}", f"--workdir={folder / 'run'}")
    assert done.returncode == 0, done.stderr
    return folder, done


def test_train_prints_what_it_did(trained):
    _, done = trained
    assert re.search(r"bits/dim, given the class: \d\.\d+ \+- \d\.\d+", done.stdout)
    for word in ("prior", "diffusion", "reconstruction", "Monte-Carlo", "samples", "parameters"):
        assert word in done.stdout


def test_help_is_no_mistake():
    done = program("--help")
    assert done.returncode == 0, done.stderr
    assert "--workdir" in done.stdout and "Configuration file" in done.stdout


def test_a_configuration_may_say_why_it_ends(tmp_path):
    (tmp_path / "config.py").write_text(
        "def get_config():\n    raise SystemExit('no such tower')\n"
    )
    done = program(f"--config={tmp_path / 'config.py'}", f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 1 and "no such tower" in done.stderr


def test_a_run_ends_with_a_page(trained):
    folder, done = trained
    text = (folder / "run/report.html").read_text()
    assert "report: " in done.stdout
    found = check_page(text)
    assert {"Samples", "Data", "Likelihood", "Training", "Noise schedule", "Hardware and versions",
            "Configuration", "Not here yet"} == set(headings(text))  # fmt: skip
    result = json.loads((folder / "run/eval/6.json").read_text())["result"]
    for part in (result, *result["breakdown"].values()):
        assert f"{part['bits_per_dim']:.4f}" in found.text
    for word in ("Loss against steps", "against time", "Loss by noise level", "Started at step 0"):
        assert word in found.text
    (start,) = (folder / "run/environment.jsonl").read_text().splitlines()
    devices, count = re.search(r"at step 0 of 6 on ((\d) x cpu):", done.stdout).groups()
    assert json.loads(start).items() >= {"step": 0, "devices": devices}.items()
    assert (int(count) > 1) == (cores.available() > 1)  # every core is a device


def test_the_animation_ends_in_the_samples(trained):
    """Drawn by another program, with the same seed, weights and method."""
    run = trained[0] / "run"
    with np.load(run / "samples/6.npz") as f:
        drawn = f["image"]
    with Image.open(run / "report/6_trajectory.webp") as moving:
        assert moving.n_frames == 3 + 1  # sample.steps, and the start
        frames = []
        for i in (0, 3):
            moving.seek(i)
            frames.append(np.asarray(moving.convert("RGB")))
    sheet = image_grids.grid(drawn, 5, columns=len(drawn), pixels=48)
    for top in (0, 48 + 2):  # latents and guesses both end in them
        np.testing.assert_array_equal(frames[1][top : top + 48, : sheet.shape[1]], sheet)
    assert not np.array_equal(frames[0][:48, : sheet.shape[1]], sheet)
    how = json.loads((run / "report/6_trajectory.json").read_text())
    curve = json.loads((run / "report/6_schedule.json").read_text())["gamma"]
    assert [curve[-1], curve[0]] == pytest.approx([how["gammas"][0], how["gammas"][-1]], abs=1e-4)


def test_the_same_command_says_finished(trained):
    folder, _ = trained
    done = main("--config", config_file(folder), "--workdir", folder / "run")
    assert done.returncode == 0 and "finished" in done.stdout


def test_evaluate_a_workdir_a_checkpoint_alone_and_with_overrides(trained):
    folder, _ = trained
    run = folder / "run"
    first = program("--mode=eval", f"--workdir={run}")
    assert first.returncode == 0 and "WARNING" not in first.stderr, first.stderr
    assert not re.search(r"^[WE]\d{4} ", first.stderr, re.MULTILINE), first.stderr
    alone = main("--mode=eval", f"--checkpoint={run}/checkpoints/4", f"--workdir={folder}/alone")
    assert alone.returncode == 0, alone.stderr
    assert json.loads((folder / "alone/eval/4.json").read_text())["model"]["step"] == 4
    more = main("--mode=eval", f"--workdir={run}", "--config.eval.draws=6",
                "--config.eval.split=valid")  # fmt: skip
    assert more.returncode == 0, more.stderr
    report = json.loads((run / "eval/6_valid.json").read_text())
    assert report["result"]["draws_per_image"] == 6 and report["data"]["name"] == "npz/valid"


def test_compare_a_run_with_a_checkpoint(trained):
    folder, _ = trained
    done = main("--mode=compare", f"--config.compare.a={folder}/run/checkpoints/4",
                f"--config.compare.b={folder}/run", f"--workdir={folder}/pair")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "b - a, paired" in done.stdout
    assert (folder / "pair/compare/4_run.json").is_file()
    assert isinstance(sections_measured.compare(collect.read(folder / "pair")), Section)


def test_the_flow_likelihood_lies_beside_the_bound(trained):
    folder, _ = trained
    bound = (folder / "run/eval/6.json").read_bytes()
    ode = "ode(steps=4, k=2, dequantization='truncated_normal')"
    done = main("--mode=eval", f"--workdir={folder}/run", f"--config.eval.likelihood={ode}",
                "--config.eval.limit=5")  # fmt: skip
    assert done.returncode == 0, done.stderr
    for word in ("bits/dim, given the class", "trace exact", "truncated_normal", "K = 2", "s.e."):
        assert word in done.stdout
    name = "6_ode_exact_truncated_normal_k2"
    report = json.loads((folder / f"run/eval/{name}.json").read_text())
    assert report["estimator"]["network_calls_per_image"] == 4 * 4 * 2 * 2
    result = report["result"]
    assert result["by_k"]["2"]["bits_per_dim"] <= result["by_k"]["1"]["bits_per_dim"]
    with np.load(folder / f"run/eval/{name}.npz") as found:
        assert found["nats_density"].shape == (5, 2, 2)
        assert found["bits_per_dim_total"].mean() == pytest.approx(result["bits_per_dim"])
    assert (folder / "run/eval/6.json").read_bytes() == bound
    assert f"{name}.json" in sections_likelihood.likelihood(collect.read(folder / "run")).body


def test_progressive(trained):
    folder, _ = trained
    done = main("--mode=progressive", f"--workdir={folder}/run", "--config.progressive.steps=6",
                "--config.progressive.images=3")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "PSNR" in done.stdout
    found = {p.name for p in (folder / "run/progressive").iterdir()}
    assert found == {"6.json", "6.npz", "6.png", "6_images.png"}
    result = json.loads((folder / "run/progressive/6.json").read_text())["result"]
    left = result["total"]["bits_per_dim"] - result["curve"]["rate_bits_per_dim"][0]
    said = f"image given z_0: {left:.4f} bits/dim, not in this curve"
    shown = sections_measured.progressive(collect.read(folder / "run"))
    assert said in done.stdout and said in shown.body
    assert len(result["curve"]["gamma"]) == 7 and result["images"] == 13


def test_audit_refuses_few_images_before_it_draws_any(trained):
    folder, _ = trained
    done = main("--mode=audit", f"--workdir={folder}/run")
    refused(done, "56 examples of npz/train; the comparison needs at least 100 on either side")
    assert "sample" not in done.stdout and not (folder / "run" / "audit").exists()


def test_ood(trained):
    folder, _ = trained
    own = tiny.config(folder).data
    done = main("--mode=ood", f"--workdir={folder}/run", f"--config.ood.against=noise({own})",
                "--config.ood.gammas=1.0,0.0")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "AUROC" in done.stdout and "error at gamma = 1.00" in done.stdout
    assert len(list((folder / "run/ood").glob("6_npz-test-*_uniform-noise-npz-test-*"))) == 3
    assert isinstance(sections_measured.ood(collect.read(folder / "run")), Section)
    refused(
        main("--mode=ood", f"--workdir={folder}/run"),
        "needs out-of-distribution data: --config.ood.against",
    )


def test_sample_with_overrides(trained):
    folder, _ = trained
    done = main("--mode=sample", f"--workdir={folder}/run", "--config.sample.num=5",
                "--config.guidance=cfg(w=3.0)", "--config.sampler=ddim()")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "cfg(w=3.0)" in done.stdout and "6_2.npz" in done.stdout
    with np.load(folder / "run/samples/6.npz") as found:
        assert found["image"].shape == (6, 4, 4, 1)  # of the run; nothing is overwritten
    with np.load(folder / "run/samples/6_2.npz") as found:
        assert found["image"].shape == (5, 4, 4, 1)
    first, second = collect.read(folder / "run").samples
    assert (first.name, second.name) == ("samples/6.png", "samples/6_2.png")
    assert second.data["guidance"] == "cfg(w=3.0)" and list(second.pictures) == ["6_2.png"]


def test_a_page_without_weights_says_so(trained, tmp_path):
    leave = shutil.ignore_patterns("checkpoints", "report*")
    shutil.copytree(trained[0] / "run", tmp_path / "run", ignore=leave)
    done = main("--mode=report", f"--workdir={tmp_path}/run")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "run/report.html").read_text()
    assert "no checkpoint" in check_page(text).text and "Noise schedule" in headings(text)
    absent = main("--mode=report", "--config=configs/digits.py", f"--workdir={tmp_path}/none")
    refused(absent, "there is no work directory")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--config.learning_rat=1"], "no field learning_rat"),
        (["--config.stepz=1"], "no field stepz .did you mean 'steps'"),
        (["--config.draws=1"], "no field draws .did you mean 'eval.draws'"),
        (["--config.sampel.num=1"], "no field sampel.num .did you mean 'sample.num'"),
        (["--config.steps=many"], "many"),
        (["--config.schedule=lineer()"], "did you mean 'linear'"),
        (["--config.guidance=cfg(weight=2)"], "weight"),
        (["--mode=trian"], "mode"),
        (["--confi=1"], "confi"),
        (["stray"], "stray"),
        (["--config.batch=7"], "not divisible"),
        (["--config.batch=0"], "batch=0 .*must be at least 1"),
        (["--config.accumulate=0"], "accumulate=0 must be at least 1"),
        (["--config.eval.draws=1"], r"eval\.draws=1 must be even"),
        (["--config.eval.split=tset"], "eval.split='tset' does not exist"),
        (["--config.valid_draws=3"], "valid_draws=3 must be even"),
        (["--config.eval.timesteps=0", "--config.eval.likelihood=ode()"], "timesteps"),
        (["--config.eval.matmul_precision=flot32"], "matmul_precision='flot32'"),
        (
            ["--config.task=guide(classifier())", "--config.eval.split=tset"],
            "'tset' does not exist",
        ),
        (["--config.data=digits(", "--config.steps=3"], "digits"),
        (["--checkpoint=x"], "--checkpoint is for eval and sample"),
    ],
    ids=lambda v: v[0] if isinstance(v, list) else "",
)
def test_mistakes_are_one_line(tmp_path, args, message):
    config = config_file(tmp_path)
    refused(main(f"--config={config}", f"--workdir={tmp_path}/run", *args), message)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "--workdir is needed|--config is needed"),
        (["--config=configs/absent.py", "--workdir=x"], "absent.py"),
        (["--config=configs/digits.py:smok", "--workdir=x"], "allowed: smoke"),
        (["--mode=eval", "--workdir=absent"], "there is no folder absent"),
        (["--mode=eval", "--config=configs/digits.py", "--workdir=absent"], "no folder .*absent"),
        (["--config=configs/mnist.py", "--workdir=x", "--config.data_dir=/nowhere"],
         "not prepared.*download_and_prepare"),
        (["--mode=eval", "--config=configs/cifar10.py", "--workdir=x", "--checkpoint=vdm:absent"],
         "cannot read absent"),
    ],
    ids=lambda v: " ".join(v)[:60] if isinstance(v, list) else "",
)  # fmt: skip
def test_missing_things_are_one_line(args, message):
    refused(main(*args), message)
    assert not (REPO / "x").exists() and not (REPO / "absent").exists()


def test_nan_has_an_exit_code_of_its_own(tmp_path):
    config = config_file(tmp_path, lr=1e30, warmup=0, log_every=1, eval_every=0)
    refused(main(f"--config={config}", f"--workdir={tmp_path}/run"), r"NaN.*step \d", code=3)


@pytest.mark.slow
def test_killed_and_resumed_equals_never_killed(tmp_path):
    config = config_file(tmp_path, steps=4000, save_every=250, eval_every=0, log_every=250)
    command = [sys.executable, "-m", "diffusion_jax.main", f"--config={config}"]
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    victim = subprocess.Popen([*command, f"--workdir={tmp_path}/a"], cwd=REPO, env=env,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    deadline = time.monotonic() + 300
    while not (tmp_path / "a/checkpoints/500").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert not (tmp_path / "a/checkpoints/4000").exists(), "it finished before it was killed"
    for name in "ab":
        done = program(f"--config={config}", f"--workdir={tmp_path}/{name}")
        assert done.returncode == 0, done.stderr
    figures = [json.loads((tmp_path / n / "eval/4000.json").read_text())["result"] for n in "ab"]
    assert figures[0] == figures[1]
    with (
        np.load(tmp_path / "a/samples/4000.npz") as a,
        np.load(tmp_path / "b/samples/4000.npz") as b,
    ):
        np.testing.assert_array_equal(a["image"], b["image"])

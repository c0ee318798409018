"""Students of few steps as whole runs: plans, refusals, weights that are told."""

import copy
import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from checkpoint_copies import assert_identical, weights
from command import main

from diffusion_jax import config, registry, saved_config
from diffusion_jax.cli.modes import audit
from diffusion_jax.errors import ConfigError, DataError, SpecError
from diffusion_jax.experiment import Experiment, assembly, open_run, teachers
from diffusion_jax.sampling.guidance.base import Context
from diffusion_jax.training.state import with_arrays
from diffusion_jax.types import Pred


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A run that has learned a little, with dropout, which no student is to inherit."""
    from diffusion_jax.cli.modes import train

    run = tiny.experiment(
        tmp_path_factory.mktemp("distill"), "teacher", prediction="v", steps=40, save_every=40,
        lr=2e-2, eval_every=0, network="mlp(width=16, depth=1, embed=8, dropout=0.5)",
    )  # fmt: skip
    run.config.sample.num = 0
    train.run(run)
    return run


def student(teacher, name="student", more="", method="segments(steps=3, inner=2)", **changes):
    task = f"distill(teacher={str(teacher.workdir)!r}, method={method}{more})"
    settings = {"lr_decay": "linear", "eval_every": 0, "guidance": "none()", "ema": (0.9,)}
    run = tiny.experiment(teacher.workdir.parent, name, task=task, **{**settings, **changes})
    assembly.settle(run)
    return run


def first_loss(run):
    """The loss at the teacher's own weights."""
    from diffusion_jax.cli.modes import train

    task = run.task.open(run, train.HANDED)
    state = with_arrays(task.initial(), teachers.read(run))
    batch = run.source.split("train").take(np.arange(16))
    _, metrics = jax.jit(task.update)(*jax.device_get((state, batch, task.given().tree)))
    return float(metrics["loss"])


def test_a_student_that_takes_its_teachers_steps_has_nothing_to_learn(teacher):
    """DDIM with as many steps as the student, which trains without the teacher's dropout."""
    same = "segments(steps=3, inner=1)"
    assert first_loss(student(teacher, more=", sampler=ddim()", method=same)) < 1e-9


@pytest.mark.slow
def test_a_student_that_takes_longer_steps_has_something_to_learn(teacher):
    """More steps of the teacher, and guidance, which the student lacks."""
    same = "segments(steps=3, inner=1)"
    assert first_loss(student(teacher, more=", sampler=ddim()")) > 1e-5
    guided = ", sampler=ddim(), guidance=cfg(w=3.0)"
    assert first_loss(student(teacher, more=guided, method=same)) > 1e-6


def test_averages_have_nothing_of_the_rounds_before(teacher):
    """After one update of the last round an average by power function is those weights alone."""
    from diffusion_jax.cli.modes import train

    method, ema = "halving(steps=1, rounds=3)", ("power(0.1)",)
    run = student(teacher, "rounds", method=method, ema=ema, warmup=0)
    assert [run.task.began(run.config, n) for n in range(1, 7)] == [0, 0, 2, 2, 4, 4]
    task = run.task.open(run, train.HANDED)
    state = task.initial().replace(step=jnp.asarray(4, jnp.int32))  # of 6
    batch = run.source.split("train").take(np.arange(16))
    after, _ = jax.jit(task.update)(*jax.device_get((state, batch, task.given().tree)))
    pairs = (after.ema["power(0.1)"], after.params), (after.params, state.params)
    same, still = (jax.tree.map(np.array_equal, *p) for p in pairs)
    assert all(jax.tree.leaves(same)) and not all(jax.tree.leaves(still))


def test_a_weight_in_the_condition_is_that_of_cfg():
    def network(z, gamma, cond):
        x = z * cond["label"][:, None]
        return Pred(x, x + 1.0)

    context = Context(null=lambda cond: {**cond, "label": 0 * cond["label"]})
    z, label = jnp.ones((3, 2)), jnp.array([1, 2, 3])
    told = teachers.ByCondition()(network, context)
    found = told(z, jnp.zeros(3), {"label": label, "w": jnp.array([0.0, 1.0, 2.5])})
    for i, w in enumerate((0.0, 1.0, 2.5)):
        fixed = registry.build("guidance", f"cfg(w={w})")(network, context)
        wanted = fixed(z, jnp.zeros(3), {"label": label})
        np.testing.assert_allclose(found.x[i], wanted.x[i])


@pytest.fixture(scope="module")
def trained(teacher):
    from diffusion_jax.cli.modes import train

    run = student(teacher, "whole", eval_every=2)
    train.run(run)
    return run


def test_a_student_is_a_run_with_the_plan_of_its_teacher(teacher, trained):
    saved = json.loads((trained.workdir / "config.json").read_text())
    assert saved["network"] == teacher.config.network and saved["sample"]["steps"] == 3
    values = registry.parse(saved["grid"]).kwargs["values"]
    plan = open_run(teacher.workdir).weights()[0]["schedule"]
    times = jnp.array([1.0, 2 / 3, 1 / 3, 0.0])
    np.testing.assert_allclose(values, teacher.model.schedule.gamma(plan, times), atol=1e-5)
    meta = json.loads((trained.workdir / "checkpoints/6/meta/metadata").read_text())
    assert meta["given"]["paths"] == {"teacher": str(teacher.workdir)}
    drawn = open_run(trained.workdir).sample(5)
    assert drawn.shape == (5, 4, 4, 1)
    lines = (trained.workdir / "metrics.jsonl").read_text()
    assert "valid/agreement" in lines and "test/agreement" in lines
    first, last = (weights(r, s, "params") for r, s in ((teacher, 40), (trained, 6)))
    assert any(np.abs(a - b).max() > 0 for a, b in zip(first, last, strict=True))
    # The schedule is the teacher's, and stays.
    plan = [r.weights()[0]["schedule"] for r in (open_run(teacher.workdir), trained)]
    assert_identical(*map(jax.tree.leaves, plan))


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["halving(steps=1, rounds=3)", "scm()", "ect()"])
def test_it_goes_on_bit_for_bit(teacher, tmp_path, spec):
    """A second round begun in one process, and in another at its first step; another stage."""
    from diffusion_jax.cli.modes import train

    whole = student(teacher, f"whole_{spec[:3]}", method=spec)
    train.run(whole)
    half = Experiment(whole.config, tmp_path / "half")
    shutil.copytree(whole.workdir, half.workdir)
    shutil.rmtree(half.workdir / "checkpoints" / "6")
    train.run(half)
    assert_identical(weights(whole, 6), weights(half, 6))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--mode=eval"], "has no likelihood; use its teacher"),
        (["--mode=eval", "--config.eval.likelihood=jumps(steps=4)"], "has no likelihood"),
        (["--mode=ood", "--config.ood.against=rotated(digits())"], "has no likelihood"),
        (["--mode=compress"], "has no likelihood"),
        (["--mode=sample", "--config.sample.steps=10"],
         r"distilled for 3 steps of ddim\(\) at gammas .*; it has no other plan"),
        (["--mode=sample", "--config.guidance=cfg(w=2.0)"], "leave guidance out"),
        (["--mode=sample", "--config.grid=log_snr()"], "leave grid out"),
    ],
)  # fmt: skip
def test_what_a_student_cannot_do_is_one_line(trained, words, says):
    done = main(*words, f"--workdir={trained.workdir}")
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert re.search(says, done.stderr), done.stderr


@pytest.mark.parametrize(
    ("more", "changes", "says"),
    [
        (", sampler=ancestral()", {}, r"sampler=ancestral\(\) adds noise"),
        (", weight=2.0, guidance=cfg(w=2.0)", {}, "choose one"),
        ("", {"accumulate": 2}, "accumulate=1"),
        ("", {"data": "digits()"}, r"was trained on \(4, 4, 1\)"),
    ],
)
def test_teachers_that_do_not_fit_are_refused(teacher, more, changes, says):
    with pytest.raises((ConfigError, SpecError), match=says):
        first_loss(student(teacher, "never", more, **changes))


@pytest.mark.parametrize(
    ("setting", "value"), [("text", "bytes(length=9, width=8)"), ("embedding", "runs/clip")]
)
def test_teachers_that_are_told_more_than_the_class_are_refused(tmp_path, setting, value):
    """Before anything is trained; and so are students that ask to be told."""
    reader = tiny.experiment(tmp_path, "reader", **{setting: value})
    plain = tiny.experiment(tmp_path, "plain")
    for run in (reader, plain):
        run.workdir.mkdir()
        (run.workdir / "config.json").write_text(json.dumps(saved_config.to_dict(run.config)))
    with pytest.raises(ConfigError, match=rf"reader was trained with {setting}=.* teacher without"):
        student(reader)
    with pytest.raises(
        ConfigError, match=rf"^{setting}=.* cannot be conditioned .* leave {setting} out$"
    ):
        student(plain, **{setting: value})


def test_a_teacher_that_has_changed_is_refused(teacher):
    run = student(teacher, "later")
    known = registry.parse(run.config.task).kwargs["sha256"]
    run.config.task = run.config.task.replace(known, "0" * 64)
    vars(run).pop("task")
    with pytest.raises(
        ConfigError, match=rf"changed since this student began \({known[:8]}.., then"
    ):
        first_loss(run)


def test_an_audit_of_a_student_is_of_its_training_images(trained):
    config = copy.deepcopy(trained.config)
    assert audit._trained_on(trained, {}, trained.source.split("train")) == ""
    config.data = f"half({config.data}, part=1)"
    other = Experiment(config, trained.workdir)
    with pytest.raises(DataError, match="is not the training set of this run"):
        audit._trained_on(other, {}, other.source.split("train"))


def test_a_missing_teacher_is_named(tmp_path):
    with pytest.raises(ConfigError, match="teacher='' names no run"):
        registry.build("tasks", "distill(teacher='')")
    done = main("--config=configs/digits_student.py:smoke", f"--workdir={tmp_path}/run",
                "--config.task=distill(teacher='nowhere')")  # fmt: skip
    assert done.returncode == 2
    assert "teacher='nowhere': there is no folder nowhere" in done.stderr


@pytest.mark.parametrize(
    ("guidance", "says"),
    [
        ("distilled(w=2.5)", r"guidance weights from 0 to 2 only: use at most distilled\(w=2\)"),
        ("distilled(10.0)", "guidance weights from 0 to 2"),
        ("distilled(w=-1.0)", "w=-1.0 must be a finite number, at least 0"),
        ("cfg(w=1.0)", "leave guidance out"),
    ],
)
def test_weights_that_were_never_told_are_refused(guidance, says):
    plan = "edges=array(values=(4.0, -5.0))"
    task = registry.build(
        "tasks", f"distill('runs/x', segments(steps=1), weight=2.0, {plan})"
    )  # fmt: skip
    c = config.base()
    c.update({"sampler": "ddim()", "grid": "array(values=(4.0, -5.0))"})
    c.sample.steps = 1
    for fine in ("none()", "distilled(w=0.0)", "distilled(2.0)"):
        c.guidance = fine
        task.check_drawing(c)
    c.guidance = guidance
    with pytest.raises((ConfigError, SpecError), match=says):
        task.check_drawing(c)


def test_a_weight_that_is_told(teacher):
    """The layer for it begins at zero; a lesson with weights has something to say to it."""
    run = student(teacher, "told", ", weight=2.0")
    names = [jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(run.shapes())]
    assert any("['w']" in name for name in names)
    assert 0.0 < first_loss(run) < 1e3
    with pytest.raises(ConfigError, match="not conditioned on a guidance weight"):
        open_run(teacher.workdir).sample(2, guidance="distilled(w=2.0)")

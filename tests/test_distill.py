"""Students of few steps: lessons against Gaussian data in closed form, and whole runs."""

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

from diffusion_jax import config, registry
from diffusion_jax.cli.modes import audit
from diffusion_jax.errors import ConfigError, DataError, SpecError
from diffusion_jax.experiment import Experiment, assembly, fine_tuning, open_run, teachers
from diffusion_jax.sampling.guidance.base import Context
from diffusion_jax.training.distillation.base import Lesson, LessonInputs, aim, land
from diffusion_jax.types import Pred, alpha, diffuse, expand, sigma

MEAN, VARIANCE = np.array([0.3, -0.5]), np.array([0.4, 1.7])
METHODS = ("segments(steps=3, inner=2, interior=0.5)", "halving(steps=2, rounds=2)",
           "bootstrap(steps=3, first=2, last=8)", "flow_map(steps=2, finest=8)",
           "flow_map(steps=2, finest=8, both=True)",
           "flow_map(steps=2, finest=8, rule='lagrangian')", "scm(warm=0.0)")  # fmt: skip


def flow(z, gamma, end):
    """The exact map of the ODE of Gaussian data from gamma to end."""
    g, e = expand(gamma, z), expand(end, z)
    scale = [jnp.sqrt(alpha(a) ** 2 * VARIANCE + sigma(a) ** 2) for a in (g, e)]
    return alpha(e) * MEAN + scale[1] / scale[0] * (z - alpha(g) * MEAN)


def mean(z, gamma):
    """What a teacher of Gaussian data says."""
    g = expand(gamma, z)
    a, s = alpha(g), sigma(g)
    x = MEAN + a * VARIANCE / (a**2 * VARIANCE + s**2) * (z - a * MEAN)
    return Pred(x, (z - a * x) / s)


def perfect(z, gamma):
    """What a student says that leads to the end."""
    end = jnp.full_like(gamma, -6.0)
    x, g = aim(Lesson(z, gamma, end, flow(z, gamma, end))), expand(gamma, z)
    return Pred(x, (z - alpha(g) * x) / sigma(g))


def inputs(method, progress, n=48):
    keys = jax.random.split(jax.random.key(0), 3)
    x, eps = (jax.random.normal(k, (n, 2)) for k in keys[:2])
    return LessonInputs(
        edges=jnp.linspace(4.0, -6.0, method.finest + 1),
        u=(jnp.arange(n) + 0.5) / n,
        v=jax.random.uniform(keys[2], (n,)),
        progress=jnp.asarray(progress),
        noisy=lambda gamma: diffuse(MEAN + jnp.sqrt(VARIANCE) * x, gamma, eps),
        teach=lambda z, gammas: jnp.stack([flow(z, gammas[0], g) for g in gammas]),
        jump=flow,
        before=flow,
        student=perfect,
        teacher=mean,
    )


@pytest.mark.parametrize("progress", [0.0, 0.6, 0.99])
@pytest.mark.parametrize("spec", METHODS)
def test_every_lesson_of_an_exact_teacher_is_its_flow(float64, spec, progress):
    method = registry.build("distillation", spec)
    found = method.lesson(inputs(method, progress))
    np.testing.assert_allclose(found.z_end, flow(found.z, found.gamma, found.end), atol=1e-12)
    x = aim(found)
    g = expand(found.gamma, x)
    pred = Pred(x, (found.z - alpha(g) * x) / sigma(g))
    np.testing.assert_allclose(land(pred, found.end), found.z_end, atol=1e-12)


def test_lessons_start_where_sampling_asks_and_rounds_end_there(float64):
    """By default at the student's own edges alone; the last round of halving likewise."""
    for spec in ("segments(steps=4, inner=3)", "halving(steps=4, rounds=2)"):
        method = registry.build("distillation", spec)
        made = inputs(method, 0.99)
        edges = np.asarray(made.edges[:: method.finest // 4])
        found = method.lesson(made)
        at = np.searchsorted(-edges, -np.asarray(found.gamma))
        np.testing.assert_array_equal(edges[at], found.gamma)
        np.testing.assert_array_equal(edges[at + 1], found.end)
        assert set(at) == {0, 1, 2, 3}


def test_a_student_of_gaussian_data_takes_the_exact_path_in_two_steps(float64):
    """The predictions that lessons ask for, step after step, are the flow from end to end."""
    z, edges = jnp.array([[0.2, -1.0], [1.5, 0.7]]), jnp.array([4.0, 0.5, -6.0])
    end = z
    for start, stop in ((4.0, 0.5), (0.5, -6.0)):
        g, s = jnp.full(2, start, z.dtype), jnp.full(2, stop, z.dtype)
        x = aim(Lesson(end, g, s, flow(end, g, s)))
        a, b = (f(expand(g, x)) for f in (alpha, sigma))
        end = land(Pred(x, (end - a * x) / b), s)
    np.testing.assert_allclose(end, flow(z, edges[0], edges[-1]), atol=1e-12)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("halving(steps=6)", "steps=6 must be a power of two, such as 4 or 8"),
        ("bootstrap(first=9, last=3)", "last=3 must be at least first=9"),
        ("flow_map(finest=48)", "finest=48 must be a power of two"),
        ("flow_map(rule='eulerian')", "allowed are progressive, lagrangian"),
        ("flow_map(both=True, rule='lagrangian')", "needs rule='progressive'"),
        ("flow_map(steps=3)", "that steps=3 divides"),
        ("flow_map(taught=1.0)", "both the teacher's steps and the student's own are needed"),
    ],
)
def test_methods_that_cannot_work_say_so(spec, says):
    with pytest.raises(ConfigError, match=says):
        registry.build("distillation", spec)


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
    state = fine_tuning.begin(task.initial(), teachers.read(run))
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
        (["--mode=eval"], "not a model of likelihood; use its teacher"),
        (["--mode=eval", "--config.eval.likelihood=jumps(steps=4)"], "not a model of likelihood"),
        (["--mode=ood", "--config.ood.against=rotated(digits())"], "not a model of likelihood"),
        (["--mode=compress"], "not a model of likelihood"),
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
        ("distilled(w=2.5)", r"told weights from 0 to 2 .* distilled\(w=2\) at most"),
        ("distilled(10.0)", "told weights from 0 to 2"),
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
    with pytest.raises(ConfigError, match="not told a weight"):
        open_run(teacher.workdir).sample(2, guidance="distilled(w=2.0)")

"""What a student is taught: against the flow of Gaussian data, where the teacher is exact."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffusion_jax import registry
from diffusion_jax.errors import ConfigError
from diffusion_jax.training.distillation.base import Lesson, LessonInputs, aim, land
from diffusion_jax.training.state import State
from diffusion_jax.training.student_step import Recipe
from diffusion_jax.types import Pred, alpha, diffuse, expand, sigma

MEAN, VARIANCE = np.array([0.3, -0.5]), np.array([0.4, 1.7])
METHODS = ("segments(steps=3, inner=2, interior=0.5)", "halving(steps=2, rounds=2)",
           "bootstrap(steps=3, first=2, last=8)", "flow_map(steps=2, finest=8)",
           "flow_map(steps=2, finest=8, both=True)",
           "flow_map(steps=2, finest=8, rule='lagrangian')", "scm(warm=0.0)")  # fmt: skip


def _of(x, values):
    """Values in the precision of `x`: a jitted sum keeps that of numpy's arrays."""
    return np.asarray(values, x.dtype)


def flow(z, gamma, end):
    """The exact map of the ODE of Gaussian data from gamma to end."""
    g, e = expand(gamma, z), expand(end, z)
    mean, variance = _of(z, MEAN), _of(z, VARIANCE)
    scale = [jnp.sqrt(alpha(a) ** 2 * variance + sigma(a) ** 2) for a in (g, e)]
    return alpha(e) * mean + scale[1] / scale[0] * (z - alpha(g) * mean)


def mean(z, gamma):
    """What a teacher of Gaussian data says."""
    g = expand(gamma, z)
    a, s, m, v = alpha(g), sigma(g), _of(z, MEAN), _of(z, VARIANCE)
    x = m + a * v / (a**2 * v + s**2) * (z - a * m)
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
        round=(jnp.asarray(progress) * method.rounds).astype(int),
        noisy=lambda gamma: diffuse(x * _of(x, VARIANCE) ** 0.5 + _of(x, MEAN), gamma, eps),
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


@pytest.mark.parametrize(("steps", "rounds"), [(3000, 3), (5000, 5), (6000, 6)])
def test_steps_double_at_the_first_update_of_a_round(float64, steps, rounds):
    """Not one later: as many updates for every number of steps, down to the last one."""
    method = registry.build("distillation", f"halving(steps=2, rounds={rounds})")
    recipe = Recipe(None, None, method, None, None, (), False, steps, 0.0, 0)
    made, each = inputs(method, 0.0, n=2), steps // rounds
    assert np.bincount(recipe.round(np.arange(steps))).tolist() == rounds * [each]
    for number in range(rounds):
        for step in (number * each, (number + 1) * each - 1):
            at = jnp.asarray(step, jnp.int32)
            now = dataclasses.replace(made, progress=at / steps, round=recipe.round(at))
            found = method.lesson(now)
            count = 10.0 / np.asarray(found.gamma - found.end)  # of steps from 4 to -6
            np.testing.assert_allclose(count, method.finest / 2 ** (number + 1), rtol=1e-4)


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
        ("flow_map(rule='eulerian')", "allowed: progressive, lagrangian"),
        ("flow_map(both=True, rule='lagrangian')", "needs rule='progressive'"),
        ("flow_map(steps=3)", "that steps=3 divides"),
        ("flow_map(taught=1.0)", "both the teacher's steps and the student's own are needed"),
    ],
)
def test_methods_that_cannot_work_say_so(spec, says):
    with pytest.raises(ConfigError, match=says):
        registry.build("distillation", spec)


class OneLesson:
    """A method whose lesson is given; it asks the teacher once."""

    rounds, cond_scalars, steps = 1, (), 1

    def __init__(self, lesson):
        self.given = lesson

    def lesson(self, inputs):
        inputs.teach(inputs.noisy(self.given.gamma), self.given.gamma[None])
        return self.given


def updated(lesson, x=0.0, weight=0.0):
    """What a step reports of a student whose x is one number, and the teacher's conditions."""
    conditions = []

    def walk(params, z, gammas, cond):
        conditions.append(cond)
        return z

    def denoiser(params):
        def predict(z, gamma, cond):
            x, g = params["network"]["x"] + 0.0 * z, expand(gamma, z)
            return Pred(x, (z - alpha(g) * x) / sigma(g))

        return predict

    teacher = SimpleNamespace(
        edges=np.array([4.0, -4.0]),
        walk=walk,
        noisy=lambda params, x, gamma, eps, cond: diffuse(x, gamma, eps),
    )
    model = SimpleNamespace(examples=lambda batch: (batch["image"], {}), denoiser=denoiser)
    recipe = Recipe(
        model, teacher, OneLesson(lesson), optax.sgd(0.1), registry.build("augment", "none()"), (),
        False, 10, weight, 0,
    )  # fmt: skip
    network = {"network": {"x": jnp.float32(x)}}
    params = {**network, "schedule": {}}
    state = State(jnp.asarray(0), params, {}, recipe.optimizer.init(network))
    batch = {"image": lesson.z, "label": jnp.zeros(len(lesson.z), int)}
    return recipe.update(state, batch, None)[1], conditions


def test_the_loss_of_a_student_is_the_larger_of_its_errors():
    """In x and in eps, where there is little noise and where there is much."""
    z, x = jnp.array([[0.3], [-0.8], [0.5], [1.1]]), jnp.array([[0.1], [0.7], [-0.2], [0.4]])
    gamma, end = jnp.array([-3.0, -1.0, 0.5, 4.0]), jnp.array([-5.0, -4.0, -4.0, 2.0])
    eps = (z - alpha(gamma)[:, None] * x) / sigma(gamma)[:, None]
    found, _ = updated(Lesson(z, gamma, end, diffuse(x, end, eps)), x=0.25)
    own = (z - alpha(gamma)[:, None] * 0.25) / sigma(gamma)[:, None]
    expected = np.maximum(np.square(0.25 - x), np.square(own - eps)).mean()
    assert float(found["loss"]) == pytest.approx(expected, rel=1e-5)


def test_a_student_is_trained_with_guidance_weights_up_to_the_largest():
    n = 4000
    gamma = jnp.full(n, 1.0)
    lesson = Lesson(jnp.zeros((n, 1)), gamma, gamma - 1.0, jnp.zeros((n, 1)))
    _, (cond,) = updated(lesson, weight=3.0)
    uniform = np.sort(np.asarray(cond["w"])) / 3.0
    assert np.abs(uniform - np.linspace(0, 1, n)).max() < 0.03  # Kolmogorov-Smirnov
    _, (cond,) = updated(lesson)
    assert "w" not in cond

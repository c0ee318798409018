"""Consistency students and their sampler, against Gaussian data in closed form, and whole runs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from closed_form import ConsistentGaussian, build, law
from command import main
from gaussian import Gaussian as Data
from scipy import stats
from test_distill import first_loss, student, teacher  # noqa: F401
from test_distill_lessons import MEAN, VARIANCE, flow, inputs

from diffusion_jax import registry
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import open_run
from diffusion_jax.networks.layers.full_precision import in_float32
from diffusion_jax.sampling import integrate
from diffusion_jax.training.distillation.base import aim, land, log_normal
from diffusion_jax.types import Pred, alpha, diffuse, expand, sigma

PLANS = [[4.0, -6.0], [4.0, 1.0, -6.0], [4.0, 0.0, 2.0, -3.0, -6.0]]


def method(spec):
    return registry.build("distillation", spec)


# The sampler


@pytest.mark.parametrize("plan", PLANS)
def test_renoise_draws_the_exact_law_of_a_gaussian(float64, monkeypatch, plan):
    mean, cov = np.array([0.7, -0.2]), np.array([[0.3, 0.1], [0.1, 0.05]])
    exact = ConsistentGaussian(mean, cov, end=plan[-1])
    found = law(monkeypatch, exact, "renoise()", np.array(plan))
    for a, b in zip(found, exact.noised(plan[-1]), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_renoise_in_one_step_is_ddim_and_more_steps_draw_noise():
    z = jax.random.normal(jax.random.key(0), (3, 2))
    exact = ConsistentGaussian(np.array([0.7, -0.2]), np.diag([0.3, 1.2]), end=-6.0)
    one, more = (
        [integrate(exact.denoise, build(s), np.array(plan), z, jax.random.key(1))
         for s in ("renoise()", "ddim()")]
        for plan in PLANS[:2]
    )  # fmt: skip
    np.testing.assert_allclose(*one, rtol=1e-6)
    assert np.abs(more[0] - more[1]).max() > 0.1


def test_a_run_whose_predictions_are_means_is_not_sampled_by_renoise(teacher):  # noqa: F811
    with pytest.raises(ConfigError, match=r"renoise\(\) is for a consistency model.*use ddim\(\)"):
        open_run(teacher.workdir).sample(4, sampler="renoise()", steps=3)


# Lessons


def test_lessons_begin_at_log_normal_ratios_of_noise_to_signal(float64):
    u, edges = jnp.linspace(0.0, 0.999, 50), jnp.array([4.0, 0.0, -6.0])
    ratio = 0.5 * log_normal(u, edges, -1.1, 2.0)
    low, high = ((g - -1.1) / 2.0 for g in (0.5 * -5.9, 0.5 * 4.0))
    np.testing.assert_allclose(stats.truncnorm(low, high, -1.1, 2.0).cdf(ratio), u, atol=1e-9)


def asked(spec, progress, **changes):
    """A lesson, and what it has of the student before."""
    made = dataclasses.replace(inputs(method(spec), progress), **changes)

    def both():
        found = method(spec).lesson(made)
        return found, land(made.student(found.z, found.gamma), found.end)

    return jax.jit(both)()


def test_scm_begins_as_regression_on_v(float64):
    """The teacher itself is then what lessons ask for; later it is led to where its ODE leads."""
    exact = inputs(method("scm()"), 0.0)
    found, own = asked("scm(warm=0.5)", 0.0, student=exact.teacher)
    np.testing.assert_allclose(found.z_end, own, atol=1e-12)
    found, own = asked("scm(warm=0.5)", 0.5, student=exact.teacher)
    assert jnp.all((found.z_end - own) * (flow(found.z, found.gamma, found.end) - own) > 0.0)
    half, _ = asked("scm(warm=0.5)", 0.25, student=exact.teacher)
    assert jnp.all(jnp.abs(half.z_end - own) < jnp.abs(found.z_end - own))


def test_a_derivative_over_a_span_is_exact_up_to_its_square(float64):
    """Within the plan: at its ends the difference is to one side."""
    off = []
    for span in (0.4, 0.2):
        found, _ = asked(f"scm(warm=0.0, span={span})", 0.0)
        inside = (found.gamma > -5.8) & (found.gamma < 3.8)
        wrong = found.z_end - flow(found.z, found.gamma, found.end)
        off.append(jnp.sqrt(jnp.mean(jnp.square(wrong[inside]))))
    assert 0.0 < off[0] < 1e-2
    assert 3.6 < off[0] / off[1] < 4.4


def test_tangents_of_scm_are_of_size_one_at_most(float64):
    """A student that is far off is led no faster than one that is near."""

    def wrong(z, gamma):
        v, g = 100.0 * jnp.sin(9.0 * z), expand(gamma, z)
        return Pred(alpha(g) * z - sigma(g) * v, sigma(g) * z + alpha(g) * v)

    found, _ = asked("scm(warm=0.0)", 0.0, student=wrong)
    g, target = expand(found.gamma, found.z), aim(found)
    off = (target - wrong(found.z, found.gamma).x) / sigma(g)
    size = jnp.sqrt(jnp.mean(off**2, axis=1))
    assert jnp.all((size > 0.9) & (size < 1.0))


def test_ect_begins_as_denoising(float64):
    """The student is not asked, and the target is the image with the same noise."""
    made = dataclasses.replace(inputs(method("ect()"), 0.0), jump=lambda z, *ends: z * jnp.nan)
    found = method("ect()").lesson(made)
    np.testing.assert_allclose(found.z_end, made.noisy(found.end), atol=1e-12)


def test_pairs_of_ect_draw_together_and_are_unbiased(float64):
    """Given the noisier of a pair, the mean of where the other leads is known for a Gaussian."""
    apart, whole = [], []
    for stage in (1, 6, 7):

        def made(stage=stage):
            seen = []
            given = dataclasses.replace(
                inputs(method("ect()"), stage / 8.0, n=4096),
                jump=lambda *a: seen.append(a) or flow(*a),
            )
            return method("ect()").lesson(given), seen[0][1]

        found, nearer = jax.jit(made)()
        g = found.gamma
        assert jnp.all((nearer < g) & (nearer >= found.end))
        apart.append(-jnp.expm1(0.5 * (nearer - g)))
        whole.append(nearer > found.end)
        (a, s), (b, t), (c, w) = (
            (alpha(expand(x, found.z)), sigma(expand(x, found.z))) for x in (g, nearer, found.end)
        )
        std, near, end = (jnp.sqrt(p**2 * VARIANCE + q**2) for p, q in ((a, s), (b, t), (c, w)))
        same = (a * b * VARIANCE + s * t) / (std * near)
        z = (found.z - a * MEAN) / std
        product = z * ((found.z_end - c * MEAN) / end - same * z)
        assert jnp.all(jnp.abs(product.mean(0)) < 4.0 * product.std(0) / 64.0)
    assert jnp.all(1.0 - same < 2e-3)
    assert whole[0].mean() < 0.3 and whole[1].mean() > 0.9
    np.testing.assert_allclose((apart[1] / apart[2])[whole[1]], 2.0, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["scm(warm=0.2)", "ect()"])
def test_a_student_linear_in_z_learns_the_flow(spec):
    """From nothing, within 15% of its slope; that of the mean is a sixth of it."""
    taught, steps, n = method(spec), 1500, 192

    def said(params, z, gamma):
        t = [jnp.ones_like(gamma), (gamma + 1.0) / 5.0]
        for _ in range(6):
            t.append(2.0 * t[1] * t[-1] - t[-2])  # Chebyshev's
        scale, shift = jnp.einsum("kb,pkd->pbd", jnp.stack(t), params)
        v, g = scale * z + shift, expand(gamma, z)
        return Pred(alpha(g) * z - sigma(g) * v, sigma(g) * z + alpha(g) * v)

    optimizer = optax.adam(optax.cosine_decay_schedule(2e-2, steps))

    def update(carry, i):
        params, state = carry
        keys = jax.random.split(jax.random.fold_in(jax.random.key(0), i), 3)
        x, eps = (jax.random.normal(k, (n, 2)) for k in keys[:2])
        made = dataclasses.replace(
            inputs(taught, i / steps, n),
            u=(jnp.arange(n) + jax.random.uniform(keys[2])) / n,
            noisy=lambda gamma: diffuse(MEAN + np.sqrt(VARIANCE) * x, gamma, eps),
            jump=lambda z, gamma, end: land(said(params, z, gamma), end),
            student=lambda z, gamma: said(params, z, gamma),
        )
        lesson = jax.lax.stop_gradient(taught.lesson(made))
        weight = jnp.maximum(1.0, jnp.exp(-expand(lesson.gamma, x)))

        def loss(p):
            off = said(p, lesson.z, lesson.gamma).x - aim(lesson)
            return jnp.mean(weight * jnp.square(off))

        change, state = optimizer.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, change), state), None

    params = jnp.zeros((2, 8, 2))
    start = (params, optimizer.init(params))
    (params, _), _ = jax.jit(lambda c: jax.lax.scan(update, c, jnp.arange(steps)))(start)
    z, gamma, end = jnp.array([[-1.0, -1.0], [1.0, 1.0]]), jnp.full(2, 4.0), jnp.full(2, -6.0)
    own, exact = land(said(params, z, gamma), end), flow(z, gamma, end)
    np.testing.assert_allclose((own[1] - own[0]) / (exact[1] - exact[0]), 1.0, atol=0.15)
    np.testing.assert_allclose(own.mean(0), exact.mean(0), atol=0.1)


# Runs


def test_networks_lose_their_type_for_derivatives():
    network = registry.build("backbones", "stacked_frames(of=mlp(width=8))", dtype="bfloat16")
    assert network.of.dtype == jnp.bfloat16
    assert in_float32(network).of.dtype is None
    assert in_float32("anything") == "anything"


@pytest.mark.parametrize(
    ("spec", "more", "says"),
    [
        ("ect()", ", guidance=cfg(w=1.5)", "guidance cannot be built in"),
        ("ect()", ", weight=1.5", "guidance cannot be built in"),
        ("ect(q=0.5)", "", "q=0.5 must be above 1"),
    ],
)
def test_what_a_method_cannot_do_is_one_line(teacher, spec, more, says):  # noqa: F811
    with pytest.raises(ConfigError, match=says):
        first_loss(student(teacher, "never", more, method=spec))


@pytest.mark.parametrize("network", ["unet()", "stacked_frames(of=dit())"])
def test_derivatives_of_fourier_features_are_refused(network):
    """Whatever network has them: it says so."""
    model = Data().model()
    method("scm()").check(model, True)
    model = dataclasses.replace(model, network=registry.build("backbones", network))
    with pytest.raises(ConfigError, match=r"scm\(\) .* Fourier .* with fourier=False"):
        method("scm()").check(model, False)
    method("ect()").check(model, False)


@pytest.mark.parametrize("spec", ["scm(warm=0.0)", "ect()"])
def test_both_have_something_to_learn_at_first(teacher, spec):  # noqa: F811
    assert 0.0 < first_loss(student(teacher, "fresh", method=spec)) < 1e3


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["scm(steps=2)", "ect(steps=2)"])
def test_a_consistency_student_takes_any_number_of_steps(teacher, spec):  # noqa: F811
    from diffusion_jax.cli.modes import train

    run = student(teacher, spec[:3], method=spec, eval_every=2)
    train.run(run)
    assert "test/agreement" in (run.workdir / "metrics.jsonl").read_text()
    run = open_run(run.workdir)
    assert run.config.sampler == "renoise()" and run.config.sample.steps == 2
    one, three = (run.sample(3, steps=n) for n in (1, 3))
    assert one.shape == three.shape == (3, 4, 4, 1)
    done = main("--mode=sample", f"--workdir={run.workdir}", "--config.sampler=ddim()")
    assert done.returncode == 2
    assert "distilled for renoise(), any number of steps: leave sampler out" in done.stderr

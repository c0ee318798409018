"""Flow maps: jumps told where they end, against Gaussian data in closed form, and a whole run."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command import main
from test_distill import first_loss, student, teacher  # noqa: F401
from test_distill_lessons import flow, inputs

from diffusion_jax import registry
from diffusion_jax.denoiser import StatefulDenoiser, then, with_condition
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import open_run
from diffusion_jax.experiment.measures import run_agreement
from diffusion_jax.experiment.sampling import sampling_method
from diffusion_jax.sampling import loop
from diffusion_jax.training.distillation.base import Lesson, aim
from diffusion_jax.types import Pred, alpha, expand, sigma

JUMP, DDIM = (registry.build("samplers", s) for s in ("jump()", "ddim()"))
Z = jnp.array([[0.2, -1.0], [1.5, 0.7]])


def exact(z, gamma, cond, jump=flow):
    """A flow map, that of Gaussian data, as a network that is told where to jump."""
    g, end = (jnp.broadcast_to(a, z.shape[:1]) for a in (gamma, cond["to"]))
    x = aim(Lesson(z, g, end, jump(z, g, end)))
    return Pred(x, (z - alpha(expand(g, z)) * x) / sigma(expand(g, z)))


@pytest.mark.parametrize("plan", [[4.0, -6.0], [4.0, 1.0, -6.0], [4.0, 3.9, 0.0, -5.0, -6.0]])
def test_any_number_of_jumps_is_the_flow(float64, plan):
    z = Z.astype(float)
    ends = jnp.full(2, 4.0), jnp.full(2, -6.0)
    found = loop.integrate(with_condition(exact, {}), JUMP, np.array(plan), z, jax.random.key(0))
    np.testing.assert_allclose(found, flow(z, *ends), atol=1e-12)


def test_what_is_wrapped_around_a_denoiser_passes_on_where_a_step_ends():
    """State, a change of the prediction, both: the network hears the ends of all steps."""
    plan, heard = np.array([4.0, 1.0, -2.0]), []

    def network(z, gamma, cond):
        jax.debug.callback(lambda to: heard.append(float(to[1])), cond["to"], ordered=True)
        return Pred(z, z)

    with_state = StatefulDenoiser(lambda z: (), lambda s, *args: (network(*args), s))
    for plain in (network, with_state, then(network, lambda pred, *rest: pred)):
        loop.integrate(with_condition(plain, {}), JUMP, plan, Z, jax.random.key(0))
        jax.effects_barrier()
        assert heard == [1.0, -2.0]
        heard.clear()


def test_over_a_denoiser_that_is_told_nothing_it_is_ddim():
    def denoise(z, gamma):
        return Pred(jnp.tanh(z), z - jnp.tanh(z))

    plan, key = np.linspace(4.0, -6.0, 5), jax.random.key(0)
    np.testing.assert_array_equal(*(loop.integrate(denoise, s, plan, Z, key) for s in (JUMP, DDIM)))


@pytest.mark.parametrize("both", [False, True])
def test_lessons_are_of_every_length_and_both_ways_if_asked(float64, both):
    method = registry.build("distillation", f"flow_map(steps=2, finest=16, both={both})")
    found = method.lesson(inputs(method, 0.0, n=2048))
    length = np.abs(np.asarray(found.gamma - found.end)) / 10.0  # of the way from 4 to -6
    assert (length > 0.0624).all() and (length <= 1.0 + 1e-12).all()
    assert abs((length < 0.125).mean() - 0.5) < 0.05  # taught
    assert 0.03 < (length > 1.0 - 1e-12).mean() < 0.12  # the whole way
    up = np.asarray(found.end > found.gamma)
    assert abs(up.mean() - 0.5 * both) < 0.05


@pytest.mark.parametrize("n", [64, 256])
def test_both_ways_occur_in_every_batch(n):
    """Of the teacher's steps and of its own, wherever the strata of a batch lie."""
    method = registry.build("distillation", "flow_map(steps=2, finest=16, both=True)")
    made = inputs(method, 0.0, n=n)
    for offset in (0.0, 0.3, 0.7):
        found = method.lesson(dataclasses.replace(made, u=(jnp.arange(n) + offset) / n))
        up = np.asarray(found.end > found.gamma)
        for part in (made.v < method.taught, made.v >= method.taught):
            assert 0.25 < up[part].mean() < 0.75


def test_a_run_that_is_told_nothing_is_not_sampled_by_jumps(teacher):  # noqa: F811
    with pytest.raises(ConfigError, match=r"jump\(\) is for a flow map.*use ddim\(\), or train"):
        open_run(teacher.workdir).sample(4, sampler="jump()", steps=3)


def test_a_map_begins_anywhere_and_is_compared_by_its_jumps(teacher):  # noqa: F811
    """Edits cut the plan between its steps, which only students of one plan refuse."""
    params = {"schedule": teacher.model.schedule.init(jax.random.key(0))}
    edit = registry.build("edits", "sdedit(start=0.123)")
    plain, free = (
        student(teacher, n, method=f"{m}(steps=2)", guidance="none()")
        for n, m in (("plain", "segments"), ("free", "flow_map"))
    )
    assert sampling_method.build(free, params, edit).gammas[0] == pytest.approx(0.123)
    with pytest.raises(ConfigError, match="starts between the 2 steps"):
        sampling_method.build(plain, params, edit)
    for run in (teacher, plain, free):
        vars(run)["loaded"] = ({}, {})  # nothing is drawn here
    free.config.sample.num = plain.config.sample.num = 4
    drawn = run_agreement.as_drawn(free, teacher)
    assert [run.config.sampler for run in drawn] == ["jump()", "ddim()"]
    with pytest.raises(ConfigError, match=r"must sample like .* distilled for 2 steps of ddim"):
        run_agreement.as_drawn(free, plain)


@pytest.fixture(scope="module")
def mapped(teacher):  # noqa: F811
    from diffusion_jax.cli.modes import train

    run = student(teacher, "mapped", method="flow_map(steps=2, finest=8)", eval_every=2)
    train.run(run)
    return run


@pytest.mark.slow
def test_one_student_takes_any_number_of_steps(mapped):
    run = open_run(mapped.workdir)
    assert run.config.sampler == "jump()" and run.config.sample.steps == 2
    one, three = (run.sample(3, steps=n) for n in (1, 3))
    assert one.shape == three.shape == (3, 4, 4, 1)
    done = main("--mode=sample", f"--workdir={mapped.workdir}", "--config.sampler=ddim()")
    assert done.returncode == 2
    assert "distilled for jump(), any number of steps: leave sampler out" in done.stderr


def test_the_layer_that_hears_the_end_begins_at_zero(teacher):  # noqa: F811
    """Told or not, the first jump is the teacher's step; the lesson of its own is not zero."""
    run = student(teacher, "fresh", method="flow_map(steps=2, finest=8)")
    names = [jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(run.shapes())]
    assert any("['to']" in name for name in names)
    assert 0.0 < first_loss(run) < 1e3

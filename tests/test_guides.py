"""Every guide found in the folder keeps the contract; the discriminator finds the log-ratio."""

import dataclasses
import json
import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from weights import moved

from diffusion_jax import registry
from diffusion_jax.cli.modes import (
    _eval_guide,
    eval as eval_mode,
    sample as sample_mode,
    train,
)
from diffusion_jax.data.passes import Pass
from diffusion_jax.errors import ConfigError
from diffusion_jax.evaluation import guides
from diffusion_jax.experiment import guidance_models
from diffusion_jax.experiment.sampling import sampling_method
from diffusion_jax.networks.guides.base import Guide
from diffusion_jax.sampling import generate
from diffusion_jax.training import state as state_lib
from diffusion_jax.training.tasks.guide import Recipe

OFFERED = {"num_classes": 4, "classes": tuple("abcd"), "gamma_min": -6.0, "gamma_max": 4.0}
SMALL = "width=16, mults=(1,), blocks=1"
SHAPE = (4, 4, 1)


def guide(name, **offered):
    return registry.build("guides", f"{name}({SMALL})", **{**OFFERED, **offered})


@pytest.mark.parametrize("name", registry.available("guides"))
def test_contract(name):
    """Shapes, gradients, no opinion on examples beside one's own, one gamma or one each."""
    s = guide(name)
    assert isinstance(s, Guide)
    params = moved(jax.jit(lambda k: s.init(k, SHAPE))(jax.random.key(0)), 0.3)
    z = jax.random.normal(jax.random.key(1), (3, *SHAPE))
    label, gamma = jnp.array([0, 3, 1]), jnp.array([-5.0, 0.0, 3.0])
    each = s.loss(params, z, gamma, {"label": label}, None)
    assert set(each) == {"loss", *s.metrics}
    assert all(v.shape == (3,) and jnp.isfinite(v).all() for v in each.values())
    cond = {"label": jnp.array([0, 1, 1]), "text": "a"}
    log_p = jax.jit(lambda z: s.log_prob(params, z, gamma, cond))
    assert log_p(z).shape == (3,)
    pull = jax.grad(lambda z: log_p(z)[1])(z)
    assert jnp.abs(pull[1]).max() > 0
    assert jnp.abs(pull[jnp.array([0, 2])]).max() == 0
    pixels = jnp.broadcast_to(gamma[:, None, None, None], z.shape)
    np.testing.assert_allclose(s.log_prob(params, z, pixels, cond), log_p(z), rtol=1e-5, atol=1e-6)
    one = s.log_prob(params, z[1:2], jnp.asarray(0.0), {**cond, "label": cond["label"][1:2]})
    np.testing.assert_allclose(one, log_p(z)[1:2], rtol=1e-4, atol=1e-5)


def test_before_training_nothing_is_preferred():
    z, label = jnp.ones((2, *SHAPE)), jnp.array([1, 2])
    s = guide("classifier")
    found = s.loss(s.init(jax.random.key(0), SHAPE), z, jnp.zeros(2), {"label": label}, None)[
        "loss"
    ]
    np.testing.assert_allclose(found, math.log(4.0), rtol=1e-6)
    s = guide("discriminator")
    np.testing.assert_allclose(
        s.log_prob(s.init(jax.random.key(0), SHAPE), z, jnp.zeros(2), {"label": label}), 0.0
    )


def test_a_classifier_says_nothing_of_the_null_class():
    s = guide("classifier")
    params = moved(jax.jit(lambda k: s.init(k, SHAPE))(jax.random.key(0)), 0.3)
    z = jax.random.normal(jax.random.key(1), (5, *SHAPE))
    log_p = [s.log_prob(params, z, jnp.zeros(5), {"label": jnp.full(5, k)}) for k in range(5)]
    np.testing.assert_array_equal(log_p[4], 0.0)
    np.testing.assert_allclose(jnp.exp(jnp.stack(log_p[:4])).sum(0), 1.0, rtol=1e-5)


def test_a_discriminator_says_nothing_of_an_image_without_a_class():
    """It was always told one: that of no class is as it was drawn at the start."""
    s = registry.build("guides", f"discriminator({SMALL})", **{**OFFERED, "num_classes": 6})
    params = moved(jax.jit(lambda: s.init(jax.random.key(0), SHAPE))(), 0.3)
    z = jax.random.normal(jax.random.key(1), (4, *SHAPE))
    ask = lambda cond: s.log_prob(params, z, jnp.zeros(4), cond)
    np.testing.assert_array_equal(ask({}), 0.0)
    found = ask({"label": jnp.asarray([0, 3, 2, 3])})
    np.testing.assert_array_equal(found[1::2], 0.0)
    assert (jnp.abs(found[::2]) > 1e-4).all()


@pytest.mark.slow
def test_a_discriminator_finds_the_log_ratio_of_noisy_laws():
    """Data N(m, v) per pixel against samples N(-m, v): the log-ratio of what is left of them."""
    mean, var, n = 0.05, 0.1, 512
    s = registry.build("guides", f"discriminator({SMALL}, dropout=0.0)", **{**OFFERED,
                       "num_classes": 2})  # fmt: skip
    recipe = Recipe(
        s, lambda x: x, -6.0, 4.0, optax.adam(optax.cosine_decay_schedule(3e-3, 300)),
        (("0.9", 0.9),), True, seed=0,
    )  # fmt: skip
    state = state_lib.init(s.init(jax.random.key(0), SHAPE), recipe.optimizer, (0.9,))

    def draw(key):
        label = jnp.arange(n) % 2
        noise = jax.random.normal(key, (n, *SHAPE))
        return {"image": (1 - 2 * label)[:, None, None, None] * mean + var**0.5 * noise,
                "label": label}  # fmt: skip

    step = jax.jit(lambda state, key: recipe.update(state, draw(key))[0])
    for key in jax.random.split(jax.random.key(1), 300):
        state = step(state, key)
    for gamma in (-6.0, 0.0):
        a2, s2 = jax.nn.sigmoid(-gamma), jax.nn.sigmoid(gamma)
        x = draw(jax.random.key(2))["image"]
        z = a2**0.5 * x + s2**0.5 * jax.random.normal(jax.random.key(3), x.shape)
        exact = 2 * a2**0.5 * mean / (a2 * var + s2) * z.sum((1, 2, 3))
        found = s.log_prob(state.ema["0.9"], z, jnp.asarray(gamma), {})
        assert np.corrcoef(exact, found)[0, 1] > 0.9
        assert np.polyfit(exact, found, 1)[0] == pytest.approx(1.0, abs=0.4)


@pytest.mark.parametrize(
    ("spec", "offered", "says"),
    [
        ("classifier()", {"num_classes": 0}, "no classes"),
        ("discriminator()", {"num_classes": 0}, "set `against`"),
        ("clip()", {"classes": ()}, "name no classes"),
        ("clip(captions=(('x', (9,)),))", {}, "give classes among 0 .. 3"),
        ("clip(captions=(('', (1,)),))", {}, "1 to 64 bytes"),
    ],
)
def test_settings_are_checked(spec, offered, says):
    with pytest.raises(ConfigError, match=says):
        registry.build("guides", spec, **{**OFFERED, **offered})


class Level:
    """Its loss is the noise level that it sees."""

    metrics = ()

    def loss(self, params, z, gamma, told, keys):
        return {"loss": gamma}


def test_a_judge_of_clean_images_sees_the_least_noise_and_guides_nothing(tmp_path):
    experiment = tiny.experiment(tmp_path, task=f"guide(classifier({SMALL}), clean=True)")
    recipe = experiment.task.open(experiment, _eval_guide._HANDED).recipe
    np.testing.assert_array_equal(recipe.gamma(np.linspace(0, 1, 5)), -5.0)
    recipe, how = (
        dataclasses.replace(recipe, network=Level()),
        Pass(experiment.mesh, 13, quiet=True),
    )
    rows = guides.measure(recipe, {}, experiment.source.split("test"), how)
    assert rows == [{"gamma": -5.0, "loss": -5.0}]
    with pytest.raises(ConfigError, match=r"trained on clean images .* cannot guide sampling"):
        experiment.task.function(experiment)


def test_guides_are_measured_with_the_seed_and_the_precision_of_evaluation(tmp_path):
    how = {"seed": 5, "matmul_precision": "tensorfloat32"}
    experiment = tiny.experiment(tmp_path, task=f"guide(classifier({SMALL}))", eval=how)
    task = experiment.task.open(experiment, _eval_guide._HANDED)
    split, seen = experiment.source.split("test"), []

    class Seen(Level):
        def loss(self, params, z, gamma, told, keys):
            seen.append(jax.config.jax_default_matmul_precision)
            return {"loss": z.sum((1, 2, 3))}

    recipe = dataclasses.replace(task.recipe, network=Seen())
    task = SimpleNamespace(setting=experiment, recipe=recipe)
    first = _eval_guide.score(task, {}, split)
    experiment.config.eval.seed = 6
    assert _eval_guide.score(task, {}, split) != first
    assert {*seen} == {"tensorfloat32"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A diffusion model and a classifier of the same images."""
    folder = tmp_path_factory.mktemp("guides")
    model = tiny.experiment(folder, "model", eval_every=0)
    model.config.sample.num, model.config.eval.timesteps = 0, ()
    train.run(model)
    experiment = tiny.experiment(
        folder,
        "classifier",
        task=f"guide(classifier({SMALL}))",
        steps=80,
        lr=3e-3,
        eval_every=40,
        save_every=40,
        log_every=40,
    )
    train.run(experiment)
    return folder, model, experiment


@pytest.mark.slow
def test_a_classifier_learns_reports_and_guides(runs):
    folder, _, experiment = runs
    report = json.loads((experiment.workdir / "eval" / "80.json").read_text())
    levels = report["loss_by_gamma"]
    assert (levels["gamma"][0], levels["gamma"][-1]) == (-5.0, 4.0)
    assert levels["accuracy"][0] > 0.6  # three classes that differ in brightness
    assert levels["mean"][0] < levels["mean"][-1]
    before = (experiment.workdir / "eval" / "80.json").read_bytes()
    eval_mode.run(experiment)
    assert (
        json.loads(before)["mean"]
        == json.loads((experiment.workdir / "eval" / "80.json").read_text())["mean"]
    )
    # Guidance by it raises its own opinion of the samples.
    log_p = []
    for scale in (0.0, 20.0):
        named = (
            f"classifier(scale={scale}, checkpoint={str(experiment.workdir)!r}, inner=cfg(w=0.0))"
        )
        guided = tiny.experiment(folder, "model", guidance=named)
        guided.config.sample.num, guided.config.sample.steps = 24, 10
        params, _ = guided.weights()
        method = sampling_method.build(guided, params)
        run = generate.compile_sampler(guided.model, method, guided.mesh)
        labels = generate.labels_for(guided.model, 24, ())
        out = generate.generate(params, run, (4, 4, 1), labels, 24, 24, 0, guided.mesh)
        x = guided.model.decoder.encode(jnp.asarray(out))
        own, _ = experiment.weights()
        cond = {"label": jnp.asarray(labels)}
        log_p.append(
            float(
                experiment.task.network(experiment).log_prob(own, x, jnp.asarray(-5.0), cond).mean()
            )
        )
    assert log_p[1] > log_p[0] + 0.1, log_p


@pytest.mark.slow
def test_what_does_not_fit_is_refused(runs, tmp_path):
    folder, model, experiment = runs

    def sampling(guidance):
        with pytest.raises(ConfigError) as e:
            sample_mode.check(tiny.experiment(folder, "model", guidance=guidance))
        return str(e.value)

    where = str(experiment.workdir)
    assert "holds a classifier" in sampling(f"autoguidance(checkpoint={where!r})")
    assert "needs a classifier" in sampling(f"classifier(checkpoint={str(model.workdir)!r})")
    assert "there is no folder nowhere" in sampling("classifier(checkpoint='nowhere')")
    sample_mode.check(
        tiny.experiment(folder, "model", guidance=f"classifier(checkpoint={where!r})")
    )
    with pytest.raises(ConfigError, match="not a diffusion model"):
        sample_mode.run(experiment)
    other = tiny.experiment(folder, "digits", task="guide(classifier())", data="digits()",
                     guidance=f"classifier(checkpoint={where!r})")  # fmt: skip
    with pytest.raises(ConfigError, match="was trained on"):
        guidance_models.open_helper(other, "classifier", where)
    with pytest.raises(ConfigError, match="needs at least 100"):
        train.run(
            tiny.experiment(
                folder, "d", task=f"guide(discriminator(), against={str(model.workdir)!r})"
            )
        )


@pytest.mark.slow
def test_a_discriminator_is_trained_against_a_run(runs):
    folder, model, _ = runs
    experiment = tiny.experiment(folder, "discriminator", task=f"guide(discriminator({SMALL}), "
                   f"against={str(model.workdir)!r})", guidance="none()", lr=3e-3, steps=240,
                   eval_every=0, save_every=0, log_every=120)  # fmt: skip
    experiment.config.sample.num = experiment.config.sample.batch = 120
    train.run(experiment)
    with np.load(experiment.workdir / "against.npz") as f:
        assert f["image"].shape == (120, 4, 4, 1)
    report = json.loads((experiment.workdir / "eval" / "240.json").read_text())
    # Six training steps leave samples that anybody can tell from data where there is little noise.
    assert report["loss_by_gamma"]["accuracy"][0] > 0.7
    # Autoguidance by an early checkpoint of the same run, and by the discriminator.
    early = str(model.workdir / "checkpoints" / "4")
    below = f"autoguidance(checkpoint={early!r})"
    guided = tiny.experiment(
        folder, "model", guidance=f"discriminator({str(experiment.workdir)!r}, inner={below})"
    )
    params, record = guided.weights()
    sample_mode.sample(guided, params, record["step"])

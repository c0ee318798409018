"""Networks of parts of images, or of latents, where whole images are asked about; and more."""

import dataclasses
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from diffusion_jax import registry
from diffusion_jax.cli.modes import _discriminator_data, _records, inspect as inspect_mode
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import cascade, clip_model, texts
from diffusion_jax.experiment.measures import features, null_of_another
from diffusion_jax.types import Coded

SMALL = "width=8, mults=(1,), blocks=1"


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"view": "low()"}, r"a part of each image \(view='low\(\)'\)"),
     ({"autoencoder": "conv(checkpoint='runs/vae')"}, "latents")],
)  # fmt: skip
def test_judges(tmp_path, changes, says):
    where = tiny.settings_only(tmp_path, "a", task=f"guide(classifier({SMALL}))", **changes)
    with pytest.raises(ConfigError, match=says):
        features.open_classifier(tiny.experiment(tmp_path), where, "quality.classifier")
    changes["text"] = "bytes(length=8, width=8, depth=1, heads=2)"
    where = tiny.settings_only(tmp_path, "b", task=f"guide(clip({SMALL}))", **changes)
    with pytest.raises(ConfigError, match=says):
        clip_model.opened(where)


@pytest.mark.parametrize(
    ("view", "said"),
    [("whole()", "npz/test"), ("low()", "npz/test of the smaller image (low())")],
)
def test_figures_of_a_part_say_so(tmp_path, view, said):
    run = tiny.experiment(tmp_path, view=view)
    assert _records.named(run, run.source.split("test").name) == said


def test_a_run_that_a_discriminator_is_against(tmp_path):
    where = tiny.settings_only(tmp_path, "low", view="low()")
    with pytest.raises(ConfigError, match=r"draws a part of each image"):
        _discriminator_data._run(tiny.experiment(tmp_path), where)


def test_runs_that_information_is_compared_with(tmp_path):
    where = tiny.settings_only(tmp_path, "low", view="low()", conditional=False)
    run = tiny.experiment(tmp_path)
    run.config.inform.against = run.config.inform.of = where
    with pytest.raises(ConfigError, match=r"inform.against=.*the same part of images"):
        null_of_another.opened(run)


def test_an_encoder_and_a_schedule_are_asked_about_latents(tmp_path, monkeypatch):
    """Not about the pixels, which never diffuse there."""
    run, seen = tiny.experiment(tmp_path), []
    traits = dataclasses.replace(run.model.traits, pixels=False, latent=4, mean_coefficient=1.0)
    x = jnp.zeros((9, 4, 4, 1))
    model = SimpleNamespace(
        view=run.model.view, traits=traits,
        coded=lambda params, x: Coded(x, jnp.ones((9, 2, 2, 8)), None),
    )  # fmt: skip
    vars(run)["model"] = model
    monkeypatch.setattr(inspect_mode, "_examples", lambda *_: (x, {}))
    monkeypatch.setattr(inspect_mode, "_measure", lambda *_: {"ends": {"a": 0.0, "b": 1.0}})
    monkeypatch.setattr(inspect_mode, "_table", lambda *_: "")
    monkeypatch.setattr(inspect_mode._records, "publish", lambda *_: None)
    asked = inspect_mode.bound_variance
    monkeypatch.setattr(asked, "curve", lambda *_: {})
    monkeypatch.setattr(asked, "spread", lambda model, params, x, key: seen.append(x) or [])
    monkeypatch.setattr(asked, "encoder_shift", lambda model, params, x, c: seen.append(x) or {})
    inspect_mode.inspect(run, {}, {"step": 0})
    assert [a.shape for a in seen] == [(8, 2, 2, 8), (9, 2, 2, 8)]


@pytest.mark.parametrize("task", ["gan()", "guide(classifier())"])
@pytest.mark.parametrize("told", [{"text": "bytes()"}, {"embedding": "runs/clip"}])
def test_tasks_that_would_never_read_it(tmp_path, task, told):
    run = tiny.experiment(tmp_path, task=task, lr_decay="cosine", **told)
    vars(run)["text"] = "a reader" if "text" in told else None
    vars(run)["source"] = run.data
    (name,) = told
    with pytest.raises(ConfigError, match=f"{name}="):
        run.task.open(run, SimpleNamespace(check=lambda _: None))


@pytest.mark.parametrize(
    ("edit", "told", "works"),
    [("interpolate()", (), False), ("interpolate()", ("to",), True), ("posterior()", (), False),
     ("posterior()", ("to",), False), ("vary()", (), False), ("replace()", (), True)],
)  # fmt: skip
def test_students_are_no_slopes_of_the_ode(tmp_path, edit, told, works):
    model = tiny.experiment(tmp_path).model
    student = dataclasses.replace(model, teacher="runs/teacher", cond_scalars=told)
    built, of = registry.build("edits", edit), tiny.config(tmp_path)
    method = SimpleNamespace(
        guidance=registry.build("guidance", of.guidance), correct=None,
        sampler=registry.build("samplers", "ddim()"), gammas=np.array([4.0, -5.0]),
    )  # fmt: skip
    built.check(model, method)
    if works:
        built.check(student, method)
        return
    with pytest.raises(ConfigError, match=r"use its teacher \(runs/teacher\)"):
        built.check(student, method)


def test_prompts_are_asked_for_once(tmp_path):
    run = tiny.experiment(tmp_path)
    run.config.sample.update({"captions": ("a",), "captions_of": "scenes()"})
    with pytest.raises(ConfigError, match="leave one out"):
        texts.wanted(run, 2)


def test_a_cascade_refuses_settings_that_its_stages_have(tmp_path):
    cascade.check_asked(("stages", "mesh", "guidance", "sample.num", "eval.split", "data_dir"))
    for field in ("dtype", "network", "gamma_min", "data"):
        with pytest.raises(ConfigError, match=f"ignores --config.{field}: .* leave it out"):
            cascade.check_asked(("mesh", field))

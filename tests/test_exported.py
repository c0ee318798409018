"""Exported weights: what is written opens again, and says what it is."""

import copy
import dataclasses
import json

import jax
import numpy as np
import pytest
import tiny

import diffusion_jax as dj
from diffusion_jax.cli.modes import compare, export
from diffusion_jax.errors import CheckpointError, ConfigError
from diffusion_jax.experiment import exported, fine_tuning, latents
from diffusion_jax.training.state import ema_key

ABOUT = {"data": "images", "licence": "CC0", "command": "train", "core_seconds": 7.0}


def weights(experiment):
    shapes, key = jax.tree.flatten(experiment.shapes()), jax.random.key(0)
    keys = jax.random.split(key, len(shapes[0]))
    return shapes[1].unflatten(
        0.1 * jax.random.normal(k, a.shape, a.dtype) for k, a in zip(keys, shapes[0], strict=True)
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    experiment = tiny.experiment(tmp_path_factory.mktemp("exported"))
    return experiment, weights(experiment)


@pytest.fixture
def folder(run, tmp_path):
    return exported.write_folder(
        tmp_path / "small", *run, {"weights": "0.9", "step": 6}, ABOUT, bfloat16=True
    )


def test_weights_open_as_they_were(run, tmp_path):
    experiment, params = run
    where = exported.write_folder(
        tmp_path / "whole", experiment, params, {"weights": "0.99", "step": 6}, ABOUT
    )
    opened = dj.open_run(where)
    jax.tree.map(np.testing.assert_array_equal, opened.params, params)
    assert opened.loaded[1] == {"weights": "0.99", "step": 6, "checkpoint": str(where)}
    assert opened.config.data == experiment.config.data
    assert exported.card(where) | ABOUT == exported.card(where)
    with pytest.raises(ConfigError, match="choose a new folder"):
        exported.write_folder(where, experiment, params, {"weights": "0.9", "step": 6}, ABOUT)


def test_kernels_are_rounded_and_nothing_else(run, folder):
    def check(path, now, then):
        kernel = path[0].key == "network" and path[-1].key == "kernel"
        rounded = np.abs(now - then).max() > 0
        assert rounded == kernel
        np.testing.assert_allclose(now, then, rtol=2**-8)

    jax.tree_util.tree_map_with_path(check, dj.open_run(folder).params, run[1])


def test_the_figure_on_the_card_is_that_of_what_was_written(run, folder):
    experiment = run[0]
    experiment.config.eval.limit = 8
    found = export.measure(experiment, folder)
    assert found["bits_per_dim"] == dj.open_run(folder).bits_per_dim(limit=8).value
    assert found["images"] == 8
    assert found["split"] == "test"


def exporting(run, tmp_path, **changes):
    """The run as `export` opens it."""
    opened = tiny.experiment(tmp_path, **changes)
    opened.__dict__["loaded"] = run[1], {"weights": "0.9", "step": 6, "checkpoint": "nowhere"}
    opened.config.export.output = str(tmp_path / "out")
    opened.config.eval.limit = 4
    return opened


def test_what_cannot_be_measured_is_refused_before_anything_is_written(run, tmp_path):
    asked = exporting(run, tmp_path)
    for name, value, message in (
        ("draws", 15, "draws=15"), ("split", "tset", "tset"), ("batch", 0, "batch"),
        ("matmul_precision", "foo", "matmul_precision"),
    ):  # fmt: skip
        before, asked.config.eval[name] = asked.config.eval[name], value
        with pytest.raises(ConfigError, match=message):
            export.run(asked)
        asked.config.eval[name] = before
        assert not (tmp_path / "out").exists()


def test_an_export_that_was_interrupted_is_completed_by_the_same_command(
    run, tmp_path, monkeypatch
):
    def stopped(*_):
        raise KeyboardInterrupt

    asked, card = exporting(run, tmp_path), tmp_path / "out/card.json"
    with monkeypatch.context() as first:
        first.setattr(export, "measure", stopped)
        with pytest.raises(KeyboardInterrupt):
            export.run(asked)
    unfinished = json.loads(card.read_text())
    other = exporting(run, tmp_path)
    other.config.export.licence = "MIT"
    with pytest.raises(ConfigError, match="choose a new folder"):
        export.run(other)
    assert json.loads(card.read_text()) == unfinished
    export.run(asked)
    assert {**unfinished, "figure": json.loads(card.read_text())["figure"]} == json.loads(
        card.read_text()
    )
    with pytest.raises(ConfigError, match="choose a new folder"):
        export.run(asked)


def test_damage_and_what_is_not_there_are_named(folder):
    with pytest.raises(CheckpointError, match=r"holds only the weights '0\.9'"):
        dj.open_run(folder).weights("params")
    other = dj.open_run(folder)
    other.config.network = "vdm_unet(width=8, depth=1, embed=8)"
    with pytest.raises(CheckpointError, match="network"):
        _ = other.params
    raw = (folder / "weights.npz").read_bytes()
    (folder / "weights.npz").write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="SHA-256"):
        _ = dj.open_run(folder).params
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, "sha256": 5}))
    with pytest.raises(CheckpointError, match=r"card\.json"):
        _ = dj.open_run(folder).params


def test_what_takes_a_run_takes_exported_weights(run, folder, tmp_path, capsys):
    experiment = tiny.experiment(tmp_path, init=str(folder))
    found = fine_tuning.read(experiment, experiment.shapes())
    opened = dj.open_run(folder)
    for path, a in jax.tree_util.tree_leaves_with_path(opened.params):
        np.testing.assert_array_equal(
            found[jax.tree_util.keystr(path, simple=True, separator="/")], a
        )
    assert "starting from" in capsys.readouterr().out
    both = compare._open(opened, folder)
    assert ema_key(both.config.ema[0]) == "0.9"


def test_an_autoencoder_may_be_taken_from_exported_weights(tmp_path):
    conv = "conv(widths=(8, 8), channels=2, attention=False, head=categorical())"
    settings = {"network": "standard_normal()", "prediction": "v", "gamma_max": 5.0}
    vae = tiny.experiment(tmp_path, "vae", autoencoder=conv, **settings)
    what, given = {"weights": "0.9", "step": 6}, weights(vae)
    exported.write_folder(tmp_path / "small", vae, given, what, ABOUT)
    taken = f"conv(checkpoint={str(tmp_path / 'small')!r})"
    prior = tiny.experiment(tmp_path, "prior", autoencoder=taken, **settings)
    latents.settle(prior)  # its settings and SHA-256
    found = latents.read(prior, prior.shapes())
    own = jax.tree_util.tree_leaves_with_path({"autoencoder": given["autoencoder"]})
    assert len(found) == len(own)
    for path, a in own:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        np.testing.assert_array_equal(found[name], a)


@pytest.mark.parametrize(
    ("asked", "kept"), [("0.99", "0.99"), ("posthoc(0.075)", "power(0.075)"), ("params", None)]
)
def test_the_average_that_is_exported_is_the_only_one_there(run, tmp_path, asked, kept):
    def write():
        return exported.write_folder(tmp_path / "one", *run, {"weights": asked, "step": 6}, ABOUT)

    if kept is None:
        with pytest.raises(
            ConfigError, match=r"only averages can be exported: 0\.9, 0\.99, posthoc"
        ):
            write()
        return
    assert exported.card(write())["weights"] == kept
    assert dj.open_run(tmp_path / "one").weights()[1]["weights"] == kept
    asking = dataclasses.replace(run[0], config=copy.deepcopy(run[0].config))
    asking.config.eval.weights = asked  # what is measured for the card
    assert export._written(asking, tmp_path / "one").loaded[1]["weights"] == kept


@pytest.mark.parametrize(("field", "value"), [("output", ""), ("dtype", "float16")])
def test_settings_that_cannot_work(run, tmp_path, field, value):
    experiment = tiny.experiment(tmp_path)
    experiment.config.export.output = str(tmp_path / "out")
    experiment.config.export[field] = value
    with pytest.raises(ConfigError, match=f"export.{field}"):
        export.run(experiment)
    assert not (tmp_path / "out").exists()

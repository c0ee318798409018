"""The benchmark of remembering: rows that can be built, resumed, averaged and drawn."""

import argparse
import math

import numpy as np
import pytest
from PIL import Image
from test_audit import COUNT, SIDE, experiment, folder, tiny_data  # noqa: F401

from benchmarks import memorisation
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment


@pytest.mark.parametrize("name", memorisation.EFFECTS)
def test_every_row_is_a_model_that_can_be_built(name, tmp_path):
    effect = memorisation.EFFECTS[name]
    assert not (effect.settings and effect.measure)
    data = "half(digits(), size=200)"
    run = Experiment(memorisation.config_of(data, 32, 1, effect.settings), tmp_path)
    assert run.model.network and len(run.source.split("train")) == 200
    assert run.config.eval_every == run.config.save_every == 2  # the best one is kept


def test_every_size_leaves_two_disjoint_parts(tmp_path):
    for n in memorisation.SIZES:
        parts = [
            Experiment(
                memorisation.config_of(f"half(digits(), part={p}, size={n})", 32, 0, {}), tmp_path
            ).source.split("train")
            for p in (0, 1)
        ]
        assert [len(p) for p in parts] == [n, n]


def test_killed_it_goes_on_and_failed_rows_leave_the_others(tmp_path, monkeypatch):
    made = []

    def size(n, seed, out, steps, images):
        made.append((n, seed))
        if len(made) == 3:
            raise KeyboardInterrupt
        if n == 50:
            raise ConfigError("no")
        return {"table": "sizes", "row": n, "seed": seed, "cosine": n / 100 + seed, "step": 1}

    monkeypatch.setitem(memorisation._TABLES, "sizes", (size, memorisation.SIZES))
    args = argparse.Namespace(out=tmp_path, seeds=[0, 1], steps=0, images=2)
    with pytest.raises(KeyboardInterrupt):
        memorisation.fill("sizes", (20, 50, 100), args)
    with (tmp_path / "rows.jsonl").open("a") as f:
        f.write('{"table": "sizes", "ro')  # killed while it wrote
    memorisation.fill("sizes", (20, 50, 100), args)
    assert made.count((20, 0)) == 1 and made.count((50, 0)) == 2  # what failed is tried again
    rows = memorisation.read(tmp_path, "sizes")
    assert sorted((r["row"], r["seed"]) for r in rows) == [(20, 0), (20, 1), (100, 0), (100, 1)]
    assert memorisation.read(tmp_path, "effects") == []
    text = memorisation.show("sizes", rows)
    assert "| 20 | 2 | 0.700 +- 0.500 |" in text and "| 100 | 2 | 1.500 +- 0.500 |" in text


def test_a_picture_is_drawn_of_what_there_is(tmp_path):
    rows = [{"row": n, "cosine": n / 700, "cosine_of_others": 0.1, "singled_out": 20 / n}
            for n in (700, 20, 100)]  # fmt: skip
    memorisation.plot(tmp_path / "sizes.png", rows)
    assert np.ptp(np.asarray(Image.open(tmp_path / "sizes.png"))) > 0


def test_what_is_measured_of_a_model_that_knows_its_images_by_heart(folder):  # noqa: F811
    """Everything is found out; of a few images no membership is asked."""
    found = memorisation.figures(experiment(folder), draws=4)
    assert found["auroc"] == 1.0 and found["copies"] == found["singled_out"] == 1.0
    assert found["ratio"] == 0.0 and found["step"] == 7
    assert found["gap"] > 10 * found["gap_se"] > 0
    assert found["test"] == pytest.approx(found["gap"] + math.log2(COUNT) / SIDE**2, abs=0.02)
    few = experiment(folder, data=f"half({tiny_data(folder)}, size=40)")
    assert "auroc" not in (found := memorisation.figures(few)) and found["copies"] == 1.0

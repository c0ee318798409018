"""The table of unCLIP: rows that can be set, and columns that no CLIP of its own has judged."""

import argparse
from pathlib import Path

from benchmarks import guided, unclip
from diffusion_jax import config, saved_config


def test_every_row_is_a_run_with_settings_that_exist(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(saved_config, "find", lambda path: path)
    monkeypatch.setattr(saved_config, "read", lambda path: opened.append(path) or config.base())
    args = argparse.Namespace(
        decoder=Path("d"), prior=Path("p"), direct=Path("t"), other=Path("o"), judge="scenes()",
        data_dir="", num=8, batch=4, guidance="cfg(w=2.0)", sampler="ddim()", steps=3,
        work=tmp_path, draws=2,
    )  # fmt: skip
    runs = {row: unclip.config_of(args, row) for row in unclip.settings("p")}
    assert [str(p) for p in opened] == ["t", *["d"] * 5]
    sample = {row: run.config.sample for row, run in runs.items()}
    assert [s.prior for s in sample.values()] == ["", "split:test", "captions", "p", "p", "p"]
    assert sample["prior, best of 2"].prior_samples == 2
    assert {r.config.guidance for r in runs.values()} == {"cfg(w=2.0)"}
    assert all(r.config.quality.clip == "o" for r in runs.values())


def test_the_columns_and_the_table():
    found = {
        "judge": {"all": {"value": 0.5}}, "clip": {"score": 20.0, "retrieval": 0.25},
        "frechet": {"value": 3.0}, "coverage": {"precision": 0.6, "recall": 0.4},
    }  # fmt: skip
    row = unclip.columns(found)
    assert "own CLIP" not in row and row["right: all"] == 0.5
    rows = [{"row": "prior", "seed": s, **row, "Frechet": 3.0 + s} for s in (0, 1)]
    shown = guided.table(rows, ["direct", "prior"], row, "vectors").splitlines()
    assert shown[0].startswith("| vectors | right: all | other CLIP | retrieval | Frechet |")
    assert shown[2].startswith("| real images | 0.5 | 20 | 0.25 | 3 |")
    assert shown[3].startswith("| prior | 0.5 +- 0 | 20 +- 0 | 0.25 +- 0 | 3.5 +- 0.5 |")
    assert len(shown) == 4

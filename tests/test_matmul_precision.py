"""`eval.matmul_precision` is followed by all that draws, and refused if it does not exist."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
import tiny

from diffusion_jax import ranges
from diffusion_jax.cli.modes import edit, report
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import open_experiment
from diffusion_jax.experiment.sampling import best_of, compiled_sampler, generators

ASKED = "tensorfloat32"


class Seen(Exception):
    """What the precision was where something would have been drawn."""


def look(*_, **__):
    raise Seen(jax.config.jax_default_matmul_precision)


def drawings(run):
    one = compiled_sampler.Drawing(run, {}, None, None, None)
    yield lambda: one(0)
    yield lambda: generators.Generated(run, {}, None, None)(0)
    yield lambda: best_of.best(one).score(np.zeros((6, 4, 4, 1), np.uint8))
    yield lambda: report.illustrate(run, {"schedule": {}}, {"step": 6})
    yield lambda: edit.run(run)


@pytest.mark.parametrize("which", range(5))
def test_all_that_draws_follows_it(tmp_path, monkeypatch, which):
    run = tiny.experiment(tmp_path, eval={"matmul_precision": ASKED}, guidance="none()")
    run.config.edit.image, run.config.sample.best_of = "split:test", 2
    monkeypatch.setattr(best_of, "check", lambda _: None)
    monkeypatch.setattr(best_of, "_score", lambda *_: look)
    run.__dict__["loaded"] = {}, {"step": 6}
    for module, name in (
        (compiled_sampler.generate, "generate"), (report, "_animate"), (edit.editing, "by_run"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, look)
    monkeypatch.setattr(edit._edit_inputs, "read", lambda *_: (None,))
    monkeypatch.setattr(edit.edit_scores, "check", lambda *_: None)
    painter = SimpleNamespace(lay_out=lambda _: None)
    monkeypatch.setattr(edit, "registry", SimpleNamespace(build=lambda *_: painter))
    monkeypatch.setattr(edit.run_sampler, "check", lambda *_: None)
    monkeypatch.setattr(report.bound_variance, "curve", lambda *_: {})
    with pytest.raises(Seen, match=ASKED):
        [*drawings(run)][which]()


def test_one_that_does_not_exist_is_refused_when_a_run_is_opened(tmp_path):
    for known in ("", "default", "high", "highest", "bfloat16", "tensorfloat32", "float32"):
        ranges.check_precision(known)
    config = tiny.config(tmp_path, eval={"matmul_precision": "foo"})
    with pytest.raises(ConfigError, match=r"^eval.matmul_precision='foo': allowed: default,"):
        open_experiment(config, tmp_path / "run")

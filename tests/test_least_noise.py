"""The least noise follows from the number of levels, and too much of it is warned of."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from diffusion_jax import config, registry, saved_config
from diffusion_jax.experiment import Experiment, open_experiment
from diffusion_jax.training.tasks import diffusion
from diffusion_jax.training.tasks.diffusion import reconstruction_note
from diffusion_jax.types import least_noise


def test_the_published_ends_are_what_the_rule_gives():
    assert least_noise(256) == -13.3 and least_noise(17) == -7.9


@pytest.mark.parametrize("levels", [2, 5, 17, 64, 256])
def test_noise_is_in_proportion_to_the_distance_of_levels(levels):
    """A level is mistaken for its neighbour as rarely as among 256."""
    deviations = math.exp(-least_noise(levels) / 2) / levels
    assert abs(deviations / (math.exp(13.3 / 2) / 256) - 1) < 0.03


def test_opening_a_run_settles_the_end_by_its_data(tmp_path):
    c = config.base()
    c.data = "digits()"
    run = open_experiment(c, tmp_path)
    assert run.config.gamma_min == -7.9 and run.offered()["gamma_min"] == -7.9
    assert saved_config.to_dict(run.config)["gamma_min"] == -7.9
    c = config.base()  # a library's, opened by hand
    c.data = "digits()"
    assert Experiment(c, tmp_path).offered()["gamma_min"] == -7.9
    c.gamma_min = -5.0
    assert open_experiment(c, tmp_path).config.gamma_min == -5.0


def test_an_unset_end_survives_saving(tmp_path):
    c = saved_config.from_dict(saved_config.to_dict(config.base()))
    assert c.gamma_min is None
    c.gamma_min = -3.5  # as the command line sets it
    assert saved_config.from_dict(saved_config.to_dict(c)).gamma_min == -3.5


@pytest.mark.parametrize(
    ("part", "gamma_min", "says"),
    [(0.05, -7.9, ""), (3.2, -7.9, "about -13.3 for 256 levels, not -7.9"),
     (3.2, -13.3, "below -13.3"), (3.2, None, "below -13.3")],
)  # fmt: skip
def test_a_large_reconstruction_term_is_remarked_upon(part, gamma_min, says):
    found = {"bits_per_dim": 5.0, "breakdown": {"reconstruction": {"bits_per_dim": part}}}
    note = reconstruction_note(found, gamma_min, 256)
    assert says in note and bool(note) == bool(says)


PIXELS = SimpleNamespace(traits=SimpleNamespace(pixels=True))


def test_the_first_validation_says_so_and_the_next_does_not(monkeypatch, capsys):
    monkeypatch.setattr(diffusion.bpd, "measure", lambda *_, **__: None)
    found = {"bits_per_dim": 5.0, "standard_error": 0.1}
    found["breakdown"] = {"reconstruction": {"bits_per_dim": 3.0}}
    monkeypatch.setattr(diffusion.bpd, "summary", lambda _: found)
    monkeypatch.setattr(diffusion.Training, "_average", lambda *_: {})
    c = config.base()
    c.eval_every = 100
    setting = SimpleNamespace(config=c, model=PIXELS, mesh=None, source=SimpleNamespace(levels=256))
    objective = registry.build("objectives", "continuous()")
    task = diffusion.Training(setting, None, SimpleNamespace(objective=objective))
    for step in (100, 200):
        task.validate(SimpleNamespace(step=np.int32(step)), None)
    assert capsys.readouterr().out.count("reconstruction takes 3.00 of 5.00") == 1

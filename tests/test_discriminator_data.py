"""Data of a discriminator: equal parts of data and samples, drawn anew until training begins."""

import numpy as np
import pytest
import tiny

from diffusion_jax.cli.modes import _discriminator_data
from diffusion_jax.errors import WorkdirError
from diffusion_jax.training import lock


def test_samples_and_data_in_equal_parts(tmp_path):
    data = tiny.experiment(tmp_path).source
    image = np.broadcast_to(np.arange(50, dtype=np.uint8)[:, None, None, None], (50, 4, 4, 1))
    seen = set()
    for classes in (3, 1):
        source = _discriminator_data.mixed(data, image, np.arange(50) % 3, classes)
        for part in ("train", "valid", "test"):
            real, both = data.split(part), source.load(part)
            n = len(real)
            np.testing.assert_array_equal(both.images[:n], real.images)
            np.testing.assert_array_equal(both.labels < classes, np.arange(2 * n) < n)
            which = both.images[n:, 0, 0, 0]  # a sample's pixels are its number
            if classes > 1:
                np.testing.assert_array_equal(both.labels[:n], real.labels)
                np.testing.assert_array_equal(both.labels[n:], which % 3 + 3)
            if classes == 1:
                assert not seen & set(which), "a sample of two splits"
                seen |= set(which)
    assert len(seen) == 50 - 10 + min(13, 10)


def test_samples_are_drawn_anew_for_other_settings_until_training_begins(tmp_path, monkeypatch):
    experiment, drawn = tiny.experiment(tmp_path), []
    experiment.workdir.mkdir()

    class Other:
        config = tiny.config(tmp_path)

        def weights(self):
            return {}, {"checkpoint": checkpoint}

    def draw(other, params, record, path, made_of):
        drawn.append(other.config.sampler)
        image = np.full((100, 4, 4, 1), len(drawn), np.uint8)
        np.savez(path, image=image, label=np.zeros(100, int), made_of=made_of)

    monkeypatch.setattr(_discriminator_data, "_run", lambda *args: Other())
    monkeypatch.setattr(_discriminator_data, "_draw", draw)

    def shown():
        return _discriminator_data.source(experiment, "runs/a").split("test").images[-1].max()

    checkpoint = "runs/a/checkpoints/6"
    assert [shown(), shown()] == [1, 1]
    Other.config.sampler = "unipc()"
    assert [shown(), shown()] == [2, 2] and drawn[-1] == "unipc()"
    checkpoint = "runs/a/checkpoints/8"
    assert [shown(), shown()] == [3, 3]
    Other.config.sampler = "ddim()"
    with lock.only_writer(experiment.workdir):  # a process that trains with them
        with pytest.raises(WorkdirError, match="is being written by"):
            shown()
        Other.config.sampler = "unipc()"
        assert shown() == 3
    (experiment.workdir / "checkpoints" / "2").mkdir(parents=True)
    Other.config.sampler = "heun()"
    assert shown() == 3  # what it has been trained on

"""What tables of rivals are made of: stacked digits, modes, shares of classes, bits."""

import json

import numpy as np
import pytest

from benchmarks import _judges, rivals
from diffusion_jax import registry
from diffusion_jax.errors import ConfigError
from diffusion_jax.evaluation import histogram, mode_coverage


def test_stacked_images_are_three_with_one_number():
    plain = registry.build("data", "digits()")
    stacked = registry.build("data", "stacked(of=digits(), size=50)")
    rows = stacked.split("train").take(np.arange(50))
    assert rows["image"].shape == (50, 8, 8, 3) and stacked.num_classes == 1000
    known = {a.tobytes(): k for a, k in zip(*plain.split("train").take(
        np.arange(len(plain.split("train")))).values(), strict=True)}  # fmt: skip
    for image, label in zip(rows["image"], rows["label"], strict=True):
        parts = [known[np.ascontiguousarray(image[..., c : c + 1]).tobytes()] for c in range(3)]
        assert label == parts[0] * 100 + parts[1] * 10 + parts[2]
        assert stacked.classes[label] == "".join(map(str, parts))
    again = registry.build("data", "stacked(of=digits(), size=50)").split("train")
    np.testing.assert_array_equal(again.take(np.arange(50))["image"], rows["image"])
    with pytest.raises(ConfigError, match="with one channel"):
        registry.build("data", "stacked(of=stacked(of=digits(), size=9))")


def test_modes_that_a_perfect_sampler_finds():
    """The floors, by drawing from the uniform law; half of the modes is log 2 away from it."""
    rng = np.random.default_rng(0)
    runs = [mode_coverage.found(rng.integers(0, 100, 200), 100) for _ in range(400)]
    for name in ("found", "kl"):
        values = [r[name] for r in runs]
        error = np.std(values) / len(values) ** 0.5
        assert abs(np.mean(values) - runs[0][f"floor_{name}"]) < 4 * error
    half = mode_coverage.found(np.tile(np.arange(50), 40), 100)
    assert half["found"] == 50
    np.testing.assert_allclose(half["kl"], np.log(2.0))


def report(path, bits, step=6, split="test", images=13, **more):
    result = {"bits_per_dim": bits, **more.pop("result", {})}
    model = {"step": step, "config": {"eval": {"split": split}}}
    model |= {"weights": more.pop("weights")} if "weights" in more else {}
    data = {"images": images, "of": 13}
    path.write_text(json.dumps({"result": result, "model": model, "data": data, **more}))


def test_bits_of_a_table_are_those_of_a_likelihood_of_the_whole_test_set(tmp_path):
    folder = tmp_path / "eval"
    folder.mkdir()
    report(folder / "6_jumps.json", 1.0, certificate={"holds": False})
    report(folder / "6_ode.json", 1.1, estimator={"bound": False})
    report(folder / "6_valid.json", 1.2, split="valid")
    report(folder / "6_2.json", 1.3, images=5)
    report(folder / "4.json", 1.4, step=4)
    report(folder / "6_3.json", 1.5, result={"part": {}})
    assert rivals.bits(str(tmp_path), 6) == {"bits_per_dim": None}
    report(folder / "6_jumps_2.json", 2.0, certificate={"holds": True})
    assert rivals.bits(str(tmp_path), 6) == {"bits_per_dim": 2.0, "bound": False}
    report(folder / "6.json", 2.5, result={"bound_by_timesteps": {}})
    assert rivals.bits(str(tmp_path), 6) == {"bits_per_dim": 2.5, "bound": True}
    report(folder / "6_4.json", 3.0, result={"bound_by_timesteps": {}}, weights="params")
    assert rivals.bits(str(tmp_path), 6, "0.99") == {"bits_per_dim": 2.5, "bound": True}
    assert rivals.bits(str(tmp_path), 6, "params") == {"bits_per_dim": 3.0, "bound": True}


def test_only_three_images_of_the_judge_are_stacked():
    known = registry.build("data", "digits()")
    assert _judges.stacked(registry.build("data", "stacked(of=digits(), size=9)"), known)
    assert not _judges.stacked(known, known)
    images = np.arange(2 * 8 * 8 * 3).reshape(2, 8, 8, 3)
    np.testing.assert_array_equal(_judges.channels(images)[4, ..., 0], images[1, ..., 1])


def test_chance_in_a_histogram_of_two_classes():
    """Total variation is then |share - 1/2|, about sqrt(1 / (2 pi N)) by chance."""
    even = np.array([0.5, 0.5])
    found = histogram.spread(even, even, 400)
    np.testing.assert_allclose(found["chance"], (2 * np.pi * 400) ** -0.5, rtol=0.06)
    low, high = histogram.spread(np.array([0.75, 0.25]), even, 400)["interval"]
    half = 1.96 * (0.75 * 0.25 / 400) ** 0.5
    np.testing.assert_allclose([low, high], [0.25 - half, 0.25 + half], atol=0.006)

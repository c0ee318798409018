"""Who guides does not judge; and how alike images and their texts are to a CLIP."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import tiny

from diffusion_jax import registry
from diffusion_jax.cli.modes import quality
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment
from diffusion_jax.experiment.measures import judges
from diffusion_jax.networks.text_encoders.base import plain


def run(tmp_path, guidance, best_of=1, **of_quality):
    c = tiny.config(tmp_path, guidance=guidance)
    c.quality.update(of_quality)
    c.sample.best_of, c.sample.judge = best_of, str(tmp_path / "b")
    return Experiment(c, tmp_path / "run")


@pytest.mark.parametrize("field", ["classifier", "clip", "features"])
def test_a_network_does_not_judge_what_it_guided(tmp_path, field):
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    (tmp_path / "a" / "checkpoints" / "4" / "meta").mkdir(parents=True)
    (tmp_path / "a" / "checkpoints" / "4" / "meta" / "metadata").write_text("{}")
    (tmp_path / "a" / "config.json").write_text("{}")

    def judged_by(path):
        return f"classifier(checkpoint={path!r})" if field == "features" else path

    inside = f"interval(clip_guidance({a!r}, 'x', inner=cfg(w=0.0)), lo=-1.0, hi=1.0)"
    for guidance in (f"classifier(1.0, {a!r})", inside):
        for same in (a, a + "/", f"{a}/checkpoints/4"):
            with pytest.raises(ConfigError, match=f"quality.{field}.*is also used by guidance"):
                judges.check_apart(run(tmp_path, guidance, **{field: judged_by(same)}))
        judges.check_apart(run(tmp_path, guidance, **{field: judged_by(b)}))
    judges.check_apart(run(tmp_path, "cfg(w=2.0)", **{field: judged_by(a)}))
    with pytest.raises(ConfigError, match=r"is also used by sample\.judge"):
        judges.check_apart(run(tmp_path, "none()", 2, **{field: judged_by(b)}))


def test_a_network_does_not_judge_students_of_what_it_guided(tmp_path):
    a = str(tmp_path / "a")
    found = run(tmp_path, "none()", classifier=a)
    found.config.task = f"distill(teacher='runs/x', guidance=classifier(checkpoint={a!r}))"
    with pytest.raises(ConfigError, match=r"quality.classifier.*is also used by guidance"):
        judges.check_apart(found)


def test_the_clip_of_any_stage_does_not_judge_a_cascade(tmp_path):
    found, first = (run(tmp_path, "none()", clip=str(tmp_path / "a")) for _ in range(2))
    first.config.embedding = str(tmp_path / "a")
    with pytest.raises(ConfigError, match=r"quality.clip.*is also used by embedding"):
        judges.check_apart(dataclasses.replace(found, stages=(first, found)))


def test_the_mode_refuses_it_before_anything_is_drawn(tmp_path):
    a = str(tmp_path / "a")
    with pytest.raises(ConfigError, match="its score would be biased; give another"):
        quality.check(run(tmp_path, f"classifier(1.0, {a!r})", classifier=a))


def test_score_and_retrieval_of_known_vectors():
    """Images at angles to their texts; two have the same text, one is nearer to another's."""
    texts = ["a", r"b (type \)", "a", "c"]  # brackets of captions are no weights
    directions = {"a": (3.0, 0.0), r"b (type \)": (0.0, 0.5), "c": (-1.0, 0.0)}
    angles = np.radians([0.0, 90.0, 60.0, 91.0])
    clip = SimpleNamespace(
        digest="0" * 64,
        images=lambda images: 7.0 * np.stack([np.cos(angles), np.sin(angles)], 1),
        texts=lambda table: np.asarray([directions[plain(t)] for t in table]),
    )
    found = judges.alike(clip, np.zeros((4, 2, 2, 1), np.uint8), texts)
    cosine = np.array([1.0, 1.0, 0.5, np.cos(np.radians(89.0))])
    assert found["score"] == pytest.approx(100 * cosine.mean())
    assert found["score_standard_error"] == pytest.approx(100 * cosine.std() / 2)
    assert found["retrieval"] == 0.5
    assert found["texts"] == 3


def test_features_of_a_clip_have_unit_length():
    found = SimpleNamespace(
        params={}, size=12, digest="0" * 64, name="runs/x",
        see=lambda params, images: images.reshape(len(images), -1)[:, :12] + 1.0,
    )  # fmt: skip
    features = registry.build("features", "clip('runs/x')", open_clip=lambda path: found)
    v = features.apply({}, np.random.default_rng(0).integers(0, 9, (3, 2, 2, 3), np.uint8))
    assert v.shape == (3, features.size)
    np.testing.assert_allclose(np.linalg.norm(v, axis=1), 1.0, rtol=1e-6)
    with pytest.raises(ConfigError, match="opened by a run"):
        registry.build("features", "clip('runs/x')")

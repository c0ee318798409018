"""A model whose labels were never hidden has no null class, whoever asks for it."""

import dataclasses

import numpy as np
import pytest
import tiny
from linear_clip import clip

from diffusion_jax.cli.modes import _edit_inputs, ood, sample, train
from diffusion_jax.compression.files import Images
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import codec
from diffusion_jax.experiment.sampling import sampling_method
from diffusion_jax.sampling.edits._windows import check_classes

GUIDANCE = ("cfg(w=2.0)", "apg()", "cfgpp()", "interval(cfg())", "rescale(apg())")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("null")


@pytest.fixture
def run(folder):
    """A run without a null class; nothing is trained."""
    return tiny.experiment(folder, class_dropout=0.0, guidance="none()")


def refused():
    return pytest.raises(ConfigError, match="class_dropout=0")


@pytest.mark.parametrize("guidance", GUIDANCE)
def test_guidance_that_contrasts_with_it(folder, guidance):
    there = tiny.experiment(folder, guidance=guidance)
    sample.check(there)
    without = tiny.experiment(folder, guidance=guidance, class_dropout=0.0)
    for taken in (
        sample.check,
        train.run,
        sample.run,
        lambda e: sampling_method.denoiser(e, None, np.zeros(2, np.int32)),
    ):
        with refused():
            taken(without)
    assert not without.workdir.exists()


def test_that_of_any_stage_of_a_cascade(folder, run):
    last = tiny.experiment(folder, guidance="none()")
    both = dataclasses.replace(last, stages=(run, last))
    with refused():
        codec.labels_of(both, Images("mine", np.zeros((2, 4, 4, 1), np.uint8), None))


@pytest.mark.parametrize("told", [{"text": "bytes(length=4, width=8, depth=1, heads=2)"},
                                  {"embedding": "runs/clip"}])  # fmt: skip
def test_texts_and_vectors_that_a_denoiser_is_not_given(tmp_path, told):
    tiny.config(tmp_path)
    with np.load(tmp_path / "images.npz") as old:
        texts = {f"{p}_text": np.full(len(old[f"{p}_image"]), "a") for p in ("train", "test")}
        np.savez(tmp_path / "told.npz", **old, **texts)
    run = tiny.experiment(
        tmp_path, data=f"npz(path={str(tmp_path / 'told.npz')!r}, levels=5, num_classes=3)",
        conditional=False, guidance="none()", text_dropout=0.0, embedding_dropout=0.0,
        network="dit(width=8, depth=1, heads=1, patch=1)", **told,
    )  # fmt: skip
    vars(run)["clip"] = lambda name: clip((4, 4, 1), 5)
    with pytest.raises(ConfigError, match=r"denoiser\(\).*(captions|no CLIP embedding)"):
        sampling_method.denoiser(run, {})


def test_its_label(run):
    with refused():
        sampling_method.denoiser(run, None, np.array([0, run.model.num_classes]))
    with refused():
        check_classes("widen", (0, -1), run.model)
    check_classes("widen", (0, 1), run.model)


def test_images_without_labels(run):
    images = np.zeros((2, 4, 4, 1), np.uint8)
    with refused():
        codec.labels_of(run, Images("mine", images, None))
    run.config.compress.labels = "null"
    with refused():
        codec.labels_of(run, Images("mine", images, np.zeros(2, np.int32)))
    with refused():
        _edit_inputs._cond(run, 2, None)
    assert _edit_inputs._cond(run, 2, np.array([1, 2]))["label"].tolist() == [1, 2]
    run.config.ood.against = "digits()"
    with refused():
        ood.run(run)


def test_guidance_that_does_without_it(run):
    run.config.guidance = "clip_denoised(none())"
    sample.check(run)

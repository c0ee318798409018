"""Second networks of guidance are of the same part of images, under the same condition."""

from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from linear_clip import clip

from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import guidance_models, latents
from diffusion_jax.experiment.sampling import sampling_method

GUIDE = {"task": "guide(classifier(width=8, mults=(1,), blocks=1))"}


@pytest.mark.parametrize(
    ("kind", "mine", "theirs", "says"),
    [
        ("denoiser", {"view": "high()"}, {}, "trained with view='whole.*, this model .*'high"),
        ("denoiser", {"view": "low()"}, {"view": "low(haar())"}, "the same part of images"),
        ("denoiser", {"view": "high(level=2)"}, {"view": "high()"}, "the same part of images"),
        ("classifier", {"view": "low()"}, GUIDE, "the same part of images"),
        ("classifier", {}, {**GUIDE, "view": "low()"}, "the same part of images"),
        ("denoiser", {"embedding": "runs/clip"}, {}, "has no embedding, this run embedding="),
        ("denoiser", {"conditional": False}, {}, "has 3 classes, this model 0"),
        ("denoiser", {}, {"schedule": "mulan(latent=4, features=8)"}, "has schedule='mulan"),
        ("denoiser", {}, {"encoder": "diffenc_nt()"}, "has encoder='diffenc_nt"),
    ],
)
def test_others_are_refused(tmp_path, kind, mine, theirs, says):
    run, other = tiny.experiment(tmp_path, **mine), tiny.settings_only(tmp_path, "other", **theirs)
    vars(run)["clip"] = lambda name: clip((4, 4, 1), 5)
    with pytest.raises(ConfigError, match=says) as e:
        guidance_models.open_helper(run, kind, other)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ({"view": "low()"}, {**GUIDE, "view": "low(subsample())"}),
        ({"view": "from_latent()"}, GUIDE),  # the images themselves have noise
        ({"view": "high()"}, {"view": "high(level=1)"}),
    ],
)
def test_views_of_one_meaning(tmp_path, mine, theirs):
    pair = (tiny.experiment(tmp_path, **c) for c in (mine, theirs))
    guidance_models.check_same_view(*pair, "other")


def test_latents_that_are_given_are_compared_as_those_that_diffuse(tmp_path):
    own, other = ({"autoencoder": {"w": np.full(2, v)}} for v in (1.0, 2.0))
    run = SimpleNamespace(params=own, config=tiny.config(tmp_path, view="from_latent()"),
                          workdir=tmp_path)  # fmt: skip
    latents.check_weights(run, own, "other")
    with pytest.raises(ConfigError, match="latents of another autoencoder"):
        latents.check_weights(run, other, "other")


@pytest.mark.parametrize("ask", [sampling_method.check, lambda r: sampling_method.denoiser(r, {})])
def test_a_classifier_is_asked_for_classes(tmp_path, ask):
    guide = tiny.settings_only(tmp_path, "guide", **GUIDE)
    run = tiny.experiment(
        tmp_path, conditional=False, guidance=f"classifier(checkpoint={guide!r})"
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"this model has no classes: .*conditional=True"):
        ask(run)

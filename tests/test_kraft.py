"""Kraft's inequality: `exp(-bound)`, summed over ALL images there can be, is at most 1.

It holds for every bound on a negative log-probability, whatever the network, and fails where
something is counted twice, with a wrong sign or scale, or where the model sees what a receiver
would not. With the exact denoiser of a known law the sum is near 1: too little shows as well.
Every plug-in of the kinds below is tried, a new one too.
"""

import numpy as np
import pytest
from kraft_sum import bounds, everything, kraft, law

from diffusion_jax import registry

# What plug-ins are tried with, where their defaults are too large or too crude for this.
SETTINGS = {
    "discrete": "timesteps=300",
    "weighted": "weight=sigmoid()",
    "learned_mlp": "features=8",
    "mulan": "features=8, latent=2",
    "diffenc": "kind='unet', blocks=1, width=8",
}
# z_t of an encoder is no Markov chain: what went before tells of the image, and no denoiser of z_t
# alone knows it. Weights near their start, as embeddings of gamma make steep paths of random ones.
ENCODERS = {"rough": 0.005, "least": 0.88}


def spec(name):
    return f"{name}({SETTINGS.get(name, '')})"


def tried(kind, field):
    """A case for each plug-in of a kind."""
    for name in registry.available(kind):
        more = {"points": 1024} if name == "diffenc" else {}
        encoder = kind == "encoders" and registry.build(kind, spec(name), shape=(2, 2, 1))
        moving = encoder and getattr(encoder, "time_dependent", True)
        more |= ENCODERS if moving else {}
        marks = [pytest.mark.slow] if name == "diffenc" else []
        yield pytest.param({field: spec(name), **more}, id=name, marks=marks)


CASES = [
    *tried("objectives", "objective"),
    *tried("schedules", "schedule"),
    *tried("encoders", "encoder"),
    *(pytest.param({"prediction": p}, id=p) for p in ("v", "x", "velocity")),
]
WASTEFUL = [
    {"objective": "discrete(timesteps=3)"},
    {"objective": "vae()", "itself": True},  # the standard normal, of data that are not normal
    {"wrong": 0.5},
    {"wrong": -0.5, "encoder": "diffenc_nt()"},
]


@pytest.mark.parametrize("case", CASES)
def test_no_plugin_spends_more_than_there_is_and_with_the_exact_denoiser_all_of_it(case):
    case = dict(case)
    least = case.pop("least", 0.96)  # the ends of the schedule and 300 steps cost up to 0.03 nats
    size, levels = ((2, 2, 1), 2) if "diffenc(" in case.get("encoder", "") else ((1, 2, 1), 3)
    images = everything(size, levels)
    total = bounds(images, levels, law(len(images)), **case)
    assert least < kraft(total) < 1.02
    assert kraft(0.9 * total) > 1.05  # and what is counted too low is found out


@pytest.mark.parametrize("case", WASTEFUL, ids=str)
def test_what_is_wasteful_spends_no_more_than_there_is(case):
    images = everything((1, 2, 1), 2)
    assert kraft(bounds(images, 2, law(len(images)), **case)) < 1.02


@pytest.mark.parametrize("name", registry.available("decoders"))
def test_decoders(name):
    """Of discrete data the sum, and of others the integral, is 1; not if a scale is wrong."""
    if hasattr(registry.build("decoders", name, levels=3), "log_probs"):
        images, cell = everything((1, 2, 1), 3), 1.0
        total = bounds(images, 3, law(9), decoder=f"{name}()")
    else:
        images, cell = np.linspace(-6.0, 6.0, 97, dtype=np.float32).reshape(-1, 1, 1, 1), 0.125
        total = bounds(images, 3, np.ones(97) / 97, decoder=f"{name}()", prediction="v",
                       network=registry.build("backbones", "standard_normal()"))  # fmt: skip
    assert 0.96 < cell * kraft(total) < 1.02
    assert cell * kraft(0.9 * total) > 1.05


def halves(name):
    """What has two stages, and their views."""
    if name == "frames":
        return everything((4, 1, 1, 1), 2), ("first(frames=1)", "later(given=1)")
    return everything((2, 2, 1), 2), (f"low({name}())", f"high({name}())")


STAGES = [*registry.available("pyramids"), "frames"]


def test_every_view_is_among_the_stages():
    """Or whole images, or given latents (tests/test_latent_decoder.py)."""
    tried = {registry.parse(v).name for name in STAGES for v in halves(name)[1]}
    assert tried | {"whole", "from_latent"} == set(registry.available("views"))


@pytest.fixture(scope="module", params=STAGES)
def cascade(request):
    """The bounds of both stages on all images of four values, with the exact denoiser of each."""
    images, views = halves(request.param)
    p = law(16)
    return request.param, p, [bounds(images, 2, p, view=view) for view in views]


def test_stages_add_up_to_the_probability_of_the_image(cascade):
    """The chain rule, image by image: nothing is rescaled, and the sum over all images is 1."""
    _, p, (low, high) = cascade
    np.testing.assert_allclose(low + high, -np.log(p), atol=0.06)
    assert abs(float((p * (low + high + np.log(p))).sum())) < 0.03
    assert abs(kraft(low + high) - 1.0) < 0.03


def test_a_low_band_counted_at_a_quarter_is_found_out(cascade):
    """As where the target is the mean of four pixels and not the orthonormal band."""
    name, _, (low, high) = cascade
    if name == "average":
        return
    assert kraft(0.25 * low + high) > 1.3
    assert kraft(low + 0.75 * high) > 1.1


def test_a_network_that_is_not_told_the_low_image_pays_for_it():
    images, p = everything((2, 2, 1), 2), law(16)
    p = np.where(images.reshape(16, 4).sum(1) % 4 == 0, p + 0.4, p)  # all equal: low says it all
    p /= p.sum()
    told = bounds(images, 2, p, view="high()")
    part = registry.build("views", "high()", levels=2)(images)[0].reshape(16, 3)
    same = (part[:, None] == part[None]).all(-1)
    untold = -np.log((same * p[None]).sum(1))
    assert float((p * untold).sum() - (p * told).sum()) > 0.1

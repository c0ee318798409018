"""Bits between text and image, where they are known: exact predictions of a small table."""

import functools
import math
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffusion_jax import registry
from diffusion_jax.data.base import Split
from diffusion_jax.data.passes import Pass
from diffusion_jax.experiment.measures import data_processing, information_checks
from diffusion_jax.likelihood import information as lib
from diffusion_jax.model import Model
from diffusion_jax.process.schedules.linear import Linear
from diffusion_jax.runtime.sharding import make_mesh

# Probabilities of five levels given each of three classes; in twentieths, so that 60 images have
# them exactly. The second pixel of an image is of no class.
LAW = np.array([[12, 4, 4, 0, 0], [0, 0, 10, 10, 0], [4, 4, 4, 4, 4]]) / 20
PRIOR = np.full(3, 1 / 3)
OTHER = np.full(5, 1 / 5)
MARGINAL = PRIOR @ LAW


def shaken(p, by):
    """Probabilities that prefer high levels."""
    out = np.exp(by * np.arange(len(p))) * p
    return out / out.sum()


def divergence(p, q):
    return (p * np.log2(np.where(p > 0, p, 1) / np.where(p > 0, q, 1))).sum()


@dataclass(frozen=True)
class Table:
    """The logits of both pixels' levels, given a class or none: exact with prediction='levels'."""

    wrong: float = 0.0  # what it gets wrong without the class
    told_wrong: float = 0.0  # and given the class

    def init(self, key, z, gamma, cond):
        return {"params": {}}

    def apply(self, variables, z, gamma, cond, dropout=None):
        known = [shaken(p, self.told_wrong) for p in LAW]
        table = jnp.log(jnp.asarray([*known, shaken(MARGINAL, self.wrong)]) + 1e-30)
        first = table[cond["label"]]
        second = jnp.broadcast_to(jnp.log(jnp.asarray(OTHER)), first.shape)
        return jnp.stack([first, second], 1)[:, None]  # [B, 1, 2, levels]


def model(**changes):
    schedule = Linear(-9.0, 12.0)  # the ends cost less than a thousandth of a bit
    decoder = registry.build("decoders", "categorical()", levels=5)
    return Model(Table(**changes), schedule, decoder, "levels", 3)


def images():
    """Sixty images with exactly these frequencies, and their classes."""
    first = [[c, v] for c in range(3) for v in range(5) for _ in range(round(20 * LAW[c, v]))]
    label, level = np.asarray(first, np.int32).T
    pixels = np.stack([level, np.arange(60) % 5], 1).astype(np.uint8)[:, None, :, None]
    return Split("table/test", pixels, label, 5, 3)


def pointwise(split):
    """`log p(x | c) / p(x)` in bits, exactly."""
    level = np.asarray(split.images)[:, 0, 0, 0]
    return np.log2(LAW[split.labels, level] / MARGINAL[level])


def entropy(p):
    return -(p[p > 0] * np.log2(p[p > 0])).sum()


@functools.cache
def measured(draws=64, batch=60, maps=True, limit=0, **changes):
    split = images()
    n = limit or len(split)
    told = {"label": np.stack([np.full(n, 3), split.labels[:n]], 1).astype(np.int32)}
    how = Pass(make_mesh(jax.devices()[:1]), batch, seed=3, limit=limit, quiet=True)
    params = {"network": {}, "schedule": {}}
    return lib.measure(model(**changes), params, split, how, told, draws=draws, maps=maps)


def test_exact_predictions_give_the_information_itself():
    split, found = images(), measured(draws=1024)
    truth = pointwise(split)
    bits = lib.apart(*np.moveaxis(found.nats, 2, 0))
    assert truth.mean() == pytest.approx(entropy(MARGINAL) - np.mean([entropy(p) for p in LAW]))
    assert abs(bits["bits"] - truth.mean()) < 4 * bits["monte_carlo_se"]
    assert 2 * bits["monte_carlo_se"] < bits["unpaired_se"]
    orth = found.maps[:, 0].sum((1, 2)) / math.log(2)
    assert orth.mean() == pytest.approx(truth.mean(), abs=0.02)
    each = (found.nats[..., 0] - found.nats[..., 1]).mean(1) / math.log(2)
    assert np.corrcoef(each, truth)[0, 1] > 0.9


def test_bits_lie_in_the_pixel_that_the_class_tells_of():
    maps = measured().maps
    assert maps.shape == (60, 2, 1, 2) and (maps >= 0).all()
    assert maps[..., 0].mean() > 0.1
    np.testing.assert_allclose(maps[..., 1], 0.0, atol=1e-6)
    np.testing.assert_allclose(maps[:, 0], maps[:, 1])  # two conditions: one step is the whole


def test_neither_batch_nor_limit_nor_maps_change_a_bit():
    whole = measured().nats
    np.testing.assert_allclose(measured(batch=7, maps=False).nats, whole, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(measured(limit=11).nats, whole[:11], rtol=2e-5, atol=2e-5)


def test_a_text_that_says_nothing_has_no_bits():
    """Nor does any text to a network that does not look: exactly none, draw by draw."""
    told = {"label": np.full((60, 2), 3, np.int32)}  # of each image: no class, twice
    how = Pass(make_mesh(jax.devices()[:1]), 60, seed=3, quiet=True)
    params = {"network": {}, "schedule": {}}
    found = lib.measure(model(), params, images(), how, told, draws=64, maps=True)
    np.testing.assert_array_equal(found.nats[..., 0], found.nats[..., 1])
    assert not found.maps.any() and lib.bits(gained(found.nats))["monte_carlo_se"] == 0.0


def test_bits_are_off_by_the_gaps_of_both_bounds_and_the_gauge_sees_one():
    truth = pointwise(images()).mean()
    loose = divergence(MARGINAL, shaken(MARGINAL, 0.8))
    tight = np.mean([divergence(p, shaken(p, -0.5)) for p in LAW])
    for changes, gap in (({"wrong": 0.8}, loose), ({"told_wrong": -0.5}, -tight)):
        found = measured(draws=1024, **changes)
        both = lib.apart(*np.moveaxis(found.nats, 2, 0))
        bits, allowed = both["bits"], 3 * both["monte_carlo_se"]
        assert abs(gap) > 2 * allowed and bits == pytest.approx(truth + gap, abs=allowed)
        gauge = bits - found.maps[:, 0].sum((1, 2)).mean() / math.log(2)
        if "wrong" in changes:  # what is told is exact: the gauge cannot see the other
            assert abs(gauge) < allowed
        else:
            assert gauge < -allowed


def test_a_mixture_of_all_captions_is_the_bound_without_any():
    split = images()
    told = {"label": np.tile(np.arange(3, dtype=np.int32), (60, 1))}
    how = Pass(make_mesh(jax.devices()[:1]), 60, seed=3, quiet=True)
    params = {"network": {}, "schedule": {}}
    nats = lib.measure(model(), params, split, how, told, draws=1024).nats
    found = lib.mixture(nats, PRIOR, split.labels)
    assert found["bits"] == pytest.approx(pointwise(split).mean(), abs=0.05)
    assert found["half"] < found["bits"] <= math.log2(3)  # fewer draws, too small
    one = nats[..., :1]
    np.testing.assert_allclose(lib.mixed(one, np.ones(1)), one.mean(1)[:, 0])
    best = LAW[:, np.asarray(split.images)[:, 0, 0, 0]].T
    right = (best.argmax(1) == split.labels).mean()  # ties aside
    assert lib.retrieval(nats, split.labels)["accuracy"] == pytest.approx(right, abs=0.08)


def test_equal_bounds_share_what_is_found():
    nats = np.asarray([[[1.0, 1.0, 2.0]], [[3.0, 1.0, 1.0]], [[0.0, 1.0, 1.0]]]).repeat(2, axis=1)
    found = lib.retrieval(nats, np.asarray([0, 0, 0]))
    assert found["accuracy"] == pytest.approx((0.5 + 0.0 + 1.0) / 3) and found["among"] == 3


def test_backbones_of_which_it_cannot_be_measured_are_refused():
    with pytest.raises(Exception, match="no null class"):
        lib.check(replace(model(), null_class=False), "--mode=inform")


GROUPS = np.eye(5)[[0, 0, 1, 1, 2]]  # what is kept of the level of the first pixel


class Coarse(Table):
    """The same of images of which the first pixel has become coarser."""

    def apply(self, variables, z, gamma, cond, dropout=None):
        known = [shaken(p @ GROUPS, self.told_wrong) for p in LAW]
        table = jnp.log(jnp.asarray([*known, shaken(MARGINAL @ GROUPS, self.wrong)]) + 1e-30)
        second = jnp.broadcast_to(jnp.log(jnp.asarray(OTHER)), table[cond["label"]].shape)
        return jnp.stack([table[cond["label"]], second], 1)[:, None]


@functools.cache
def coarse(draws=64, **changes):
    split = images()
    pixels = np.array(split.images)
    pixels[:, 0, 0, 0] = GROUPS.argmax(1)[pixels[:, 0, 0, 0]]
    told = {"label": np.stack([np.full(60, 3), split.labels], 1).astype(np.int32)}
    how = Pass(make_mesh(jax.devices()[:1]), 60, seed=4, quiet=True)
    of = replace(model(), network=Coarse(**changes))
    params = {"network": {}, "schedule": {}}
    return lib.measure(of, params, replace(split, images=pixels), how, told, draws=draws).nats


def gained(nats):
    return nats[..., 0] - nats[..., 1]


def test_what_is_made_of_an_image_is_told_no_more_of():
    x = gained(measured().nats)
    found = data_processing.compared(gained(coarse()), x)
    law = LAW @ GROUPS
    less = (
        entropy(MARGINAL @ GROUPS) - np.mean([entropy(p) for p in law]) - pointwise(images()).mean()
    )
    assert less < -0.05
    noise = math.hypot(lib.bits(x)["monte_carlo_se"], lib.bits(gained(coarse()))["monte_carlo_se"])
    assert abs(found["more"]["bits"] - less) < 4 * noise

    def said(found):
        i = {"bits": 1.0, "standard_error": 0.1}
        result = {"information": i, "entropy": None, "shuffled_above_null": i}
        checks = information_checks.checks({**result, "processed": {"run": "runs/x", **found}})
        return checks[-1]

    assert said(found)["passed"] is True and "by runs/x" in said(found)["said"]
    wrong = data_processing.compared(gained(coarse(wrong=2.0)), x)  # without text it is too loose
    assert said(wrong)["check"] == "I(vector) <= I(image)" and said(wrong)["passed"] is False

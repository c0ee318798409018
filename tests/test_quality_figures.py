"""Figures of sample quality against closed forms and constructed sets."""

import functools
import math

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial

from diffusion_jax import registry
from diffusion_jax.errors import ConfigError, DataError
from diffusion_jax.evaluation import diversity, frechet, kid, neighbours, quality
from diffusion_jax.evaluation.statistics import Reference
from diffusion_jax.experiment.measures import sample_quality


def gaussian(seed, size=5):
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((size, size))
    return frechet.Moments(100, rng.standard_normal(size), root @ root.T)


# Frechet distance


def test_frechet_of_commuting_gaussians_in_closed_form():
    a = frechet.Moments(9, np.array([1.0, 2.0]), np.diag([4.0, 9.0]))
    b = frechet.Moments(9, np.array([0.0, 0.0]), np.diag([1.0, 25.0]))
    # |mu|^2 and the squared differences of standard deviations: 5 + (2-1)^2 + (3-5)^2.
    assert frechet.distance(a, b) == pytest.approx(10.0, rel=1e-13)


@pytest.mark.parametrize("seed", range(3))
def test_frechet_of_gaussians_that_do_not_commute(seed):
    a, b = gaussian(seed), gaussian(seed + 10)
    root = scipy.linalg.sqrtm(a.covariance @ b.covariance)
    expected = np.sum((a.mean - b.mean) ** 2) + np.trace(
        a.covariance + b.covariance - 2 * root.real
    )
    assert frechet.distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet.distance(b, a) == pytest.approx(frechet.distance(a, b), rel=1e-12)
    assert frechet.distance(a, a) < 1e-12 * np.trace(a.covariance)


def test_frechet_does_not_see_a_rotation_of_both():
    a, b = gaussian(1), gaussian(2)
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal((5, 5)))[0]
    turned = [frechet.Moments(9, turn @ m.mean, turn @ m.covariance @ turn.T) for m in (a, b)]
    assert frechet.distance(*turned) == pytest.approx(frechet.distance(a, b), rel=1e-11)


def test_frechet_of_singular_covariances():
    # Two lines in a plane at a right angle: the trace of the cross term is 0.
    a = frechet.Moments(9, np.zeros(2), np.diag([1.0, 0.0]))
    b = frechet.Moments(9, np.zeros(2), np.diag([0.0, 1.0]))
    assert frechet.distance(a, b) == pytest.approx(2.0, rel=1e-12)
    assert frechet.distance(a, a) == 0.0


def test_moments_of_batches_are_those_of_all_far_from_zero():
    rows = 1e6 + np.random.default_rng(0).standard_normal((500, 3)) * [1.0, 2.0, 3.0]
    found = frechet.Accumulator()
    for part in np.array_split(rows, 7):
        found.add(part)
    m = found.result()
    np.testing.assert_allclose(m.mean, rows.mean(0), rtol=1e-14)
    np.testing.assert_allclose(m.covariance, np.cov(rows.T), rtol=1e-8)
    with pytest.raises(DataError, match="covariance"):
        frechet.moments(rows[:1])
    with pytest.raises(DataError, match="finite"):
        frechet.moments(np.array([[1.0], [np.nan]]))


# Kernel distance


def draws(shift, repeats=400, n=40, m=60):
    found = []
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        x, y = rng.standard_normal((n, 1)), shift + rng.standard_normal((m, 1))
        found.append(kid.mmd(x, y))
    return np.array(found)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_kid_is_unbiased_and_knows_its_error(shift):
    # (1 + a b)^3 = 1 + 3 a b + 3 a^2 b^2 + a^3 b^3: squared differences of the first three moments
    # of N(shift, 1) and N(0, 1), with weights 3, 3 and 1.
    expected = 3 * shift**2 + 3 * shift**4 + (shift**3 + 3 * shift) ** 2
    found = draws(shift)
    spread = found[:, 0].std()
    assert abs(found[:, 0].mean() - expected) < 3 * spread / np.sqrt(len(found))
    if shift:
        assert expected > 5 * spread / np.sqrt(len(found))
    # The jackknife is right where the laws differ, and too large by sqrt(2) where they do not.
    assert 0.8 < np.sqrt(found[:, 1].mean()) / spread < (1.3 if shift else 1.8)


def test_kid_of_all_rows_is_the_plain_double_sum():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((7, 2)), 1 + rng.standard_normal((5, 2))

    def mean(a, b, same):
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not (same and i == j)]
        return np.mean([(a[i] @ b[j] / 2 + 1) ** 3 for i, j in pairs])

    expected = mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)
    assert kid.mmd(x, y)[0] == pytest.approx(expected, rel=1e-12)
    # The jackknife, by leaving rows out in fact.
    variance = 0.0
    for rows, value in ((x, lambda a: kid.mmd(a, y)[0]), (y, lambda a: kid.mmd(x, a)[0])):
        out = np.array([value(np.delete(rows, i, 0)) for i in range(len(rows))])
        variance += (len(rows) - 1) / len(rows) * np.sum((out - out.mean()) ** 2)
    assert kid.mmd(x, y)[1] == pytest.approx(variance, rel=1e-9)


def test_kid_in_subsets_agrees_within_its_error():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((900, 3)), 0.3 + rng.standard_normal((1000, 3))
    whole, parts = (kid.kernel_distance(x, y, subset) for subset in (1000, 100))
    assert (whole["subsets"], parts["subsets"]) == (1, 9)
    assert abs(whole["value"] - parts["value"]) < 3 * parts["standard_error"]
    assert parts["standard_error"] == pytest.approx(whole["standard_error"], rel=0.5)
    with pytest.raises(DataError, match="20 images"):
        kid.kernel_distance(x[:19], y)


# Neighbours


def test_coverage_of_the_same_of_other_and_of_half_the_images():
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((200, 2)), 100 + rng.standard_normal((200, 2))
    both = np.concatenate([left, right])
    same = neighbours.coverage(both, both)
    assert [same[k] for k in ("precision", "recall", "coverage")] == [1, 1, 1]
    other = neighbours.coverage(left, right)
    assert [other[k] for k in ("precision", "recall", "density", "coverage")] == [0, 0, 0, 0]
    # One mode dropped: all samples are good, half of the data is never made; and the reverse.
    dropped = neighbours.coverage(np.concatenate([left, left]), both)
    assert (dropped["precision"], dropped["recall"], dropped["coverage"]) == (1.0, 0.5, 0.5)
    invented = neighbours.coverage(both, left)
    assert (invented["precision"], invented["recall"]) == (0.5, 1.0)
    # All samples about the middle: good, but their own neighbourhoods hold next to no data.
    wide = rng.standard_normal((200, 20))
    narrow = neighbours.coverage(0.01 * wide, wide)
    assert narrow["precision"] == 1.0 and narrow["recall"] < 0.05


def test_density_is_one_for_the_same_law():
    # E[density] = 1 where samples and data are one law (Naeem et al. 2020, section 3.3).
    rng = np.random.default_rng(0)
    found = [
        neighbours.coverage(rng.standard_normal((300, 4)), rng.standard_normal((300, 4)), 5)
        for _ in range(5)
    ]
    assert np.mean([f["density"] for f in found]) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_exact_ties_are_inside_whatever_rounding_says(seed):
    # Few levels and copies: many neighbours lie exactly on a rim, which integers decide exactly.
    draw = np.random.default_rng(seed)
    real, fake = (draw.integers(0, 3, (n, 5)) for n in (120, 150))
    real[:4], fake[:20] = real[0], real[:20]

    def squares(a, b):
        return np.square(a[:, None] - b[None]).sum(-1)

    def reach(a, k=3):
        apart = squares(a, a).astype(float)
        np.fill_diagonal(apart, np.inf)
        return np.sort(apart, axis=1)[:, k - 1]

    apart = squares(fake, real)
    inside = apart <= reach(real)
    expected = {
        "precision": inside.any(1).mean(),
        "recall": (apart <= reach(fake)[:, None]).any(0).mean(),
        "density": inside.sum(1).mean() / 3,
        "coverage": inside.any(0).mean(),
    }
    levels = lambda a: (a / 16.0 * 0.7 + 3.1).astype(np.float64)  # not exact in binary
    found = neighbours.coverage(levels(fake), levels(real), 3)
    assert {k: found[k] for k in expected} == pytest.approx(expected, abs=1e-12)
    assert np.any(reach(real) == 0.0)  # some neighbourhoods are copies alone


def test_distances_by_blocks_are_distances(monkeypatch):
    monkeypatch.setattr(neighbours, "_BLOCK", 7)
    rng = np.random.default_rng(0)
    x, y = 50 + rng.standard_normal((20, 3)), 50 + rng.standard_normal((11, 3))
    found = np.concatenate([d for _, d in neighbours.blocks(x, y)])
    direct = np.array([[np.sum((a - b) ** 2) for b in y] for a in x])
    np.testing.assert_allclose(found, direct, rtol=1e-9)
    nearest = np.sort(np.array([[np.sum((a - b) ** 2) for b in x] for a in x]), axis=1)
    np.testing.assert_allclose(neighbours.radii(x, 3), nearest[:, 3], rtol=1e-9)
    with pytest.raises(DataError, match="k=11"):
        neighbours.coverage(x, y, 11)


def test_copies_are_found_among_training_images_in_batches():
    rng = np.random.default_rng(0)
    train, test = (rng.uniform(0, 255, (n, 12)).astype(np.float32) for n in (500, 200))
    samples = rng.uniform(0, 255, (100, 12)).astype(np.float32)
    samples[:30] = train[470:]
    found = []
    for queries in (samples, test):
        nearest = neighbours.Nearest(queries)
        for part in neighbours.gathered(np.array_split(train, 20), rows=60):
            nearest.add(part)
        found.append(nearest)
    np.testing.assert_array_equal(found[0].index[:30], np.arange(470, 500))
    brute = np.sqrt(((samples[:, None].astype(float) - train[None]) ** 2).sum(-1))
    np.testing.assert_allclose(found[0].distance, brute.min(1), rtol=1e-12)
    np.testing.assert_array_equal(found[0].index, brute.argmin(1))
    said = neighbours.memorisation(found[0].distance, found[1].distance)
    assert said["copies"] == 30 and said["held_out_copies"] == 0
    assert 0.30 <= said["suspicious"] <= 0.36
    fresh = neighbours.memorisation(found[0].distance[30:], found[1].distance)
    assert fresh["ratio"] == pytest.approx(1.0, abs=0.1) and fresh["suspicious"] < 0.06
    copied = neighbours.memorisation(found[0].distance[:30], found[1].distance)
    assert copied["ratio"] == 0.0 and copied["suspicious"] == 1.0


# Histograms


# All together


def reference(rows):
    return Reference(frechet.moments(rows), rows, {})


def test_too_few_samples_are_an_error_or_a_reason():
    rows = np.random.default_rng(0).standard_normal((100, 8)).astype(np.float32)
    with pytest.raises(DataError, match=r"8 images.*8 features.*sample\.num"):
        quality.measure(rows[:8], reference(rows), ("frechet",))
    lenient = quality.measure(rows[:8], reference(rows), ("frechet",), strict=False)
    assert lenient["frechet"]["value"] is None and "draw more" in lenient["frechet"]["reason"]


@pytest.mark.parametrize(
    ("shape", "count", "fits"),
    [((64, 64, 3), 300, 8), ((64, 64, 3), 64, 4), ((28, 28, 1), 300, 14), ((48, 32, 3), 300, 8),
     ((31, 31, 1), 300, 1)],
)  # fmt: skip
def test_too_few_are_told_which_features_would_do(shape, count, fits):
    with pytest.raises(DataError) as e:
        quality.check_count(("frechet",), count, math.prod(shape), shape)
    spec = f"pixels(size={fits})"
    assert f"features='{spec}'" in str(e.value)
    assert registry.build("features", spec, shape=shape).size < count


def test_more_samples_are_not_advised_where_the_reference_is_too_small():
    check = functools.partial(quality.check_count, ("frechet",), size=192, shape=(8, 8, 3))
    with pytest.raises(DataError, match=r"reference's 86 images .*: choose .*pixels\(size=4\)"):
        check(500, known=86)
    with pytest.raises(DataError, match=r"10 images .*: draw more than 192 .*pixels\(size=1\)"):
        check(10, known=500)
    check(193, known=193)
    check(193, known=0)


def test_figures_that_do_not_exist_or_need_rows_are_refused():
    with pytest.raises(ConfigError, match="'fid' does not exist; choose from frechet"):
        quality.check(("fid",))
    moments_only = Reference(gaussian(0), np.zeros((0, 5), np.float32), {})
    quality.check(("frechet",), moments_only)
    with pytest.raises(ConfigError, match="kid needs rows"):
        quality.check(("kid",), moments_only)


def test_samples_sorted_by_class_are_measured_as_mixed_ones():
    # Only the first rows count where all pairs would be too many: they must be a fair choice.
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.standard_normal((300, 2)), 100 + rng.standard_normal((300, 2))])
    mixed = reference(rng.permutation(rows))
    found = quality.measure(rows, mixed, ("coverage",), limit=300)["coverage"]
    assert found["rows"] == {"samples": 300, "reference": 300}
    assert found["recall"] > 0.9


def test_halves_of_the_reference():
    rows = np.random.default_rng(0).standard_normal((4000, 4)).astype(np.float32)
    found = quality.halves(reference(rows))
    # Of N = 2000 a side, in d dimensions: about (2 d + d (d + 1) / 2) / N, all from sampling.
    assert found["images"] == 2000 and 0 < found["frechet"] < 0.05
    assert quality.halves(reference(rows[:9])) is None


# Diversity


def test_diversity_is_the_mean_distance_within_groups_of_two_or_more():
    rows = np.random.default_rng(0).standard_normal((9, 3)) + 5.0
    groups = ["a", "b", "a", "c", "b", "a", "b", "d", "b"]
    own = [[i for i, g in enumerate(groups) if g == name] for name in "ab"]
    means = [scipy.spatial.distance.pdist(rows[m]).mean() for m in own]
    found = diversity.within(rows, groups)
    assert found["value"] == pytest.approx(np.mean(means), rel=1e-12)
    assert found["standard_error"] == pytest.approx(abs(means[0] - means[1]) / 2, rel=1e-12)
    assert found["groups"] == 2
    assert diversity.within(rows[:2], [0, 1]) is None
    assert diversity.within(rows[:2], [0, 0])["standard_error"] is None


def test_diversity_of_a_gaussian_in_closed_form():
    """|x - y| of two draws has the mean 2 / sqrt(pi); tripled rows are three times as far apart."""
    rows = np.random.default_rng(1).standard_normal((4000, 1))
    groups = np.arange(4000) // 10
    found = diversity.within(rows, list(groups))
    assert abs(found["value"] - 2 / math.sqrt(math.pi)) < 4 * found["standard_error"]
    assert diversity.within(3.0 * rows, list(groups))["value"] == pytest.approx(3 * found["value"])


def test_errors_of_sets_are_those_of_their_mean_where_no_reference_is_shared():
    rng, n, repeats = np.random.default_rng(0), 100, 4

    def figures(share):
        error = np.sqrt(share * (1.0 - share) / n)
        names = ("accuracy", "right: all", "clip retrieval", "kid")
        return dict.fromkeys(names, (share, error))

    found = [sample_quality.summary([figures(k / n) for k in rng.binomial(n, 0.7, repeats)])
             for _ in range(400)]  # fmt: skip
    for name in ("accuracy", "right: all", "clip retrieval"):
        strayed = np.std([f[name]["mean"] for f in found])
        assert strayed == pytest.approx(
            np.mean([f[name]["standard_error"] for f in found]), rel=0.1
        )
    # What a reference adds to all sets alike is not averaged out.
    assert found[0]["kid"]["standard_error"] == pytest.approx(
        2.0 * found[0]["accuracy"]["standard_error"]
    )

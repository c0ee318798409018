"""What the audit's figures mean: against scipy, enumeration, and the spread over repetitions."""

import math

import numpy as np
import pytest
from scipy import stats

from diffusion_jax.evaluation import membership, neighbours, per_class
from diffusion_jax.evaluation.audit_verdict import copying, verdict
from diffusion_jax.likelihood.bpd import Records

RNG = np.random.default_rng


def test_bands_add_up_to_the_diffusion_term_and_hold_their_own_draws():
    strata, rng = 8, RNG(0)
    diffusion = rng.exponential(size=(5, 2 * strata))
    records = Records(np.zeros((5, 16)), np.ones((5, 16)), np.zeros(5), diffusion,
                      np.zeros((5, 16)), dims=12)  # fmt: skip
    found = membership.bands(records, 3)
    assert found.shape == (5, 3)
    np.testing.assert_allclose(found.sum(1), records.per_image()["diffusion"])
    np.testing.assert_allclose(membership.band_edges(strata, 3), [0, 3 / 8, 6 / 8, 1])
    diffusion[:, [0, 2, 8]] += 100.0  # strata 0, 2 and 0 again: the first band
    moved = membership.bands(records, 3) - found
    assert np.all(moved[:, 0] > 1.0) and np.all(moved[:, 1:] == 0.0)
    assert membership.bands(records, 99).shape == (5, strata)


def test_the_gap_and_the_auroc_stray_from_nothing_as_far_as_they_say():
    rng = RNG(0)
    gaps, areas = [], []
    for _ in range(300):
        members, strangers = rng.exponential(size=90), rng.exponential(size=40)
        gaps.append(membership.gap(members, strangers)["z"])
        found = membership.auroc(members, strangers)
        areas.append((found["auroc"] - 0.5) / found["null_standard_error"])
    for values in (gaps, areas):
        assert abs(np.mean(values)) < 0.2 and np.std(values) == pytest.approx(1.0, abs=0.13)
    assert membership.auroc(np.zeros(1400), np.ones(297))["null_standard_error"] == pytest.approx(
        0.0184, abs=1e-4
    )


@pytest.mark.parametrize(("hits", "count"), [(0, 20), (7, 20), (20, 20), (3, 500)])
def test_intervals_are_scipys(hits, count):
    exact, wilson = (
        stats.binomtest(hits, count).proportion_ci(method=m) for m in ("exact", "wilson")
    )
    assert membership.clopper_pearson(hits, count) == pytest.approx(exact)
    assert per_class.wilson(np.int64(hits), count).tolist() == pytest.approx(
        list(wilson), abs=1e-12
    )


def test_members_are_found_at_the_rate_of_false_positives_that_is_promised():
    rng = RNG(0)
    strangers = rng.normal(size=1000)
    strict = membership.found(rng.normal(size=5000), strangers)
    assert strict["false_positive_rate"] == 0.01 and strict["needs"] is None
    assert strict["interval"][0] < strict["true_positive_rate"] < strict["interval"][1]
    assert strict["true_positive_rate"] == pytest.approx(0.01, abs=0.012)
    loose = membership.found(strangers - 100.0, strangers[:297])
    assert loose["false_positive_rate"] == 0.05 and loose["needs"] == 1000
    assert loose["true_positive_rate"] == 1.0
    own = membership.found(strangers[:297], strangers[:297])
    assert own["true_positive_rate"] == pytest.approx(14 / 297)  # at most 5% of the strangers


def test_the_band_is_measured_on_images_it_was_not_chosen_on():
    rng = RNG(0)
    noise = [membership.best_band(rng.normal(size=(200, 12)), rng.normal(size=(200, 12)), seed)
             for seed in range(40)]  # fmt: skip
    mean = np.mean([n["auroc"] for n in noise])
    assert abs(mean - 0.5) < 3 * noise[0]["null_standard_error"] / math.sqrt(40)
    members, strangers = rng.normal(size=(200, 5)), rng.normal(size=(200, 5))
    strangers[:, 3] += 2.0
    told = membership.best_band(members, strangers)
    assert told["band"] == 3 and told["auroc"] > 0.85


def test_gaps_of_bands_add_up():
    rng = RNG(0)
    parts = rng.normal(size=(50, 4)), rng.normal(0.2, size=(60, 4))
    rows = membership.by_band(*parts, np.arange(5.0))
    whole = membership.gap(parts[0].sum(1), parts[1].sum(1))["bits_per_dim"]
    assert sum(r["bits_per_dim"] for r in rows) == pytest.approx(whole)
    assert [(r["from"], r["to"]) for r in rows] == [(0, 1), (1, 2), (2, 3), (3, 4)]


def test_welch_is_scipys_and_holm_keeps_its_rate_of_errors():
    rng = RNG(0)
    a, b = rng.normal(size=12), rng.normal(0.5, 3.0, size=40)
    expected = stats.ttest_ind(a, b, equal_var=False)
    found = per_class.welch(a, b)
    assert found["p"] == pytest.approx(expected.pvalue)
    assert found["difference"] / found["standard_error"] == pytest.approx(expected.statistic)
    assert per_class.welch(np.ones(3), np.ones(4))["p"] == 1.0
    wrong = np.mean([(per_class.holm(rng.random(10)) < 0.1).any() for _ in range(2000)])
    assert wrong == pytest.approx(0.1, abs=0.02)
    corrected = per_class.holm(np.array([0.03, 0.001, 0.04]))
    assert corrected.tolist() == pytest.approx([0.06, 0.003, 0.06])  # by hand: 2, 3 and 1 times


def test_the_worst_of_classes_that_are_alike_is_as_bad_as_chance_says():
    rng = RNG(0)
    labels = np.arange(200) % 10
    alike = [per_class.bits(rng.normal(size=200), labels, seed)["worst"] for seed in range(15)]
    excess, null = (np.array([w[k] if k != "null" else w[k]["mean"] for w in alike])
                    for k in ("over_the_rest", "null"))  # fmt: skip
    assert null.min() > 0.1  # the largest of noise is positive
    assert abs(excess.mean() - null.mean()) < 3 * excess.std() / math.sqrt(15)
    values = rng.normal(size=200) + 3.0 * (labels == 4)
    worst = per_class.bits(values, labels)["worst"]
    assert worst["class"] == 4 and worst["holm_p"] < 1e-3
    assert worst["over_the_rest"] > worst["null"]["quantile_95"]
    assert worst["interval"][0] < worst["over_the_rest"] < worst["interval"][1]
    assert per_class.bits(values, np.zeros(200, int)) is None


def test_a_judges_errors_are_undone_and_their_spread_is_known():
    truth = np.array([0.5, 0.3, 0.2])
    judge = np.array([[0.9, 0.2, 0.0], [0.1, 0.7, 0.1], [0.0, 0.1, 0.9]])
    np.testing.assert_allclose(per_class.corrected(judge @ truth, judge), truth)
    assert per_class.corrected(truth, np.full((3, 3), 1 / 3)) is None
    rng, found = RNG(0), []
    each = np.array([150, 90, 60])
    data = np.repeat(np.arange(3), each)
    for _ in range(30):
        answers = [rng.choice(3, n, p=judge[:, k]) for k, n in enumerate(each)]
        seen = per_class.confusion(np.concatenate(answers), data, 3)
        guess = rng.choice(3, 400, p=judge @ truth)
        found.append(per_class.shares(guess, data, seen, each))
    first = [f["classes"][1] for f in found]
    values = np.array([r["corrected"] for r in first])
    claimed = np.mean([r["corrected_standard_error"] for r in first])
    assert abs(values.mean() - 0.3) < 3 * values.std() / math.sqrt(30)
    assert values.std() == pytest.approx(claimed, rel=0.4)


def test_shares_like_those_of_the_data_are_no_news_and_others_are():
    rng, judge, tested = RNG(0), np.eye(4), np.full(4, 100)
    data = np.arange(400) % 4
    p = [
        per_class.shares(rng.integers(0, 4, 200), data, judge, tested)["chi2_p"] for _ in range(25)
    ]
    assert np.mean(p) == pytest.approx(0.5, abs=0.18)
    skewed = per_class.shares(np.minimum(rng.integers(0, 5, 600), 3), data, judge, tested)
    assert skewed["chi2_p"] < 0.01
    missing = per_class.shares(rng.integers(1, 4, 200), data, judge, tested)
    assert missing["least"]["class"] == 0 and missing["least"]["interval"][0] == 0.0
    sometimes = per_class.shares(np.full(20, 3), np.zeros(20, int), judge, tested)
    assert sometimes["chi2_p"] < 0.01  # a class that the data do not have


def test_a_judge_that_was_tested_on_few_images_makes_no_news_of_a_faithful_model():
    """Many samples by the data's own law: its errors are known worse than their shares."""
    rng, k = RNG(0), 10

    def said(truth):
        return (truth + (rng.random(len(truth)) < 0.05)) % k  # right in 95 of 100

    p, below = [], []
    for seed in range(60):
        truth = rng.integers(0, k, 297)
        seen, tested = per_class.confusion(said(truth), truth, k), np.bincount(truth, minlength=k)
        guess = said(rng.integers(0, k, 3000))
        found = per_class.shares(guess, np.arange(100) % k, seen, tested, seed)
        p.append(found["chi2_p"])
        below.append(found["least"]["ratio"] < found["least"]["null"]["quantile_5"])
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert np.mean(np.less(p, 0.05)) < 0.14 and np.mean(below) < 0.14


def test_the_least_shown_of_classes_that_are_alike_is_as_rare_as_chance_says():
    """Of two classes the least is a binomial's mean distance from the middle below it."""
    rng, n = RNG(0), 100
    found = per_class.shares(
        rng.integers(0, 2, n), np.arange(400) % 2, np.eye(2), np.array([200, 200])
    )["least"]
    counts = np.arange(n + 1)
    least = np.minimum(counts, n - counts) / (n / 2)
    law = stats.binom.pmf(counts, n, 0.5)
    assert found["null"]["mean"] == pytest.approx(law @ least, abs=0.015)
    below = law[least <= found["null"]["quantile_5"]].sum()
    assert below == pytest.approx(0.05, abs=0.04)
    assert found["ratio"] == pytest.approx(found["share"] / 0.5) and found["ratio"] <= 1.0
    skewed = per_class.shares(np.minimum(rng.integers(0, 4, n), 1), np.arange(400) % 2,
                              np.eye(2), np.array([200, 200]))["least"]  # fmt: skip
    assert skewed["class"] == 0 and skewed["ratio"] < skewed["null"]["quantile_5"]


def test_the_second_nearest_is_found_whatever_the_batches():
    rng = RNG(0)
    queries, train = rng.normal(size=(30, 4)), rng.normal(size=(50, 4))
    queries[0] = train[7]
    apart = np.sort(np.linalg.norm(queries[:, None] - train, axis=-1), axis=1)
    for sizes in ([50], [1, 1, 48], [20, 30]):
        found = neighbours.Nearest(queries)
        for part in np.split(train, np.cumsum(sizes)[:-1]):
            found.add(part)
        np.testing.assert_allclose(found.distance, apart[:, 0])
        np.testing.assert_allclose(found.second, apart[:, 1])
    assert found.distance[0] == 0.0 and found.index[0] == 7


@pytest.mark.parametrize("name", ["copies", "singled_out"])
def test_copies_that_chance_explains_are_no_leak(name):
    """One of few, and as many as among held-out examples, as in data with few different ones."""

    def said(own, n, others, m):
        counts = {"copies": 0, "held_out_copies": 0, "singled_out": 0, "held_out_singled_out": 0}
        counts |= {name: own, f"held_out_{name}": others}
        rows = {"samples": n, "held_out": m}
        return verdict({"copies": {**counts, "rows": rows}})

    for nothing in ((0, 600, 0, 297), (1, 600, 1, 297), (600, 600, 297, 297), (300, 600, 150, 297)):
        assert "no leak found" in said(*nothing), nothing
    one = (1, 600, 0, 297)  # the same to the last value, as no held-out example is; or nearly
    assert ("no leak found" in said(*one)) == (name == "singled_out")
    for some in ((600, 600, 0, 297), (40, 600, 0, 297), (300, 600, 50, 297)):
        assert "some samples are exact or near copies" in said(*some), some


def test_by_chance_copies_are_found_as_rarely_as_three_errors_say():
    """Both sides from one law: in 1 of 740 draws, and at most in 1 of 100."""
    rng = RNG(0)
    draws = zip(rng.binomial(600, 0.1, 3000), rng.binomial(300, 0.1, 3000), strict=True)
    rows = {"samples": 600, "held_out": 300}
    found = [copying({"copies": a, "held_out_copies": b, "rows": rows}, "copies") for a, b in draws]
    assert np.mean(found) < 0.01


def test_copies_are_singled_out_and_new_images_are_not():
    rng = RNG(0)
    train = rng.normal(size=(200, 10))
    sides = []
    for queries in (train[:40] + 0.01 * rng.normal(size=(40, 10)), rng.normal(size=(60, 10))):
        sides.append(neighbours.Nearest(queries))
        sides[-1].add(train)
    found = neighbours.copies(*sides)
    assert found["singled_out"] == 40 and found["held_out_singled_out"] == 0
    assert found["copies"] == 0 and found["nearer_than_all"] == 40
    assert neighbours.copies(sides[1], sides[1])["nearer_than_all"] == 0

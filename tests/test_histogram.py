"""Classes of samples and of data, compared."""

import numpy as np
import pytest

from diffusion_jax.evaluation import histogram


def test_divergences_in_closed_form():
    assert histogram.jensen_shannon([1, 0], [0, 1]) == pytest.approx(1.0)  # disjoint: one bit
    assert histogram.jensen_shannon([3, 1], [6, 2]) == 0.0
    # All in one class against two equal ones: H(3/4, 1/4) - 1/2.
    entropy = 2 - 0.75 * np.log2(3)
    assert histogram.jensen_shannon([1, 0], [1, 1]) == pytest.approx(entropy - 0.5)
    assert histogram.total_variation([1, 0], [1, 1]) == pytest.approx(0.5)
    assert histogram.total_variation([1, 0], [0, 7]) == pytest.approx(1.0)


def test_the_least_represented_class_is_named():
    data = np.repeat([0, 1, 2], [50, 30, 20])
    found = histogram.classes(np.repeat([0, 1, 2], [6, 3, 1]), data, 4, ("a", "b", "c", "d"))
    assert found["least_represented"] == {"class": "c", "ratio": pytest.approx(0.5)}
    assert found["total_variation"] == pytest.approx(0.1)
    assert found["data"] == [0.5, 0.3, 0.2, 0.0]

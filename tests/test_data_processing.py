"""What a text tells of a CLIP's vector is held against what it tells of the image: whole runs."""

import jax.numpy as jnp
import numpy as np
import pytest
from linear_gaussian import MEAN, SPREAD
from scipy.stats import multivariate_normal
from test_unclip import SIZE, runs, trusted  # noqa: F401

from diffusion_jax.data import vectors
from diffusion_jax.experiment import open_run
from diffusion_jax.experiment.measures import caption_information, information_checks


def test_mixtures_are_compared_too_and_a_gaussian_priors_is_known(runs):  # noqa: F811
    """Of the prior, which is exact, the mixture is the mutual information of Gaussians."""
    prior = open_run(runs["prior"], trust=True)
    prior.config.inform.update({"of": runs["reader"], "candidates": 0})
    prior.config.eval.draws, prior.config.eval.batch = 64, 20
    result = caption_information.measured(prior, prior.params).result
    both = result["processed"]["mixture"]
    assert both["vector"]["bits"] == pytest.approx(result["mixture"]["bits"])
    assert both["vector"]["bits"] <= 1 and both["information"]["bits"] <= 1  # of two letters
    split = prior.source.split("test")
    v = np.asarray(prior.model.decoder.encode(jnp.asarray(split.images))).reshape(-1, SIZE)
    law = [multivariate_normal(np.asarray(MEAN[t]) / vectors.SPAN, SPREAD / vectors.SPAN**2)
           for t in "ab"]  # fmt: skip
    known = np.asarray([p.logpdf(v) for p in law])
    own = known[[("a", "b").index(t) for t in split.captions.strings()], np.arange(len(v))]
    bits = (own - np.logaddexp(*known) + np.log(2.0)) / np.log(2.0)
    assert both["vector"]["bits"] == pytest.approx(bits.mean(), abs=0.1)
    less = both["information"]["bits"] - both["vector"]["bits"]
    assert both["more"]["bits"] == pytest.approx(-less)
    said = information_checks.checks(result)
    assert next(c for c in said if c["check"] == "the same by mixtures")["passed"] == (
        less >= -3 * both["more"]["standard_error"]
    )

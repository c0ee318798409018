"""What likelihoods do not hold for is said, or refused."""

import dataclasses

import pytest
from test_likelihood import DATA, ode

from diffusion_jax import registry
from diffusion_jax.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("ode()", True),
        ("ode(k=5)", True),
        ("ode(trace='hutchinson')", True),  # in expectation: nothing is exponentiated
        ("ode(trace='hutchinson', k=5)", False),
    ],
)
def test_what_is_no_bound_says_so(text, bound):
    found = ode(text).describe(64)
    assert found["bound"] is bound
    assert ("NO BOUND" in found["kind"]) is not bound


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ode(steps=7)", "even"),
        ("ode(method='euler')", "allowed: heun, rk4"),
        ("ode(trace='some')", "allowed: exact, hutchinson"),
        ("ode(dequantization='none')", "allowed: decoder, truncated_normal, uniform"),
        ("ode(k=0)", "at least 1"),
        (
            "ode(k=8, trace='hutchinson', shared_probes=False)",
            r"independent probes.*inflates.*2\.185 bits/dim, exact trace 2\.345",
        ),
    ],
)
def test_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        ode(text)


def test_backbones_it_does_not_hold_for_are_refused():
    encoder = registry.build("encoders", "diffenc_nt()")
    with pytest.raises(ConfigError, match=r"DiffEnc.*elbo"):
        ode().check(dataclasses.replace(DATA.model(), encoder=encoder))
    mulan = registry.build(
        "schedules", "mulan()", gamma_min=-5.0, gamma_max=4.0, shape=(4, 4, 1), channels=1
    )
    with pytest.raises(ConfigError, match=r"MuLAN.*elbo"):
        ode().check(dataclasses.replace(DATA.model(), schedule=mulan))
    with pytest.raises(ConfigError, match=r"no levels.*decoder"):
        ode("ode(dequantization='uniform')").check(DATA.model())
    ode().check(DATA.model())

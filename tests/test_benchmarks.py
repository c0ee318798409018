"""The benchmarks measure what they say: equal networks, and a command line that works."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import _common, linen_vdm, sample_quality
from diffusion_jax.errors import ConfigError
from diffusion_jax.networks.backbones import vdm_unet
from diffusion_jax.networks.layers import blocks


@pytest.mark.slow
def test_the_plain_network_is_an_independent_copy_of_ours(float64, monkeypatch):
    def bernoulli(x, rate, keys):  # ours draws half as many bits
        if keys is None:
            return x
        keep = jax.vmap(lambda k: jax.random.bernoulli(k, 1 - rate, x.shape[1:]))(keys)
        return jnp.where(keep, x / (1 - rate), 0)

    monkeypatch.setattr(blocks, "dropout", bernoulli)
    ours = vdm_unet.make(
        width=8, depth=1, embed=8, channels=1, levels=4, num_classes=3, dropout=0.3
    )
    z = jax.random.normal(jax.random.key(0), (2, 4, 4, 1))
    gamma, cond = jnp.asarray([-3.0, 2.0]), {"label": jnp.asarray([0, 3])}
    params = jax.jit(ours.init)(jax.random.key(1), z, gamma, cond)
    params = jax.tree.map(lambda a: a + 0.3 * jnp.cos(jnp.arange(a.size)).reshape(a.shape), params)
    keys = jax.random.split(jax.random.key(2), 2)
    a = jax.jit(ours.apply)(params, z, gamma, cond, keys)
    b = jax.jit(linen_vdm.of(ours).apply)(linen_vdm.weights(params), z, gamma, cond, keys)
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def test_what_has_no_plain_version_is_refused():
    with pytest.raises(ConfigError, match="no plain version"):
        linen_vdm.of(vdm_unet.make(attention=True))


def test_ratios_of_two_files(tmp_path, capsys, monkeypatch):
    import json

    record = {"devices": "1 x cpu", "date": "2026-01-01"}
    for name, speed in (("a", 2.0), ("b", 3.0)):
        rows = [{"work": "digits", "network": "ours", "steps_per_s": speed}]
        (tmp_path / f"{name}.json").write_text(json.dumps({**record, "rows": rows}))
    monkeypatch.setattr("sys.argv", ["x", "--compare", *(f"{tmp_path}/{n}.json" for n in "ab")])
    _common.run("Doc.", lambda args, work: pytest.fail("must not measure"))
    assert "| digits | ours | 1.5 |" in capsys.readouterr().out


def test_rows_of_the_sample_tables_are_found_by_what_they_are():
    def row(table, guidance, accuracy, calls=20):
        return {"table": table, "sampler": "dpmpp_2m()", "guidance": guidance, "calls": calls,
                "frechet": 1.0, "accuracy": accuracy, "images_per_s": 5.0}  # fmt: skip

    rows = [row("cfg", "cfg(w=3.0)", 0.3), row("cfg", "cfg(w=1.0)", 0.1)]
    rows += [row("calls", "none()", 0.7, 10), row("calls", "cfg(w=2.0)", 0.8, 10)]
    real = {"images": 1, "accuracy": 1.0, "frechet": 0.0}
    shown = sample_quality.show(rows, [1.0, 3.0], "none()", "clf", real)
    assert "| 1 | 0.100, 1.000, 5 | not run | not run |" in shown
    assert "| 3 | 0.300, 1.000, 5 | not run | not run |" in shown
    assert "0.700" in shown and "0.800" not in shown

"""launch/tpu_check.py: counts against hand counts; the real compiler where libtpu is installed."""

import importlib.util
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
import tiny
from conftest import REPO

from benchmarks import _common
from diffusion_jax.errors import ConfigError
from launch import program, tpu_check, traced

CONV = {"window_strides": (1, 1), "padding": "SAME", "dimension_numbers": ("NHWC", "HWIO", "NHWC")}


def conv(x, w):
    return jax.lax.conv_general_dilated(x, w, **CONV)


def test_flops_of_products_and_convolutions_by_hand():
    a, b = jnp.zeros((3, 4, 5)), jnp.zeros((3, 5, 7))
    assert program.flops(jax.make_jaxpr(jnp.matmul)(a, b)) == 2 * 3 * 4 * 5 * 7
    x, w = jnp.zeros((2, 8, 8, 6)), jnp.zeros((3, 3, 6, 10))
    once = 2 * (2 * 8 * 8 * 10) * (3 * 3 * 6)
    assert program.flops(jax.make_jaxpr(conv)(x, w)) == once
    # Forward, towards the input, towards the kernel: three times the same work.
    both = jax.make_jaxpr(jax.grad(lambda x, w: (conv(x, w) ** 2).sum(), argnums=(0, 1)))(x, w)
    assert program.flops(both) == 3 * once


def test_flops_in_loops_branches_and_recomputation():
    w = jnp.zeros((8, 8))
    once = 2 * 8**3

    def layer(h, _):
        return jnp.tanh(h @ w), None

    def loop(h, body=layer):
        return jax.lax.scan(body, h, length=5)[0]

    def branch(h):
        return jax.lax.cond(h.sum() > 0, lambda h: h @ w @ w, lambda h: h, h)

    assert program.flops(jax.make_jaxpr(jax.jit(loop))(w)) == 5 * once
    assert program.flops(jax.make_jaxpr(branch)(w)) == 2 * once
    plain = jax.make_jaxpr(jax.grad(lambda h: loop(h).sum()))(w)
    again = jax.make_jaxpr(jax.grad(lambda h: loop(h, jax.checkpoint(layer)).sum()))(w)
    assert program.flops(plain) == 10 * once  # forward, and towards h
    assert program.flops(again) == 15 * once


def test_a_forward_pass_of_vdm_32_costs_what_is_known():
    """Written out by hand; 51.6 GFLOP an image without the kernel taps outside the image."""
    from diffusion_jax import registry

    network = registry.build("backbones", "vdm_unet(scan=True)")
    z, gamma = jnp.zeros((1, 32, 32, 3)), jnp.zeros(1)
    params = jax.eval_shape(lambda: network.init(jax.random.key(0), z, gamma, {}))
    made = jax.make_jaxpr(lambda p: network.apply(p, z, gamma, {}))(params)
    a, pixels = 128, 1024
    down = 9 * 2 * a * a  # two convolutions
    up = 9 * 3 * a * a  # the first sees the skip as well
    ends = 9 * 15 * a + 9 * a * 3  # in: 3 channels and their Fourier features; out: 3
    plain = 33 * 2 * a * a + 4 * a * a + 2 * pixels * a  # short cuts, attention
    convolutions = 34 * down + 33 * up + ends
    assert abs(program.flops(made) / (2 * pixels * (convolutions + plain)) - 1) < 0.005
    inside = (1 - 2 / (3 * 32)) ** 2
    assert abs(2 * pixels * (inside * convolutions + plain) / 51.6e9 - 1) < 0.01


def test_padding_by_hand():
    """Tiles of 8 x 128 over the two minor dimensions of the layout."""
    (one,) = program.arrays("f32[8,96]{1,0:T(8,128)}")
    assert (one.size, one.padded) == (4 * 8 * 96, 4 * 8 * 128)
    (one,) = program.arrays("bf16[16,32,32,3]{0,3,2,1:T(4,128)(2,1)S(1)}")
    assert (one.size, one.padded) == (2 * 16 * 32 * 32 * 3, 2 * 128 * 32 * 32 * 4)
    (one,) = program.arrays("f32[128,256]{1,0:T(8,128)}")
    assert one.size == one.padded
    pair = program.arrays("(f32[2]{0}, u8[3]{0:T(128)}, token[])")
    assert [(a.size, a.padded) for a in pair] == [(8, 8), (3, 128)]


def test_what_is_read_from_the_text_of_a_program():
    text = """\
%fused (p: f32[8,96]) -> f32[8,96] {
  %p = f32[8,96]{1,0:T(8,128)} parameter(0)
  ROOT %inside = f32[8,96]{1,0:T(8,128)} negate(%p)
}

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%a, %b)
}

ENTRY %main (x: f32[8,96]) -> f32[8,96] {
  %x = f32[8,96]{1,0:T(8,128)} parameter(0)
  %f = f32[8,96]{1,0:T(8,128)} fusion(%x), kind=kLoop, calls=%fused
  %r = (f32[8,128]{1,0:T(8,128)}, f32[4]{0}) all-reduce-start(%f), to_apply=%add
  %d = f32[8,128]{1,0:T(8,128)} all-reduce-done(%r)
  ROOT %g = f32[8,128]{1,0:T(8,128)} all-gather(%f), dimensions={1}
}
"""
    found = program.read(text)
    size = 4 * 8 * 128
    assert found.collectives == {"all-reduce": (1, size + 16), "all-gather": (1, size)}
    assert found.written == 4 * 8 * 96 + (size + 16) + size
    assert found.padded == size + (size + 16) + size
    assert found.worst == [("f32[8,96]", 4 * 8 * 32)]


def test_what_the_compiler_lets_through_is_refused_here():
    nothing = program.Report({}, 0, 0, [])
    made = tpu_check.Checked("train", 0, "", 40, 60, 10, 10, 100, 0.0, nothing)
    assert made.needed == 100 and not made.fits and "DOES NOT FIT" in tpu_check.describe(made)
    made = tpu_check.Checked("train", 0, "", 30, 59, 10, 10, 100, 0.0, nothing)
    assert made.fits


def run(*flags):
    return subprocess.run(
        [sys.executable, "-m", "launch.tpu_check", *flags], cwd=REPO, text=True,
        capture_output=True, env=dict(os.environ, JAX_COMPILATION_CACHE_DIR=""),
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "--config"),
        (["--config=configs/digits.py", "--programs=trian"], "trian"),
        (["--config=configs/digits.py", "--topology=v5e"], "v5e:2x4"),
    ],
)
def test_mistakes(flags, said, monkeypatch, capsys):
    monkeypatch.chdir(REPO)
    monkeypatch.setattr(tpu_check, "_ENVIRONMENT", {})  # of a process that compiles for a TPU
    if said == "v5e:2x4" and importlib.util.find_spec("libtpu") is None:
        said = "libtpu"
    assert tpu_check.main(["tpu_check", *flags]) == 2
    err = capsys.readouterr().err
    assert err.splitlines()[-1].startswith("error: ") and said in err


def test_help_names_every_flag_and_checks_nothing(monkeypatch, capsys):
    monkeypatch.setattr(tpu_check, "_ENVIRONMENT", {})
    assert tpu_check.main(["tpu_check", "--help"]) == 0
    told = capsys.readouterr().out
    known = tpu_check._flags(["x", f"--config={REPO}/configs/digits.py"])
    assert all(f"--{name} " in told for name in {*known} - {"config"})


@pytest.mark.slow
@pytest.mark.parametrize("train", [True, False])
def test_a_model_of_latents_is_traced(train, tmp_path):
    """Its autoencoder's checkpoint need not be here; a frozen one has no moments."""
    c = _common.config_file("digits_latent:prior_smoke")
    more = f"channels=2, head=categorical(), checkpoint='elsewhere', train={train}"
    c.autoencoder, c.batch = f"conv(widths=(8, 8), {more})", 8
    job = traced.make_job(c, jax.devices()[:1])
    step, told = traced.lower_train(job, 100, 1)
    assert told == "1 x 8 images, data on the chips"
    state = step.args_info[0][0]
    shapes = [
        str(jax.tree.map(lambda a: a.shape, tree)) for tree in (state.params, state.opt_state)
    ]
    assert ["encoder" in text for text in shapes] == [True, train]
    _, told = traced.lower_sample(job)
    assert told.startswith("10 images, 5 steps")


@pytest.mark.parametrize("view", ["high()", "from_latent()"])
def test_a_later_stage_is_told_what_it_needs(tmp_path, view):
    c = tiny.config(tmp_path, view=view, guidance="none()", conditional=False)
    if view == "from_latent()":
        c.autoencoder = "conv(widths=(8,), channels=2, head=categorical(), checkpoint='x')"
    c.sample.low_gamma = -2.0 if view == "high()" else None
    job = traced.make_job(c, jax.devices()[:1])
    step, told = traced.lower_sample(job)
    assert told == "6 images, 3 steps of ancestral()"
    low = step.args_info[0][2]["low"] if view == "high()" else None
    assert low is None or (low.shape, low.dtype) == ((6, 2, 2, 1), jnp.uint8)


def test_settings_of_an_autoencoder_are_those_of_its_checkpoint(tmp_path, capsys):
    vae = tiny.config(tmp_path, autoencoder="conv(widths=(8, 8), channels=3)")
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text(vae.to_json())
    asked = f"conv(checkpoint={str(tmp_path / 'vae')!r})"
    job = traced.make_job(tiny.config(tmp_path, autoencoder=asked), jax.devices()[:1])
    assert job.model.z_shape((4, 4, 1)) == (2, 2, 3) and not capsys.readouterr().out
    traced.make_job(tiny.config(tmp_path, autoencoder="conv(checkpoint='gone')"), [])
    with pytest.raises(ConfigError, match=r"only training steps of diffusion\(\) are compiled"):
        traced.make_job(tiny.config(tmp_path, task="guide(classifier())"), [])
    assert "gone is not here: taken for conv(checkpoint='gone')" in capsys.readouterr().out


@pytest.mark.slow
def test_vdm_8_compiles_for_a_v5e_and_fits():
    pytest.importorskip("libtpu", reason="pip install -e '.[tpu]'")
    network = "vdm_unet(width=128, depth=8, scan=True, remat=True)"
    done = run(
        "--config=configs/mnist.py", f"--config.network={network}", "--config.per_dispatch=1",
        "--images=60000", "--config.sample.steps=10", "--topology=v5e:2x4",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": fits") == 2
    assert "all-reduce" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(
    "DIFFUSION_JAX_RELEASE" not in os.environ,
    reason="minutes for each chip, once a release: set DIFFUSION_JAX_RELEASE",
)
@pytest.mark.parametrize("topology", ["v5e:2x4", "v5p:2x2x1", "v6e:2x4"])
def test_vdm_32_compiles_for_every_chip_and_fits(topology):
    pytest.importorskip("libtpu", reason="pip install -e '.[tpu]'")
    done = run("--config=configs/cifar10.py", "--images=50000", f"--topology={topology}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": fits") == 2

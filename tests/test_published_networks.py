"""Published checkpoints of any width compute what the published network computes."""

import flax.linen as nn
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_cases import nested
from published_vdm import ScoreUNet

from diffusion_jax import registry
from diffusion_jax.errors import CheckpointError
from diffusion_jax.model import Model
from diffusion_jax.networks.layers.norm import GroupNorm
from diffusion_jax.networks.published import diffenc, vdm

CONTEXT = {"gamma_min": -13.3, "gamma_max": 5.0, "levels": 256, "channels": 3}


def inputs():
    rng = np.random.default_rng(0)
    z = jnp.asarray(rng.normal(size=(2, 4, 4, 3)), jnp.float32)
    return z, jnp.asarray([-9.0, 1.5]), jnp.asarray([0.3, -1.0])


FURTHER = [pytest.param(*w, marks=pytest.mark.slow)
           for w in ((64, False), (64, True), (96, False), (128, True))]  # fmt: skip


@pytest.mark.parametrize(
    ("width", "attention"), [(32, False), (32, True), (96, True), (128, False), *FURTHER]
)
def test_a_checkpoint_of_this_width_predicts_what_was_published(tmp_path, width, attention):
    theirs, (z, gamma, scalar) = ScoreUNet(width, 1, attention), inputs()
    shapes = jax.eval_shape(lambda: theirs.init(jax.random.key(0), z, gamma, scalar))["params"]
    rng = np.random.default_rng(width)
    weights = jax.tree.map(lambda a: rng.normal(0.0, 0.2, a.shape).astype(np.float32), shapes)
    tree = {"score_model": weights}
    path = tmp_path / "x.flax"
    path.write_bytes(flax.serialization.msgpack_serialize(
        {"step": 3, "params": tree, "ema_params": tree, "opt_state": {}}
    ))  # fmt: skip
    found = vdm.read(path)
    model = Model(
        network=registry.build("backbones", found.overrides["network"], **CONTEXT),
        schedule=registry.build("schedules", "linear()", **CONTEXT),
        decoder=registry.build("decoders", "categorical()", **CONTEXT),
        prediction="eps",
    )
    predict = jax.jit(lambda p: model.denoiser(p)(z, gamma, {"scalar": scalar}).eps)
    ours = predict(found.ema_params)
    wanted = jax.jit(theirs.apply)({"params": weights}, z, gamma, scalar)
    scale = float(jnp.abs(wanted - z).max())
    assert scale > 0.5  # it is not the input that is compared with itself
    np.testing.assert_allclose(ours, wanted, atol=2e-3 * scale)


def test_the_network_written_again_is_the_published_one(golden):
    """With published weights it equals our network, which equals the published numbers."""
    case = dict(np.load(golden / "vdm_official_scalar_T0.npz"))
    weights = nested(case, "param/")["score_model"]
    assert "down.attn_0" in weights
    params = vdm.weights(nested(case, "param/"))
    settings = vdm.settings(params)
    network = registry.build("backbones", settings["network"], **CONTEXT)
    z, gamma, _ = (jnp.asarray(a) for a in inputs())
    scalar = jnp.zeros(2)
    theirs = jax.jit(ScoreUNet(64, 1, attention=True).apply)
    ours = jax.jit(lambda p: network.apply({"params": p}, z, gamma, {"scalar": scalar}))
    np.testing.assert_allclose(
        theirs({"params": weights}, z, gamma, scalar), ours(params["network"]), atol=2e-3
    )


@pytest.mark.parametrize("kind", ["unet", "unet_mult_res"])
def test_an_encoder_of_32_channels_has_the_published_groups(kind):
    spec = f"diffenc(kind={kind!r}, blocks=1, width=32, scalar=True, smallest_group={{}})"

    def groups(smallest):
        built, found = registry.build("encoders", spec.format(smallest), channels=3), {}

        def note(call, args, kwargs, context):
            if isinstance(context.module, GroupNorm):
                found[context.module.path[0], context.module.name] = context.module.groups
            return call(*args, **kwargs)

        with nn.intercept_methods(note):
            params = jax.eval_shape(lambda: built.init(jax.random.key(0), (8, 8, 3)))
        return found, params

    found, params = groups(1)
    middle = 16 if kind == "unet" else 32
    for (block, name), count in found.items():
        wanted = 16 if "norm_out" in (block, name) else middle if block.startswith("mid_") else 32
        assert count == (32 if block == "mid_attn" else wanted), block
    ours, same = groups(2)
    assert ours["down0_0", "norm1"] == 16  # own checkpoints keep their rule
    assert jax.tree.structure(same) == jax.tree.structure(params)
    tree = jax.tree.map(lambda a: np.zeros(a.shape, np.float32), params)
    made = {"network": None, "schedule": {}, "encoder": tree}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vdm, "settings", lambda params: {})
        settings = diffenc.settings(made, mult_res=kind != "unet")
    assert settings["encoder"] == spec.format(1)


def nnet(rng, n=16):
    """A published `learnable_nnet`: its parameters, and gamma as its code computes it."""
    l1, l2, l3 = (
        {"kernel": rng.normal(18.0, 1.0, (1, 1)), "bias": rng.normal(-13.0, 1.0, 1)},
        {"kernel": rng.normal(0.0, 3.0, (1, n)), "bias": rng.normal(0.0, 3.0, n)},
        {"kernel": rng.normal(0.0, 4.0, (n, 1))},
    )

    def gamma(t):
        t = t.reshape(-1, 1)
        h = 2.0 * (t - 0.5) @ abs(l2["kernel"]) + l2["bias"]
        h = 2.0 * (1.0 / (1.0 + np.exp(-h)) - 0.5)
        return (t @ abs(l1["kernel"]) + l1["bias"] + h @ abs(l3["kernel"]) / n)[:, 0]

    return {"l1": l1, "l2": l2, "l3": l3}, gamma


def test_a_learned_network_schedule_is_read_exactly(golden, float64):
    score = nested(dict(np.load(golden / "vdm_official_scalar_T0.npz")), "param/")["score_model"]
    weights, theirs = nnet(np.random.default_rng(0))
    params = jax.tree.map(jnp.asarray, vdm.weights({"score_model": score, "gamma": weights}))
    schedule = registry.build("schedules", vdm.settings(params)["schedule"], **CONTEXT)
    assert jax.tree.structure(params["schedule"]) == jax.tree.structure(
        schedule.init(jax.random.key(0))
    )
    t = np.linspace(0.0, 1.0, 101)
    ours = schedule.gamma(params["schedule"], jnp.asarray(t))
    np.testing.assert_allclose(ours, theirs(t), rtol=0, atol=1e-13)


def test_what_cannot_be_read_is_refused_by_name():
    with pytest.raises(CheckpointError, match=r"learnable_nnet .* parameters a, b"):
        vdm.weights({"score_model": {}, "gamma": {"a": 0, "b": 0}})
    inner = {"enc_model": {"down.block_0": {}, "mid.block_1": {}}}
    with pytest.raises(CheckpointError, match=r"unet_mult_res are supported.*vdm_unet"):
        diffenc.weights({"score_model": {}, "encdec": {"inner_encoder": inner}})

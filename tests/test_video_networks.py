"""Networks of videos: frames that see one another, and unrelated images that do not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from weights import moved

from diffusion_jax import registry
from diffusion_jax.errors import ConfigError
from diffusion_jax.networks.text_encoders.base import encode

FRAMES = (3, 4, 4, 1)
UNET = "width=8, mults=(1,), blocks=1, attention=(), heads=2, dropout=0.0, fourier=False"
KNOWN = {"channels": 1, "levels": 2, "num_classes": 3, "gamma_min": -6.0, "gamma_max": 10.0}
TINY = "toys(glyphs=2, size=6, frames=3, velocities=((0, 1), (1, 0)))"


def network(spec, shape=FRAMES):
    return registry.build("backbones", spec, shape=shape, **KNOWN)


@pytest.fixture(scope="module")
def frames():
    return jax.random.normal(jax.random.key(0), (2, *FRAMES))


@pytest.fixture(scope="module")
def weights(frames):
    init = jax.jit(network(f"video_unet({UNET})").init)
    return init(jax.random.key(1), frames, jnp.zeros(2), {})


def test_weights_of_images_give_each_frame_what_they_gave_an_image(frames, weights):
    images = network(f"unet({UNET})", FRAMES[1:])
    gamma, label = jnp.asarray([-2.0, 1.0]), jnp.asarray([0, 2])
    flat = frames.reshape(-1, *FRAMES[1:])
    params = jax.eval_shape(images.init, jax.random.key(2), flat, jnp.zeros(6), {})
    own = moved(weights, 0.2)["params"]
    # What it has besides are the layers between frames, which begin with nothing.
    mine = {name: own[name] for name in params["params"]}
    new = {name: weights["params"][name] for name in own if name not in mine}
    assert new and all("time" in name for name in new)
    video = network(f"video_unet({UNET})").apply
    out = jax.jit(video)({"params": mine | new}, frames, gamma, {"label": label})
    told = jnp.repeat(gamma, 3), {"label": jnp.repeat(label, 3)}
    alone = jax.jit(images.apply)({"params": mine}, flat, *told)
    np.testing.assert_allclose(out.reshape(flat.shape), alone, atol=1e-5)


def test_only_distances_in_time_tell_frames_apart(frames, weights):
    run = jax.jit(network(f"video_unet({UNET})").apply)
    full = moved(weights, 0.2)
    blind = jax.tree_util.tree_map_with_path(
        lambda path, a: jnp.zeros_like(a) if path[-1].key == "bias" and "time" in str(path)
        and len(path) == 3 else a, full,
    )  # fmt: skip
    order, gamma = jnp.asarray([2, 0, 1]), jnp.zeros(2)
    shuffled = run(blind, frames[:, order], gamma, {})
    np.testing.assert_allclose(shuffled, run(blind, frames, gamma, {})[:, order], atol=1e-5)
    told = run(full, frames[:, order], gamma, {})
    assert jnp.abs(told - run(full, frames, gamma, {})[:, order]).max() > 1e-3
    changed = run(full, frames.at[0, 2].add(1.0), gamma, {}) - run(full, frames, gamma, {})
    assert jnp.abs(changed[0, 0]).max() > 1e-4, "frames do not see one another"
    assert jnp.abs(changed[1]).max() == 0.0, "videos see one another"


def test_stacked_frames_are_channels_of_one_image(frames):
    stacked = network("stacked_frames(of=mlp(width=16, depth=1, embed=8))")
    weights = moved(jax.jit(stacked.init)(jax.random.key(1), frames, jnp.zeros(2), {}), 0.2)
    run = jax.jit(stacked.apply)
    out = run(weights, frames, jnp.zeros(2), {})
    assert out.shape == frames.shape
    changed = run(weights, frames.at[0, 2].add(1.0), jnp.zeros(2), {}) - out
    assert jnp.abs(changed[0, 0]).max() > 1e-4 and jnp.abs(changed[1]).max() == 0.0


def test_stacked_frames_read_text_as_their_network_of_images_does():
    reader = registry.build("text_encoders", "bytes(length=6, width=8, depth=1, heads=2)")
    told = {"channels": 1, "shape": (3, 4, 4, 1), "text": reader}
    stacked = registry.build("backbones", f"stacked_frames(of=unet({UNET}))", **told)
    assert stacked.text == reader
    ids = jnp.asarray(encode(reader, ["up", "down"]))
    z, gamma = jnp.ones((2, 3, 4, 4, 1)), jnp.zeros(2)
    weights = moved(jax.jit(stacked.init)(jax.random.key(1), z, gamma, {"text": ids}), 0.2)
    out = jax.jit(stacked.apply)(weights, z, gamma, {"text": ids})
    assert out.shape == z.shape and jnp.abs(out[0] - out[1]).max() > 1e-4
    blind = registry.build("backbones", "stacked_frames(of=mlp(width=8))", **told)
    assert blind.text is None


@pytest.mark.parametrize("spec", [f"video_unet({UNET})", f"stacked_frames(of=unet({UNET}))"])
def test_another_number_of_frames_is_refused(spec):
    with pytest.raises(ConfigError, match=r"takes videos \[B, 3, H, W, C\]"):
        network(spec).init(jax.random.key(0), jnp.zeros((2, 4, 4, 4, 1)), jnp.zeros(2), {})


def test_images_networks_say_what_takes_videos(frames):
    with pytest.raises(ConfigError, match=r"takes images.*video_unet"):
        network(f"unet({UNET})").init(jax.random.key(0), frames, jnp.zeros(2), {})


@pytest.mark.parametrize("label", [0, 1, 3])
def test_unrelated_images_see_themselves_alone(label, frames, weights):
    """Class 1 of these is `stills`, 3 the null class: another last frame changes no other."""
    source = registry.build("data", f"joint(of={TINY})")
    joint = network(f"video_unet({UNET}, stills={source.stills})")
    other = frames.at[:, -1].add(1.0)
    cond = {"label": jnp.full(2, label)}
    run = jax.jit(lambda z: joint.apply(moved(weights, 0.3), z, jnp.zeros(2), cond))
    same = np.asarray(run(frames) == run(other)).all((2, 3, 4))
    assert same[:, :-1].all() == same[:, :-1].any() == (label == source.stills)
    assert not same[:, -1].any()


def test_without_attention_between_frames_they_are_images(frames):
    alone = network(f"video_unet({UNET}, time=False)")
    weights = jax.jit(alone.init)(jax.random.key(1), frames, jnp.zeros(2), {})
    assert not any("time" in name for name in weights["params"])

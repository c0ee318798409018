"""Vectors of a CLIP as data, and as what a network is told of images."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from linear_clip import SIZE, clip, with_linear_clip
from weights import drawn, moved

from diffusion_jax import registry, saved_config, testing
from diffusion_jax.data import vectors
from diffusion_jax.errors import ConfigError, DataError, UserError
from diffusion_jax.experiment import assembly, embeddings
from diffusion_jax.networks.layers.text import CrossAttention, read
from diffusion_jax.training import step
from diffusion_jax.training.cond_dropout import zeroed
from diffusion_jax.training.tasks.diffusion import make_recipe

TEXT = "bytes(length=40, width=8, depth=1, heads=2)"
SCENES = "scenes(objects=1, size=30)"
WIDE = "embeddings(checkpoint='runs/clip', of=scenes(objects=1, size=30))"


def run(tmp_path, **changes):
    settings = {"conditional": False, "text": TEXT, "guidance": "none()"} | changes
    return with_linear_clip(tiny.experiment(tmp_path, **settings))


def prior(tmp_path, **changes):
    return run(tmp_path, data=WIDE, network="prior(width=8, depth=1, heads=2, embed=8)",
               **changes)  # fmt: skip


def decoder(tmp_path, **changes):
    settings = {"data": SCENES, "embedding": "runs/clip",
                "network": "prior(width=8, depth=1, heads=2, embed=8)"}  # fmt: skip
    return run(tmp_path, **(settings | changes))


def test_levels_and_back_are_within_half_a_level():
    raw = np.random.default_rng(0).normal(2.0, [0.1, 1.0, 30.0], (5000, 3))
    scale = vectors.measured(raw)
    back = scale.raw(vectors.standard_of(scale.levels(raw)))
    off = np.abs(back - raw) / np.asarray(scale.std)
    inside = np.abs(scale.standard(raw)) <= vectors.SPAN
    assert off[inside].max() <= 0.047
    assert vectors.clipped(scale, raw) == pytest.approx(0.0027, abs=0.001)  # of a normal law
    np.testing.assert_array_equal(
        scale.levels(back), scale.levels(raw)
    )  # what has been on levels stays there


def test_the_way_on_the_sphere():
    a, b = np.random.default_rng(1).normal(size=(2, 40, 6)) * 7.0
    u, v = vectors.unit(a), vectors.unit(b)
    whole = np.arccos((u * v).sum(1))
    np.testing.assert_allclose(vectors.slerp(a, b, 0.0), u, atol=1e-12)
    np.testing.assert_allclose(vectors.slerp(a, b, 1.0), v, atol=1e-12)
    for theta in (0.1, 0.35, 0.8):
        found = vectors.slerp(a, b, theta)
        np.testing.assert_allclose(np.arccos((u * found).sum(1)), theta * whole, atol=1e-7)
        np.testing.assert_allclose(found, vectors.slerp(b, a, 1.0 - theta), atol=1e-12)
    np.testing.assert_allclose(vectors.slerp(a, 3.0 * a, 0.4), u, atol=1e-12)
    with pytest.raises(ValueError, match="opposite"):
        vectors.slerp(a, -a, 0.5)


def test_embeddings_are_data_as_any_other():
    source = testing.check("data", WIDE, open_clip=lambda _: clip((16, 16, 3), 17))
    train, test = source.split("train"), source.split("test")
    assert source.shape == (1, 1, SIZE) and source.levels == 64 and source.captioned
    images = registry.build("data", SCENES).split("test")
    assert test.captions.strings() == images.captions.strings()
    raw = clip((16, 16, 3), 17).images(images.images)
    own = clip((16, 16, 3), 17).images(registry.build("data", SCENES).split("train").images)
    standard = (raw - own.mean(0)) / own.std(0)
    np.testing.assert_allclose(
        vectors.standard_of(test.images), np.clip(standard, -3.0, 3.0), atol=0.048
    )
    assert abs(vectors.standard_of(train.images).mean()) < 0.05


def test_a_run_writes_down_what_it_knows_of_the_clip(tmp_path, capsys):
    one = prior(tmp_path, gamma_min=None)
    before = one.source.split("test").images
    assembly.settle(one)
    spec = registry.parse(one.config.data)
    assert spec.kwargs["sha256"] == "1" * 64 and len(spec.kwargs["mean"]) == SIZE
    assert "beyond 3 standard deviations" in capsys.readouterr().out
    np.testing.assert_array_equal(one.source.split("test").images, before)
    assert one.config.gamma_min == pytest.approx(-13.3 + 2 * np.log(256 / 64), abs=0.05)
    one.workdir.mkdir()
    (one.workdir / "config.json").write_text(one.config.to_json())
    again = prior(tmp_path, gamma_min=None)  # a run that goes on does not measure again
    assembly.settle(again)
    assert again.config.data == one.config.data
    assert not saved_config.differences(one.config, again.config)
    other = with_linear_clip(prior(tmp_path), digest="2" * 64)
    with pytest.raises(DataError, match=r"have changed since this run began \(22222222"):
        assembly.settle(other)


@pytest.mark.parametrize("field", ["data", "embedding"])
def test_a_clip_may_be_moved(tmp_path, field, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make = {"data": prior, "embedding": decoder}[field]
    one = make(tmp_path)
    assembly.settle(one)
    written = one.config[field]
    assert str(tmp_path / "runs" / "clip") in written  # from any folder
    one.workdir.mkdir(exist_ok=True)
    (one.workdir / "config.json").write_text(one.config.to_json())
    capsys.readouterr()

    def named(place, **changes):
        found = with_linear_clip(make(tmp_path), **changes)
        found.config[field] = found.config[field].replace("runs/clip", place)
        assembly.settle(found)
        return found.config

    there = named("elsewhere/clip")
    assert there[field] == written.replace(str(tmp_path / "runs"), str(tmp_path / "elsewhere"))
    assert "deviations" not in capsys.readouterr().out  # nothing was measured again
    assert not saved_config.differences(one.config, there)
    assert not saved_config.other_meaning(one.config, there)
    (line,) = saved_config.differences(one.config, named("other", digest="2" * 64))
    assert "22222222.." in line and "mean=" not in line


def test_a_clip_that_is_gone_is_asked_for_and_not_made_anew(tmp_path):
    one = decoder(tmp_path)
    assembly.settle(one)
    vars(one).pop("clip")
    with pytest.raises(ConfigError, match=r"there is no folder .* 11111111\.\.: give its new path"):
        embeddings.of(one)
    bare = decoder(tmp_path)
    vars(bare).pop("clip")
    with pytest.raises(ConfigError, match="--config=scenes_clip:clean --workdir=runs/clip makes"):
        embeddings.of(bare)


@pytest.mark.parametrize(
    ("make", "known", "message"),
    [(prior, {"levels": 9}, r"is for images of \(16, 16, 3\) with 9 levels, .*scenes_digits has"),
     (decoder, {"shape": (8, 8, 3)}, r"is for images of \(8, 8, 3\) with 17 levels"),
     (decoder, {"digest": "2" * 64}, "have changed since this run began")],
)  # fmt: skip
def test_another_clip_is_refused(tmp_path, make, known, message):
    found = make(tmp_path)
    if "digest" in known:
        assembly.settle(found)
    with pytest.raises(UserError, match=message):
        _ = assembly.settle(with_linear_clip(found, **known)), found.model


def test_data_of_a_clip_need_a_run():
    with pytest.raises(DataError, match="needs a run, which can open a CLIP"):
        registry.build("data", WIDE)


def test_a_decoder_is_told_of_every_image(tmp_path):
    found = decoder(tmp_path)
    rows = found.source.split("test").take(np.asarray([4, 1]))
    assert rows["embedding"].shape == (2, SIZE + 1) and (rows["embedding"][:, -1] == 1).all()
    _, cond = found.model.examples(jax.tree.map(jnp.asarray, rows))
    np.testing.assert_array_equal(cond["embedding"], rows["embedding"])
    none = found.model.null(cond)
    assert not none["embedding"].any() and not none["text"].any()
    assembly.check_call(found)


@pytest.mark.parametrize("text", [TEXT, ""])
def test_an_embedding_matters_and_none_is_zeros(tmp_path, text):
    found = decoder(tmp_path, text=text)
    model = found.model
    z = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))
    shapes = jax.eval_shape(lambda k: model.init(k, (16, 16, 3)), jax.random.key(0))
    params = moved(jax.tree.map(lambda a: jnp.zeros(a.shape), shapes), 0.2)
    run = jax.jit(lambda cond: model.denoiser(params)(z, jnp.zeros(2), cond).x)
    told = vectors.with_presence(np.random.default_rng(0).normal(size=(2, SIZE)))
    own, none = run({"embedding": told}), run({"embedding": 0.0 * told})
    other = run({"embedding": np.stack([told[1], told[1]])})
    assert np.abs(own - none).max() > 1e-3 and np.abs(own - other)[0].max() > 1e-3
    np.testing.assert_allclose(own[1], other[1], atol=1e-5)
    np.testing.assert_allclose(run({}), none, atol=1e-6)


class Tokens(nn.Module):
    """What attention sees."""

    @nn.compact
    def __call__(self, cond):
        text, _ = read(registry.build("text_encoders", TEXT), cond, 2)
        return CrossAttention(2, None)(jnp.ones((2, 1, 8)), text.tokens, text.bias)


def test_an_embedding_is_further_tokens_beside_those_of_the_text():
    told = jnp.asarray(vectors.with_presence(np.random.default_rng(0).normal(size=(2, SIZE))))
    shapes = jax.eval_shape(lambda k: Tokens().init(k, {"embedding": told}), jax.random.key(0))
    assert shapes["params"]["embedding"]["kernel"].shape == (SIZE + 1, 4 * 8)
    see = functools.partial(jax.jit(Tokens().apply), drawn(shapes, 0.5))
    own, none = see({"embedding": told}), see({"embedding": told * jnp.asarray([[0.0], [1.0]])})
    assert np.abs(own - none)[0].max() > 1e-3
    np.testing.assert_allclose(own[1], none[1], atol=1e-6)
    np.testing.assert_allclose(see({})[0], none[0], atol=1e-6)  # masked: as if they were not there


def test_training_hides_embeddings_by_themselves():
    told = jnp.ones((4000, 3))
    draw = jax.jit(lambda name: zeroed(jax.random.key(0), 3, "embedding_dropout", told, 0.1))
    kept = np.asarray(draw(0)).any(1)
    assert 0.08 < 1 - kept.mean() < 0.12
    text = np.asarray(zeroed(jax.random.key(0), 3, "text_dropout", told, 0.5)).any(1)
    assert np.mean(~kept & ~text) == pytest.approx(0.05, abs=0.012)


def test_training_hides_embeddings_as_often_as_the_settings_say(tmp_path):
    recipe, n = make_recipe(decoder(tmp_path, text="", embedding_dropout=0.4)), 4000
    batch = {"image": jnp.zeros((n, 1, 1, 3), jnp.uint8), "label": jnp.zeros(n, jnp.int32),
             "embedding": jnp.ones((n, SIZE + 1))}  # fmt: skip
    told = np.asarray(step.prepare(recipe, batch, jnp.asarray(0))[1]["embedding"])
    assert (~told.any(1)).mean() == pytest.approx(0.4, abs=0.03)


def test_networks_and_changes_of_images_that_do_not_fit(tmp_path):
    with pytest.raises(ConfigError, match="embeddings are of the original images"):
        embeddings.check_network(decoder(tmp_path, augment="crop(pad=1)"))
    blind = decoder(tmp_path, text="", network="standard_normal()")
    with pytest.raises(ConfigError, match=r"standard_normal\(\) does not read cond"):
        embeddings.check_network(blind)


def test_a_part_of_a_split_keeps_what_is_told(tmp_path):
    from diffusion_jax.data.subset import part

    split = decoder(tmp_path).source.split("test")
    some = part(split, np.asarray([5, 2]))
    np.testing.assert_array_equal(some.embedding, split.embedding[[5, 2]])
    assert dataclasses.replace(split).embedding is split.embedding

"""Stages of a cascade with different conditions: each gets its own, all of the same images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from diffusion_jax import registry
from diffusion_jax.cli.modes import _edit_inputs, _known, _records
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import assembly, cascade
from diffusion_jax.experiment.sampling import run_sampler

BYTES = "bytes(length=10, width=8, depth=1, heads=2)"
WORDS = "words(length=4, width=8, depth=1, heads=2)"
READS = "dit(width=8, depth=1, heads=1, patch=1)"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.captioned(tmp_path_factory.mktemp("captioned"))


def stages(folder, data, low, high, **asked):
    """A cascade of two runs of which nothing is there but settings: what each has beside others."""
    names = []
    for name, view, own in (("low", "low()", low), ("high", "high()", high)):
        (folder / name).mkdir(exist_ok=True)
        c = tiny.config(folder, data=data, view=view, guidance="none()", network=READS, **own)
        (folder / name / "config.json").write_text(c.to_json())
        names.append(str(folder / name))
    c = tiny.config(folder, data=data, stages=",".join(names), guidance="none()", **high)
    c.sample.update(asked)
    return cascade.joined(tiny.Experiment(c, folder / "both"))


def weights(run):
    """Some for every stage, under which all that a network is told matters."""

    @jax.jit
    def made(key):
        found = [s.model.init(key, s.source.shape) for s in run.stages]
        return jax.tree.map(lambda a: a + 0.05, found)

    return made(jax.random.key(0))


@pytest.mark.parametrize(
    ("low", "high"),
    [({"text": BYTES}, {}), ({"text": BYTES}, {"text": WORDS}), ({}, {"text": BYTES})],
)
def test_a_stage_is_told_what_its_run_alone_is(tmp_path, data, low, high):
    """Of the same images, so that its bits are those of the run."""
    both = stages(tmp_path, data, low, high)
    for stage, own in zip(both.stages, (low, high), strict=True):
        alone = tiny.experiment(tmp_path, data=data, network=READS, **own)
        assembly.settle(alone)
        rows = (s.split("test").take(np.arange(5)) for s in (stage.source, alone.source))
        found, wanted = (stage.model.examples(jax.tree.map(jnp.asarray, r))[1] for r in rows)
        assert {"text"} & found.keys() == {"text"} & own.keys()
        for name in {"label", "text"} & wanted.keys():
            np.testing.assert_array_equal(found[name], wanted[name])


def test_what_a_cascade_is_given_is_that_of_all_its_stages(tmp_path, data):
    both = stages(tmp_path, data, {"text": BYTES}, {})
    assert _records.given(both) == "class and the text"
    assert [_records.given(s) for s in both.stages] == ["class and the text", "class"]
    vars(both)["source"] = tiny.Experiment(both.config, both.workdir).source
    assert _known.record(both, np.ones(3)) is None


@pytest.mark.parametrize("reader", ["low", "high"])
def test_all_stages_draw_the_same_classes_and_the_captions_of_the_same_images(
    tmp_path, data, reader
):
    told = [{"text": BYTES} if reader == name else {} for name in ("low", "high")]
    both = stages(tmp_path, data, *told)
    made = run_sampler.compiled(both, weights(both))
    test = both.source.split("test")
    first, second = made.parts
    assert first.labels.tolist() == second.labels.tolist() == test.labels[:6].tolist()
    assert [*made.captions] == test.captions.strings()[:6]
    assert {bool(p.captions) for p in made.parts} == {True, False}


def test_prompts_go_to_the_stages_that_read(tmp_path, data):
    both = stages(tmp_path, data, {"text": BYTES}, {}, captions=("a red",), num=2)
    run_sampler.check(both)
    made = run_sampler.compiled(both, weights(both))
    assert [p.captions for p in made.parts] == [("a red", "a red"), ()]
    assert made.captions == ("a red", "a red") and made.labels.tolist() == [0, 1]
    with pytest.raises(ConfigError, match="trained without text"):
        run_sampler.check(stages(tmp_path, data, {}, {}, captions=("a red",)))
    with pytest.raises(ConfigError, match="not conditioned on CLIP embeddings"):
        run_sampler.check(stages(tmp_path, data, {}, {}, prior="split:test"))


def test_an_edit_tells_each_stage_its_own(tmp_path, data):
    both = stages(tmp_path, data, {"text": BYTES}, {"text": WORDS}, captions=("a red",))
    both.config.edit.image, both.config.edit.pick = "split:test", (0, 1)
    low, high = _edit_inputs.read(both, registry.build("edits", "sdedit()"))
    assert (low.cond["text"].shape, high.cond["text"].shape) == ((2, 10), (2, 4))
    assert low.cond["label"].tolist() == high.cond["label"].tolist()
    np.testing.assert_array_equal(low.images, high.images)

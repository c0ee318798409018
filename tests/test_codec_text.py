"""The codec and models of texts: files hold none, and say so."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
import tiny
from test_inform import run

from diffusion_jax.compression import header
from diffusion_jax.compression.files import Images
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import codec


def coder(text, embedding, null=None, classes=0):
    model = SimpleNamespace(text=text, embedding=embedding)
    chain = SimpleNamespace(network=SimpleNamespace(model=model))
    return SimpleNamespace(chains=(chain,), null=null, classes=classes)


@pytest.mark.parametrize(
    ("of", "kind"),
    [((None, 0), "none"), ((None, 0, 3, 3), "coded"), ((None, 0, 3), "null class"),
     (("bytes", 0), "null text"), ((None, 5), "null vector"),
     (("bytes", 5), "null text and vector"), (("bytes", 0, 3, 3), "coded, null text")],
)  # fmt: skip
def test_the_header_says_what_the_network_was_not_told(of, kind):
    assert codec.label_kind(coder(*of)) == kind
    assert kind in header.LABELS


def test_a_model_that_always_had_its_text_does_not_code_without(tmp_path):
    images = Images("x", np.zeros((1, 16, 16, 3), np.uint8), None)
    assert codec.labels_of(run(tmp_path), images) is None
    with pytest.raises(
        ConfigError, match="coding without texts, which are not stored in files"
    ) as e:
        codec.labels_of(run(tmp_path, text_dropout=0.0), images)
    assert "text_dropout" in str(e.value) and "\n" not in str(e.value)


def test_a_model_that_reads_texts_otherwise_is_another(tmp_path):
    first, second = (run(tmp_path, text=f"bytes(length={n})") for n in (80, 90))
    weights = {"w": np.zeros(2, np.float32)}
    assert codec.fingerprint(first, weights) == codec.fingerprint(
        run(tmp_path, text="bytes(length=80)"), weights
    )
    assert codec.fingerprint(first, weights) != codec.fingerprint(second, weights)


def test_texts_come_back_whose_vectors_need_more_states_than_their_letters(tmp_path):
    """48 values of latents, 12 letters: a state of the stack has 32."""
    run = tiny.experiment(
        tmp_path, data="letters(alphabet='abcd', length=12, size=40)", conditional=False,
        autoencoder="embedding(dims=4)", prediction="levels", gamma_min=-4.0, guidance="none()",
        network="sequence(width=8, depth=1, heads=2, embed=8)",
    )  # fmt: skip
    run.config.compress.timesteps = 2
    texts = run.source.split("test").images[:3]
    params = jax.jit(lambda key: run.model.init(key, run.source.shape))(jax.random.key(0))
    made = codec.encode(run, params, {"step": 0, "weights": "new"}, Images("x", texts, None))
    back, _ = codec.decode(run, params, made.data, "x")
    assert np.array_equal(back.images, texts)

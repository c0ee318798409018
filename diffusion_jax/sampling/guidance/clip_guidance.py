"""CLIP guidance: by how alike a noisy image and a text are (Nichol et al. 2022, "GLIDE", 3.2).

With two encoders trained on noisy images and captions (`configs/scenes_clip.py`,
`configs/digits_clip.py`), `logit = s f(z, gamma).g(text) + b`, the score gets `scale` times the
gradient of one of

* `"bank"`: `log softmax_k(logit_k + log share_k)` of the text among known captions, a normalised
  posterior: with exact encoders and scale 1 this is Bayes' rule, if captions exclude one another;
* `"logit"`: the logit itself, as GLIDE: it never stops pulling, and samples go beyond the data;
* `"true"`: `log sigmoid(logit)`, whether the text is true, which says nothing once it is.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from diffusion_jax.allowed import Finite
from diffusion_jax.errors import ConfigError
from diffusion_jax.networks.text_encoders.base import described
from diffusion_jax.sampling.guidance.base import (
    Context,
    Guidance,
    Wrapper,
    apply,
    follow,
    need_open,
    need_text,
)
from diffusion_jax.types import Array, Cond, Denoiser

FORMS = ("bank", "logit", "true")
_SAME = 1.0 - 1e-5  # cosine of a text and a caption of the bank that are one


@dataclass(frozen=True)
class ClipGuidance(Wrapper):
    """Guidance by a text and a checkpoint of two encoders."""

    checkpoint: str
    text: str | None
    scale: float
    inner: Guidance | None
    form: str = "bank"
    bank: tuple[str, ...] = ()

    def check(self, context: Context) -> None:
        """Needs the checkpoint, and somebody who says what the images should show."""
        super().check(context)
        clip = need_open("clip", context, self.checkpoint)
        if self.text is not None:
            return
        if context.reader is None:
            raise ConfigError(
                "clip_guidance: this model reads no captions, so that samples have none of their "
                "own: give one, text='...'"
            )
        theirs = getattr(clip, "reader", None)
        if theirs != context.reader:
            raise ConfigError(
                f"clip_guidance: {self.checkpoint} reads texts in another way than this model "
                f"({described(theirs)}, not {described(context.reader)}): give one, text='...', or "
                "train it with this model's config.text"
            )

    def __call__(self, denoiser: Denoiser, context: Context) -> Denoiser:
        """The guided denoiser."""
        clip = need_open("clip", context, self.checkpoint)
        inner = apply(self.inner, denoiser, context)
        if self.form == "true" and self.text is not None:

            def log_true(z: Array, gamma: Array, cond: Cond) -> Array:
                return clip(z, gamma, {**cond, "text": self.text})

            return follow(inner, log_true, self.scale)

        asked = None if self.text is None else clip.condition(self.text)
        named = None if asked is None else clip.texts(asked)
        among = self._among(clip) if self.form == "bank" else None

        def log_prob(z: Array, gamma: Array, cond: Cond) -> Array:
            if asked is None:
                need_text("clip_guidance", cond)
            told = _text(cond) if asked is None else asked
            g = clip.texts(told) if named is None else named
            g = jnp.broadcast_to(g, (z.shape[0], g.shape[1]))
            own = clip.logits(z, gamma, g[..., None])[:, 0]
            if self.form == "true":
                own = jax.nn.log_sigmoid(own)
            elif among is not None:
                bank, share = among
                own = log_posterior(own, clip.logits(z, gamma, bank), share, g @ bank.T > _SAME)
            text = told["text"]
            said = (text != 0).any(tuple(range(1, text.ndim)))  # the null text asks for nothing
            return jnp.where(said, own, 0.0)

        return follow(inner, log_prob, self.scale)

    def _among(self, clip: Any) -> tuple[Array, Array]:
        """The captions that a text is told from, and the logs of their shares."""
        if not self.bank:
            return clip.bank()
        g = jnp.concatenate([clip.texts(clip.condition(text)) for text in self.bank])
        return g, jnp.full(len(g), -jnp.log(len(g)))


def _text(cond: Cond) -> Cond:
    return {k: cond[k] for k in ("text", "text_weight") if k in cond}


def log_posterior(own: Array, among: Array, log_share: Array, same: Array) -> Array:
    """Log-probability of each image's text among known captions, `[B]`.

    A text that is not among them is one more, with the mean share.

    Args:
        own: logits of each image's text, `[B]`, up to a constant `log p(z | text)`.
        among: of the known captions, `[B, K]`.
        log_share: how often each is, `[K]`.
        same: which of the captions are the text, `[B, K]`.
    """
    none = ~same.any(1)
    shares = jax.nn.logsumexp(jnp.where(same, log_share, -jnp.inf), axis=1)
    mine = own + jnp.where(none, -jnp.log(among.shape[1]), shares)
    rest = jnp.where(same, -jnp.inf, among + log_share)
    return mine - jax.nn.logsumexp(jnp.concatenate([mine[:, None], rest], axis=1), axis=1)


def make(
    checkpoint: str,
    text: str | None = None,
    scale: Finite = 1.0,
    inner: Guidance | None = None,
    form: str = "bank",
    bank: tuple[str, ...] = (),
) -> ClipGuidance:
    """Guidance towards a text.

    Args:
        checkpoint: the two encoders: a work directory or checkpoint folder.
        text: what the image should show, in the words they were trained on; None: each sample's own
            caption.
        scale: the weight.
        inner: guidance below it, `cfg(w=0.0)` for the unconditional prediction of a model that
            also knows classes or captions.
        form: `"bank"`, `"logit"` (GLIDE's) or `"true"`; see the module's text.
        bank: for `"bank"`, what else an image could show; empty: the captions of training. They
            should exclude one another, as should `text`: a caption that leaves something out is not
            an alternative to one that says it.

    Returns:
        The guidance. Applying it where checkpoints cannot be read raises `ConfigError`.

    Raises:
        ConfigError: there is no such form, or a bank for another.
    """
    if form not in FORMS:
        raise ConfigError(f"clip_guidance: form={form!r}; allowed are {', '.join(FORMS)}")
    texts = (bank,) if isinstance(bank, str) else tuple(bank)
    if texts and form != "bank":
        raise ConfigError(f"clip_guidance: bank={texts!r} is for form='bank', not {form!r}")
    if text == "" or "" in texts:
        raise ConfigError("clip_guidance: an empty text asks for nothing; leave it out")
    return ClipGuidance(checkpoint, text, float(scale), inner, form, texts)

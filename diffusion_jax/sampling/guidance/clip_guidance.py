"""CLIP guidance: by the similarity of a noisy image and a text (Nichol et al. 2022, "GLIDE", 3.2).

Two encoders trained on noisy images and captions (`configs/scenes_clip.py`,
`configs/digits_clip.py`) give `logit = s f(z, gamma).g(text) + b`. The gradient of one of these
functions, times `scale`, is added to the score:

* `"bank"`: `log softmax_k(logit_k + log share_k)` of the text among known captions, a normalised
  posterior; with exact encoders, scale 1 and mutually exclusive captions this is Bayes' rule;
* `"logit"`: the logit itself, as in GLIDE; its gradient never vanishes, so samples overshoot the
  data;
* `"true"`: `log sigmoid(logit)`, the probability that the text is true; its gradient vanishes once
  the text is satisfied.
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
_SAME = 1.0 - 1e-5  # a text and a caption of the bank with a larger cosine are the same


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
        """Checks that the checkpoint can be opened and that every image has a text."""
        super().check(context)
        clip = need_open("clip", context, self.checkpoint)
        if self.text is not None:
            return
        if context.reader is None:
            raise ConfigError(
                "clip_guidance: this model takes no captions, so its samples have none to follow: "
                "give a text, text='...'"
            )
        clip_reader = getattr(clip, "reader", None)
        if clip_reader != context.reader:
            raise ConfigError(
                f"clip_guidance: {self.checkpoint} encodes texts differently from this model "
                f"({described(clip_reader)}, not {described(context.reader)}): give a text, "
                "text='...', or train the CLIP with this model's config.text"
            )

    def __call__(self, denoiser: Denoiser, context: Context) -> Denoiser:
        """The guided denoiser."""
        clip = need_open("clip", context, self.checkpoint)
        inner = apply(self.inner, denoiser, context)
        if self.form == "true" and self.text is not None:

            def log_true(z: Array, gamma: Array, cond: Cond) -> Array:
                return clip(z, gamma, {**cond, "text": self.text})

            return follow(inner, log_true, self.scale)

        fixed = None if self.text is None else clip.condition(self.text)
        fixed_vectors = None if fixed is None else clip.texts(fixed)
        bank = self._bank(clip) if self.form == "bank" else None

        def log_prob(z: Array, gamma: Array, cond: Cond) -> Array:
            if fixed is None:
                need_text("clip_guidance", cond)
            condition = _text(cond) if fixed is None else fixed
            g = clip.texts(condition) if fixed_vectors is None else fixed_vectors
            g = jnp.broadcast_to(g, (z.shape[0], g.shape[1]))
            result = clip.logits(z, gamma, g[..., None])[:, 0]
            if self.form == "true":
                result = jax.nn.log_sigmoid(result)
            elif bank is not None:
                captions, share = bank
                same = g @ captions.T > _SAME
                result = log_posterior(result, clip.logits(z, gamma, captions), share, same)
            text = condition["text"]
            has_text = (text != 0).any(tuple(range(1, text.ndim)))  # no guidance by the null text
            return jnp.where(has_text, result, 0.0)

        return follow(inner, log_prob, self.scale)

    def _bank(self, clip: Any) -> tuple[Array, Array]:
        """The vectors of the alternative captions, and the logs of their shares."""
        if not self.bank:
            return clip.bank()
        g = jnp.concatenate([clip.texts(clip.condition(text)) for text in self.bank])
        return g, jnp.full(len(g), -jnp.log(len(g)))


def _text(cond: Cond) -> Cond:
    return {k: cond[k] for k in ("text", "text_weight") if k in cond}


def log_posterior(logit: Array, bank: Array, log_share: Array, same: Array) -> Array:
    """Log-probability of each image's text among known captions, `[B]`.

    A text that is not among them is added, with the mean share.

    Args:
        logit: logits of each image's text, `[B]`; up to a constant, `log p(z | text)`.
        bank: logits of the known captions, `[B, K]`.
        log_share: log of each caption's share, `[K]`.
        same: which of the captions equal the text, `[B, K]`.
    """
    shares = jax.nn.logsumexp(jnp.where(same, log_share, -jnp.inf), axis=1)
    joint = logit + jnp.where(same.any(1), shares, -jnp.log(bank.shape[1]))
    rest = jnp.where(same, -jnp.inf, bank + log_share)
    return joint - jax.nn.logsumexp(jnp.concatenate([joint[:, None], rest], axis=1), axis=1)


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
        checkpoint: the two encoders, a work directory or checkpoint folder.
        text: what the image should show, in the words the encoders were trained on; None for each
            sample's own caption.
        scale: the weight.
        inner: guidance applied first, `cfg(w=0.0)` for the unconditional prediction of a model that
            also takes classes or captions.
        form: `"bank"`, `"logit"` (GLIDE's) or `"true"`; see the module's docstring.
        bank: for `"bank"`, the alternatives to `text`; empty for the captions of training. They and
            `text` should exclude one another: a caption that merely leaves something out is not an
            alternative to one that says it.

    Returns:
        The guidance. Applying it where checkpoints cannot be read raises `ConfigError`.

    Raises:
        ConfigError: the form is unknown, a bank is given for another form, or a text is empty.
    """
    if form not in FORMS:
        raise ConfigError(f"clip_guidance: form={form!r}; allowed: {', '.join(FORMS)}")
    texts = (bank,) if isinstance(bank, str) else tuple(bank)
    if texts and form != "bank":
        raise ConfigError(f"clip_guidance: bank={texts!r} is for form='bank', not {form!r}")
    if text == "" or "" in texts:
        raise ConfigError("clip_guidance: an empty text gives no guidance; leave it out")
    return ClipGuidance(checkpoint, text, float(scale), inner, form, texts)

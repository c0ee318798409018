"""Captions in a run: encoding those of the data, and the prompts of samples."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from diffusion_jax import registry
from diffusion_jax.data.augment.base import makes
from diffusion_jax.data.base import Source, Split
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import embeddings
from diffusion_jax.networks.text_encoders.base import (
    TextEncoder,
    as_read,
    encode,
    escaped,
    prompts,
)
from diffusion_jax.runtime.storage import place

if TYPE_CHECKING:
    from diffusion_jax.experiment import Experiment


def encoder(run: "Experiment") -> TextEncoder | None:
    """The text encoder; None for a run without captions."""
    return registry.build("text_encoders", run.config.text) if run.config.text else None


def source(run: "Experiment", data: Source | None = None) -> Source:
    """The data set, or `data`, with captions encoded by the text encoder."""
    found, reader = embeddings.source(run, data or run.data), run.text
    if reader is None:
        return found
    _need_captions(run, found)

    def load(name: str) -> Split:
        split = found.split(name)
        assert split.captions is not None
        try:
            encoded = split.captions.encoded(lambda texts: as_read(reader, encode(reader, texts)))
        except ConfigError as e:
            raise ConfigError(f"captions of {found.name}: {_worst(reader, found) or e}") from e
        return dataclasses.replace(split, captions=encoded)

    return dataclasses.replace(found, load=load)


def _worst(reader: TextEncoder, found: Source) -> ConfigError | None:
    """The error of encoding all captions at once, which is that of the longest in any split."""
    tables = (found.split(name).captions for name in ("train", "valid", "test"))
    try:
        encode(reader, [text for captions in tables if captions for text in captions.table])
    except ConfigError as e:
        return e
    return None


def _need_captions(run: "Experiment", found: Source) -> None:
    if not found.captioned:
        who = f"text={_short(run)}" if run.text else f"sample.prior={run.config.sample.prior!r}"
        raise ConfigError(
            f"{who}, but {found.name} has no captions: use scenes(), class_captions(...) of a data "
            "set with classes, or folder(captions='txt')"
        )


def _short(run: "Experiment") -> str:
    """The text encoder of the settings, without its vocabulary."""
    spec = registry.parse(run.config.text)
    known = {k: v for k, v in spec.kwargs.items() if k != "known"}
    return repr(str(registry.Spec(spec.name, spec.args, known)))


def settle(run: "Experiment") -> None:
    """Fills in what a text encoder learns from the training captions, such as a vocabulary."""
    c, reader = run.config, run.text
    if reader is None or not run.data.captioned:
        return
    if reader.settled(()) != reader.settled(("a", "b")):  # the encoder depends on the captions
        captions = run.data.split("train").captions
        assert captions is not None
        values = dataclasses.asdict(reader.settled(captions.table))  # pyright: ignore[reportArgumentType]
        c.text = str(registry.Spec(registry.parse(c.text).name, (), values))
        vars(run).pop("text")


def check(run: "Experiment", network: Any) -> None:
    """Raises ConfigError for networks and augmentations that are incompatible with captions."""
    c = run.config
    if run.text is None:
        return
    if getattr(network, "text", None) is None:
        raise ConfigError(
            f"text={_short(run)}, but network {c.network} cannot read text: its make() must accept "
            f"`text`, as those of {', '.join(_reading())} do"
        )
    if not run.source.mirrors and (made := makes(run.augment)):
        raise ConfigError(
            f"augment {c.augment} makes {made}, for which the captions of {run.source.name} would "
            "be wrong, because they mention places or colours; use augment='none()'"
        )


def _reading() -> list[str]:
    """The names of the networks that can read text."""
    plugins = registry.describe("backbones")[1]
    return [p.name for p in plugins if any(a.partition("=")[0] == "text" for a in p.arguments)]


def asks(run: "Experiment") -> bool:
    """Whether the settings give prompts for samples."""
    c = run.config.sample
    return bool(c.captions or c.prompts or c.captions_of)


def wanted(run: "Experiment", num: int, heard: bool = False, split: str = "") -> list[str]:
    """The prompt of each of `num` samples: those of the settings in turn, else captions of a split.

    Args:
        run: the run.
        num: number of prompts.
        heard: whether the prompts are read by a prior, not by this run's network.
        split: split of the data; by default that of `config.eval`.

    Raises:
        ConfigError: prompts for a run without text, invalid prompts, or data without captions.
    """
    c = run.config.sample
    asked = [*([c.captions] if isinstance(c.captions, str) else c.captions), *_lines(c.prompts)]
    invalid = [a for a in asked if not isinstance(a, str)]
    if invalid:
        raise ConfigError(
            f"sample.captions: {invalid[0]!r} is not a text; write \"('a text', ...)\""
        )
    if not all(a.strip() for a in asked):
        raise ConfigError(
            "sample.captions: empty prompts do not occur in training; for samples without text "
            "set --config.guidance='cfg(w=0.0)'"
        )
    if asked and c.captions_of:
        raise ConfigError(
            f"sample.captions_of={c.captions_of!r} and sample.captions (or prompts) are both "
            "asked for: leave one out"
        )
    if run.text is None and not heard:
        if asked:
            raise ConfigError(
                f"sample.captions={asked[0]!r}: this run was trained without text; train with "
                "--config.text='bytes()'"
            )
        return []
    if c.labels and not run.model.num_classes:
        raise ConfigError(f"sample.labels={c.labels}: this run takes sample.captions, not labels")
    if not asked:
        data = embeddings.data(run, c.captions_of) if c.captions_of else run.data
        _need_captions(run, data)
        captions = data.split(split or run.config.eval.split).captions
        assert captions is not None
        asked = [escaped(t) for t in captions.part(slice(num)).strings()]
    return [asked[i % len(asked)] for i in range(num)]


def nothing(run: "Experiment", count: int) -> dict[str, np.ndarray]:
    """The condition for images without a text."""
    if run.text is None:
        return {}
    return {"text": as_read(run.text, np.zeros((count, run.text.length), np.int32))}


def _lines(file: str) -> list[str]:
    """The prompts in a text file, one a line."""
    if not file:
        return []
    try:
        text = place(file).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as e:
        raise ConfigError(f"sample.prompts={file!r} is not UTF-8 text ({e.reason})") from e
    except OSError as e:
        raise ConfigError(f"sample.prompts={file!r} cannot be read: {e.strerror}") from e
    found = [line.strip() for line in text.splitlines() if line.strip()]
    if not found:
        raise ConfigError(f"sample.prompts={file!r} has no line of text")
    return found


def conditions(run: "Experiment", texts: list[str]) -> dict[str, np.ndarray]:
    """The condition for prompts: `"text"` int32 `[N, L]`, and weights if there are any.

    Raises:
        ConfigError: a prompt is too long, has unknown words or brackets that do not close.
    """
    if run.text is None:
        return {}
    read = prompts(run.text, texts)
    cond = {"text": as_read(run.text, read.ids)}
    return cond if (read.weight == 1.0).all() else {**cond, "text_weight": read.weight}


def reader(run: "Experiment") -> Callable[[str], dict[str, np.ndarray]] | None:
    """The function by which guidance encodes its own texts; None for a run without text."""
    return (lambda text: conditions(run, [text])) if run.text else None


def check_same(run: "Experiment", other: "Experiment", name: str) -> None:
    """Raises ConfigError if a second model, called `name`, has another text encoder."""
    if other.text != run.text:
        raise ConfigError(f"{name} has text={other.config.text!r}, this model {run.config.text!r}")


def check_alike(run: "Experiment", other: "Experiment", name: str) -> None:
    """Like `check_same`, ignoring vocabularies learned from the training captions."""
    mine, theirs = (_short(r) if r.config.text else "''" for r in (run, other))
    if mine != theirs:
        raise ConfigError(
            f"{name} has text={theirs}, this model {mine}: give a run with the same --config.text"
        )

"""Mutual information of the captions and the images of a run, for `--mode=inform`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffusion_jax.data import hard_negatives
from diffusion_jax.data.base import Split
from diffusion_jax.data.captions import Captions
from diffusion_jax.data.datasets import class_captions
from diffusion_jax.data.passes import count
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import Experiment, embeddings, texts
from diffusion_jax.experiment.measures import (
    bits_per_dim,
    bits_per_word as words_lib,
    data_processing,
    embedding_information,
    null_of_another,
)
from diffusion_jax.likelihood import bpd, information as lib
from diffusion_jax.networks.text_encoders.base import as_read, encode
from diffusion_jax.types import Params

Texts = Sequence[str | None]


@dataclass(frozen=True)
class Informed:
    """The result of a measurement.

    Attributes:
        result: JSON-able; all values in bits per image.
        captions: captions of the images.
        steps: names of the maps: the whole text, then each step of the chain of words.
        maps: bits of each pixel, `[N, 1 + steps, H, W]`.
        bits: bits of each image, `[N]`, from the difference of bounds.
    """

    result: dict[str, Any]
    captions: Captions
    steps: tuple[str, ...]
    maps: np.ndarray
    bits: np.ndarray


def images(run: Experiment) -> tuple[Split, Captions]:
    """The images of `config.eval`, with captions (for a model of classes, the class names).

    `config.inform.data` may name other data of the same shape.

    Raises:
        ConfigError: the model is conditioned on neither texts nor classes.
    """
    c, model = run.config.eval, run.model
    if not model.text and not model.num_classes:
        raise ConfigError(
            "--mode=inform measures what a text says about an image, but this run was trained "
            "without; train with --config.text='bytes()', or --config.conditional=True"
        )
    data = run.data
    if run.config.inform.data:
        data = embeddings.data(run, run.config.inform.data)
        if (data.shape, data.levels) != (run.data.shape, run.data.levels):
            raise ConfigError(
                f"inform.data={run.config.inform.data!r}: images are {data.shape} with "
                f"{data.levels} levels, those of this run {run.data.shape} with {run.data.levels}"
            )
    source = texts.source(run, data)
    source = source if model.text else class_captions.make(source)
    split = source.split(c.split)
    assert split.captions is not None
    return split, split.captions.part(slice(count(split, c.limit)))


def class_names(run: Experiment) -> tuple[str, ...]:
    """The names of the classes in captions."""
    captions = class_captions.make(run.data).split(run.config.eval.split).captions
    assert captions is not None
    return captions.table


def conditions(
    run: Experiment, asked: Sequence[Texts], table: Sequence[str]
) -> dict[str, lib.Chosen]:
    """The conditions for M texts of each of N images, `[M][N]`; None is no text.

    Args:
        run: the run.
        asked: the texts.
        table: the class names, for a model of classes.

    Returns:
        `"text"` int32 `[N, M, length]` (or states), or `"label"` int32 `[N, M]`, to be looked up.

    Raises:
        ConfigError: a text is too long, or has unknown words.
    """
    distinct = dict.fromkeys(t for column in asked for t in column if t is not None)
    number: dict[str | None, int] = {None: 0} | {t: i for i, t in enumerate(distinct, 1)}
    index = np.asarray([[number[t] for t in column] for column in asked]).T
    if run.text is not None:
        ids = encode(run.text, list(distinct))
        read = as_read(run.text, np.concatenate([np.zeros_like(ids[:1]), ids]))
        return {"text": lib.Chosen(read, index)}
    classes = {t: k for k, t in enumerate(table)}
    labels = [run.model.num_classes, *(classes[t] for t in distinct)]
    return {"label": lib.Chosen(np.asarray(labels, np.int32), index)}


def measured(run: Experiment, params: Params) -> Informed:
    """Measures everything that `config.inform` selects.

    All texts of the second pass are columns of one array; `_split` returns those of each group.
    """
    c, (split, captions) = run.config.inform, images(run)
    notes: list[str] = []
    parts = _parts(run, captions, notes)
    chain = [parts.texts(s) for s in parts.chain] if parts else [captions.strings()]
    nothing: list[Texts] = [[None] * len(captions)]

    held = hard_negatives.candidates(captions, c.candidates, run.config.eval.seed)
    wrong = hard_negatives.wrong(captions, c.negatives, run.config.eval.seed)

    def pass_over(asked: Sequence[Texts], maps: bool, label: str) -> lib.Measured:
        return _pass(run, params, split, conditions(run, asked, captions.table), maps, label)

    first = pass_over([*nothing, *chain], True, "with and without text")
    assert first.maps is not None
    null, own = first.nats[..., 0], first.nats[..., -1]
    columns: dict[str, list[Texts]] = {"candidates": [*held.texts]}
    columns |= {f"wrong {k}": [[t or None for t in v] for v in lists] for k, lists in wrong.items()}
    if captions.again is not None and captions.attributes is not None:
        columns["again"] = [[captions.again(v) for v in captions.attributes.tolist()]]
    if parts:
        columns |= {f"said {s}": [parts.texts(s)] for s in parts.more}
    flat = [t for group in columns.values() for t in group]
    nats = _split(pass_over(flat, False, "with other texts").nats, columns)

    bits, orth = lib.apart(null, own), lib.mean_se(first.maps[:, 0].sum((1, 2)) / math.log(2.0))
    among, entropy = nats["candidates"], captions.entropy()
    rows = np.arange(len(captions))
    by_caption = np.swapaxes(among, 1, 2)
    # From the same pass as the other texts, so that equal texts give identical values.
    same, shuffled = by_caption[rows, held.true], by_caption[rows, held.other]
    result: dict[str, Any] = {
        "images": len(captions), "draws_per_image": run.config.eval.draws,
        "information": bits, "i_orth": orth, "gauge": bits["bits"] - orth["bits"],
        "entropy": entropy,
        "bits_per_dim": _bound(run, params, split),
        "shuffled_above_null": lib.bits(shuffled - same - (null - own)),
        "retrieval": lib.retrieval(among, held.true),
    }  # fmt: skip
    where = _where(captions, first.maps.shape[2:])
    if where is not None:
        result["in_place"] = lib.inside(first.maps[:, 0], where)
    if held.probability is not None:
        result["mixture"] = lib.mixture(among, held.probability, held.true)
    if parts:
        result["words"] = words_lib.in_order(parts, first.nats)
    if parts and c.orders:
        sets = {s: first.nats[..., k + 1] for k, s in enumerate(parts.chain)}
        sets = {(): null} | sets | {s: nats[f"said {s}"][..., 0] for s in parts.more}
        result["words_averaged"] = words_lib.averaged(parts, sets.__getitem__)
    result["negatives"] = {k: _against(same, nats[f"wrong {k}"], v) for k, v in wrong.items()}
    if "again" in nats:
        result["paraphrase"] = lib.bits(nats["again"][..., 0] - same)
    if run.model.embedding:
        result["embedding"] = embedding_information.measured(run, params, split, len(captions))
    if c.against:
        result["against"] = null_of_another.compared(run, params, split, bits)
    if c.of:
        result["processed"] = _processed(run, captions, null - own, held, among)
    steps = [w["word"] for w in result["words"]] if parts else []
    return Informed(
        result | {"notes": notes}, captions, ("all", *steps),
        first.maps[:, : 1 + len(steps)] / math.log(2.0), (null - own).mean(1) / math.log(2.0),
    )  # fmt: skip


def _pass(
    run: Experiment,
    params: Params,
    split: Split,
    cond: dict[str, lib.Chosen],
    maps: bool,
    label: str,
) -> lib.Measured:
    return lib.measure(
        run.model, params, split, bits_per_dim.over(run), cond,
        draws=run.config.eval.draws, maps=maps, label=label,
    )  # fmt: skip


def _where(captions: Captions, shape: tuple[int, ...]) -> np.ndarray | None:
    """The part of each image that its text describes, bool `[N, H, W]`; None if unknown."""
    if captions.where is None or captions.attributes is None:
        return None
    masks = np.stack([captions.where(values) for values in captions.attributes.tolist()])
    return masks if masks.shape[1:] == shape else None  # maps may be of latents


def _processed(
    run: Experiment,
    captions: Captions,
    vector: np.ndarray,
    held: hard_negatives.Candidates,
    among: np.ndarray,
) -> dict[str, Any]:
    """Compares with the information about the images themselves, from `config.inform.of`."""
    other, split = data_processing.opened(run, captions)
    every = [] if held.probability is None else [*held.texts]
    cond = conditions(other, [[None] * len(captions), captions.strings(), *every], ())
    found = _pass(other, other.weights()[0], split, cond, False, f"{run.config.inform.of}: images")
    null, own, theirs = found.nats[..., 0], found.nats[..., 1], found.nats[..., 2:]
    out = {"run": run.config.inform.of, **data_processing.compared(vector, null - own)}
    if held.probability is not None:
        both = (lib.lift(nats, held.probability, held.true) for nats in (among, theirs))
        out["mixture"] = data_processing.compared_mixtures(*both)
    return out


def _bound(run: Experiment, params: Params, split: Split) -> dict[str, float]:
    """The whole bound given the text, in bits/dim."""
    return bpd.mean_se(bits_per_dim.bound(run, params, split=split).per_image()["total"])


def _parts(run: Experiment, captions: Captions, notes: list[str]) -> words_lib.Words | None:
    """Captions by parts; None if that is impossible, with the reason in `notes`."""
    if not run.config.inform.words:
        return None
    if captions.attributes is None and not run.config.inform.orders:
        notes.append("bits of each word: these captions have no known parts")
        return None
    found = words_lib.parts(captions, run.config.inform.orders)
    always = _never_left_out(run, captions, found)
    if always:
        notes.append(
            "bits of each word: training had no captions that leave words out "
            f"({always} is always mentioned), so a text without them would mean something else"
        )
        return None
    try:
        conditions(run, [found.texts(s) for s in (*found.chain, *found.more)], captions.table)
    except ConfigError as e:
        notes.append(f"bits of each word: training had no captions that leave words out ({e})")
        return None
    return found


def _never_left_out(run: Experiment, captions: Captions, parts: words_lib.Words) -> str:
    """Attributes that the parts leave out but no training caption does; empty if none."""
    asked = [captions.unsaid_beside(s) for s in (*parts.chain, *parts.more)]
    wanted = set().union(*asked)
    if not wanted:
        return ""
    trained = run.data.split("train").captions
    missing = wanted - (set() if trained is None else trained.unsaid())
    first = min(missing, key=lambda s: (len(s), sorted(s)), default=frozenset())
    return " and ".join(captions.names[a] for a in sorted(first))


def _split(nats: np.ndarray, columns: dict[str, list[Texts]]) -> dict[str, np.ndarray]:
    """Splits `[N, K, M]` into the columns of each group of texts."""
    ends = np.cumsum([len(group) for group in columns.values()])
    return dict(zip(columns, np.split(nats, ends[:-1], axis=-1), strict=True))


def _against(own: np.ndarray, nats: np.ndarray, wrong: list[list[str]]) -> dict[str, Any]:
    """How often a wrong caption has the larger bound, and by how much, for images that have one.

    An image's captions are correlated, so they are averaged before computing errors.
    """
    present = np.asarray([[bool(t) for t in column] for column in wrong]).T
    have = present.any(1)
    if not have.any():
        return {"images": 0}
    excess, present = (nats - own[..., None])[have], present[have]
    share = present / present.sum(1, keepdims=True)
    mean = excess.mean(1)
    right = lib.mean_se((share * ((mean > 0) + 0.5 * (mean == 0))).sum(1))
    margin = np.einsum("nkm,nm->nk", np.where(present[:, None], excess, 0.0), share)
    return {"images": int(have.sum()), "right": right["bits"],
            "right_standard_error": right["standard_error"], **lib.bits(margin)}  # fmt: skip

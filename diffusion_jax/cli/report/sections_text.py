"""The section about the mutual information of texts and images."""

from typing import Any

from diffusion_jax.cli.report.collect import Record, RunFiles, first_of_newest
from diffusion_jax.cli.report.elements import (
    Missing,
    Section,
    djax,
    image,
    number,
    plus_minus,
)
from diffusion_jax.cli.report.markup import Html, join, table, tag
from diffusion_jax.cli.report.sections_trained import others
from diffusion_jax.runtime.formatting import examples


def information(run: RunFiles) -> Section | Missing | None:
    """Mutual information of text and image, per word and per pixel, with checks."""
    if not run.inform:
        if not run.config.get("text"):
            return None
        return Missing("Mutual information of text and image", djax("inform"))
    c = first_of_newest(run.inform)
    assert c is not None
    r, i = c.data["result"], c.data["result"]["information"]
    rows = [["all of the text", _bits(i), number(r["entropy"])]]
    for key, title in (("words", "in order"), ("words_averaged", "averaged over orders")):
        rows += [[f"{w['word']}, {title}", _bits(w), number(w["known"])] for w in r.get(key, [])]
    wrong = [[f"wrong {kind}", number(v["right"]), _bits(v)]
             for kind, v in r["negatives"].items() if v["images"]]  # fmt: skip
    found = r["retrieval"]
    many = examples(c.data["data"])
    summary = (
        f"{c.data['data']['name']}, {number(r['images'])} {many}, "
        f"{r['draws_per_image']} noise draws per {many[:-1]}"
        f"; an image's own caption is identified among {found['among']} with probability "
        f"{number(found['accuracy'], 3)}."
    )
    if "in_place" in r:
        p = r["in_place"]
        summary += (
            f" A share of {p['share']:.3f} of the maps' bits is where the text points, which is "
            f"{p['area']:.3f} of the area."
        )
    parts = [
        table(["text", "bits per image", "known"], rows, summary),
        table(["caption", "recognised as wrong", "extra bits"], wrong) if wrong else None,
        _checks(c),
        *(image(n, b, "Images, and maps of the bits of each word",
                "Images, with maps of the bits of the whole text and of each word.")
          for n, b in c.pictures.items()),
        others(run.inform, c),
    ]  # fmt: skip
    return Section("Text and image", join(parts))


def _bits(found: dict[str, Any]) -> Html:
    return plus_minus(found["bits"], found.get("standard_error"))


def _checks(c: Record) -> Html:
    word = {True: "holds", False: "FAILS", None: "-"}
    rows = [[f["check"], word[f["passed"]], f["said"]] for f in c.data["checks"]]
    return join([tag("p", "Checks:"), table(["check", "", "result"], rows)])

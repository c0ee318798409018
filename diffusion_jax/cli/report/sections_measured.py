"""Sections about measurements other than likelihoods: quality, compression and the rest."""

import re
import shlex
from typing import Any

from diffusion_jax.cli.report import figures
from diffusion_jax.cli.report.collect import Record, RunFiles, first_of_newest
from diffusion_jax.cli.report.elements import (
    Missing,
    Section,
    bits,
    columns,
    djax,
    image,
    number,
    plot,
    plus_minus,
    svg,
)
from diffusion_jax.cli.report.markup import Html, join, settings, table, tag
from diffusion_jax.cli.report.sections_trained import further, others
from diffusion_jax.runtime.formatting import examples

# Entries that depend on the step; cards that agree in all others differ in the step only.
_WHICH = ("step", "checkpoint", "seed", "file", "folder", "images_sha256")


def quality(run: RunFiles) -> Section | Missing:
    """The cards of `--mode=quality`, with the scores of real images."""
    if not run.quality:
        return Missing("The quality of samples", djax("quality"), of_stages=True)
    cards = [_card(c, run.latents) for c in run.quality]
    return Section("Quality of samples", join([*cards, *_over_steps(run)]))


def _over_steps(run: RunFiles) -> list[Html]:
    """The share that a judge finds right over training, from cards that differ in the step only."""
    groups: dict[str, dict[int, dict[str, Any]]] = {}
    for c in run.quality:
        s = sorted((k, v) for k, v in c.data["samples"].items() if k not in _WHICH)
        judged = c.data["figures"][0].get("judge", {}) if c.data.get("figures") else {}
        texts = {k: v["images"] for k, v in judged.items()}  # other texts have other counts
        same = repr([s, texts, c.data.get("settings", {}).get("judge")])
        groups.setdefault(same, {}).setdefault(c.step, c.data["result"])  # the first of a step
    parts = []
    for cards in groups.values():
        drawn = [
            svg(figures.over_steps([*cards.items()], of), f"Line chart of the share right{words}",
                f"Share that the judge finds right{words}, with a band of one standard error.")
            for of, words in (("", ""), (", seen", " for texts in the training set"),
                              (", unseen", " for texts not in the training set"))
            if len(cards) > 1
        ]  # fmt: skip
        if any(drawn):
            parts.append(tag("article", tag("h3", "During training"), columns(*drawn)))
    return parts


def _card(c: Record, latents: bool) -> Html:
    s, ref, f = c.data["samples"], c.data["reference"], c.data["features"]
    floor = c.data.get("floor") or {}
    real = {k: floor.get(k, {}) for k in ("frechet", "kid", "diversity")}
    values = {k: (v.get("value"), v.get("standard_error")) for k, v in real.items()}
    values |= {f"right: {k}": (v["value"], v["standard_error"])
               for k, v in floor.get("judge", {}).items()}  # fmt: skip
    for group, prefix in (("coverage", ""), ("classes", ""), ("clip", "clip ")):
        found = floor.get(group, {})
        values |= {f"{prefix}{k}": (v, found.get(f"{k}_standard_error"))
                   for k, v in found.items() if isinstance(v, float)}  # fmt: skip
    rows = [
        [name.replace("_", " "), plus_minus(v["mean"], v.get("standard_error")),
         plus_minus(*values.get(name, (None, None)))]
        for name, v in c.data["result"].items()
    ]  # fmt: skip
    how = ", ".join(str(s[k]) for k in ("sampler", "guidance") if k in s)
    head = f"{f['features']}: {how or s.get('file', '')}"
    many = examples(c.data)
    said = (
        f"{s.get('sets', 1)} x {number(s['images'])} samples against {ref.get('split')} "
        f"({number(ref.get('images'))} {many}), {f['size']} features"
        + (f", {s['network_calls']} network calls" if "network_calls" in s else "")
        + "".join(f", {words}" for words in further(s, latents))
        + (f"; real {many}: {floor['images']} of {floor['split']}" if floor else "") + "."
    )  # fmt: skip
    shown = next((g["classes"] for g in c.data.get("figures", []) if "classes" in g), None)
    nearest = next(iter(c.pictures.items()), None)
    pictures = [
        svg(None if shown is None else figures.classes(shown),
            "Bar chart of the classes of samples and of the data",
            "Classes of the samples, as a classifier sees them, and of the data."),
        None if nearest is None else image(
            *nearest, f"Samples in pairs with their nearest training {many}",
            f"The samples nearest to training {many}, each above its nearest {many[:-1]}."),
    ]  # fmt: skip
    grid = table(["metric", "samples", f"real {many}"], rows)
    drawn = columns(grid, tag("div", join(pictures)) if any(pictures) else None)
    credit = tag("p", c.data["attribution"]) if c.data.get("attribution") else None
    return tag("article", tag("h3", head), tag("p", said), drawn, credit)


def sweep(run: RunFiles) -> Section | Missing:
    """Results of `benchmarks.sample_quality` against guidance weight and network calls."""
    if not run.sweeps:
        made = "python -m benchmarks.sample_quality --checkpoint={0} --json={0}/guidance.json"
        return Missing("A sweep of guidance weights", made + " --classifier=... --judge=...")
    parts = []
    for record in run.sweeps:
        rows = record.data["rows"]
        guided = [(r["table"], w, r) for r in rows if r["table"] != "calls"
                  if (w := _weight(r["guidance"])) is not None]  # fmt: skip
        plain = [r for r in rows if r["table"] == "calls"]
        drawn = [
            svg(figures.sweep(guided, y), f"Line chart of {label} against guidance weight",
                f"{label} against guidance weight.")
            for y, label in (("accuracy", "Class accuracy"), ("frechet", "Frechet distance"))
            if guided
        ]  # fmt: skip
        if plain:
            drawn.append(svg(figures.calls(plain), "Line chart of Frechet distance against calls",
                             "Frechet distance against network calls, no guidance."))  # fmt: skip
        cells = [
            [r["guidance"], r["sampler"], number(r["network_calls"]), number(r["frechet"], 3),
             number(r["accuracy"], 3)] for r in rows
        ]  # fmt: skip
        grid = table(["guidance", "sampler", "calls", "Frechet distance", "accuracy"], cells)
        more = tag("details", tag("summary", f"All {len(rows)} rows of {record.name}"), grid)
        parts.append(join([columns(*drawn), more]))
    return Section("Guidance and samplers", join(parts))


def _weight(spec: str) -> float | None:
    found = re.search(r"(?:scale|w)=([\d.]+)", spec)
    return float(found.group(1)) if found else None


def codec(run: RunFiles) -> Section | Missing:
    """Files written by `--mode=compress`."""
    if not run.compressed:
        made = djax("compress", "--config.compress.compare")
        return Missing("Lossless compression", made, of_stages=True)
    return Section("Compression", join(_coded(c) for c in run.compressed))


def _coded(c: Record) -> Html:
    r, h, b = c.data["result"], c.data["file"], c.data["bound"]
    others = c.data.get("other_formats", [])
    same, fresh = b["same_latents"], b["fresh_latents"]
    rows = [
        ["net code length", number(r["net_bits_per_dim"])],
        ["bound at the same latents", number(same["bits_per_dim"])],
        ["bound at fresh latents", bits(fresh)],
        ["net minus bound, fresh latents",
         plus_minus(fresh["net_minus_bound"], fresh["monte_carlo_se_of_difference"])],
        ["labels", number(r["labels_bits_per_dim"])],
        ["header", number(r["header_bits_per_dim"])],
        ["initial bits in the file", number(r["initial_bits_in_file_per_dim"])],
        ["whole file", number(r["file_bits_per_dim"])],
    ]  # fmt: skip
    data, grid = c.data["data"], f" by {h['grid']}" if "grid" in h else ""
    many = examples(data)
    sheet = f"one {'picture' if many == 'images' else 'file'} of all {many}"
    rows += [
        [f"{o['format']}, {sheet}", number(o["bits_per_dim_sheet"])] if "bits_per_dim_sheet" in o
        else [f"{o['format']}, code length without a file", number(o["bits_per_dim"])]
        for o in others if "missing" not in o
    ]  # fmt: skip
    said = (
        f"{number(h['images'])} {many} of {data['name']} in {number(h['bytes'])} bytes "
        f"(T = {h['timesteps']}{grid}, order {h['order']}), {r['images_per_second']:.2f} {many}/s."
    )
    drawn = svg(figures.formats(r, others), "Bar chart of bits/dim of this model and of formats",
                "Bits/dim of the whole data set.")  # fmt: skip
    parts = columns(table(["part", "bits/dim"], rows), drawn)
    return tag("article", tag("h3", h["name"]), tag("p", said), parts)


def progressive(run: RunFiles) -> Section | Missing:
    """The rate-distortion curve."""
    if not run.progressive:
        return Missing("Rate against distortion", djax("progressive"))
    c = first_of_newest(run.progressive)
    shown = c.data["picture"]
    rows = zip(*(shown[k] for k in ("rate_bits_per_dim", "psnr_db", "gamma")), strict=True)
    cells = [[number(a), number(p, 2), number(g, 2)] for a, p, g in rows]
    seen = next((i for i in c.pictures.items() if i[0].endswith("_images.png")), None)
    rest = c.data["result"]["curve"].get("remaining_bits_per_dim", [])[:1]
    medium = c.data.get("data", {}).get("medium", "image")
    left = [
        svg(figures.rate_distortion(c.data["result"]["curve"]),
            "Line chart of PSNR against rate", "PSNR of the prediction against the rate."),
        table(["rate, bits/dim", "PSNR, dB", "gamma"], cells),
        *(tag("p", f"The {medium} given z_0: {number(value)} bits/dim, not in this curve.")
          for value in rest),
    ]  # fmt: skip
    right = None if seen is None else image(
        *seen, "Reconstructions from some of the bits, the originals on the right",
        "Reconstructions at the rates of the table, the originals on the right.",
    )  # fmt: skip
    drawn = columns(tag("div", join(left)), right)
    return Section("Rate and distortion", join([drawn, others(run.progressive, c)]))


def ood(run: RunFiles) -> Section | Missing:
    """Out-of-distribution scores, and how well they separate data sets."""
    if not run.ood:
        other = shlex.quote(_another(run))
        return Missing("Scores of other data", djax("ood", f"--config.ood.against={other}"))
    parts = []
    for c in run.ood:
        rows = [
            [title, plus_minus(v["auroc"], v["standard_error"]), number(v["mean_data"]),
             number(v["mean_against"])] for title, v in c.data["result"].items()
        ]  # fmt: skip
        names = [c.data[k]["name"] for k in ("data", "against")]
        parts.append(table(["score", "AUROC", *(f"mean, {n}" for n in names)], rows,
                           " against ".join(names)))  # fmt: skip
        parts += [plot(b, f"Histograms of scores of {' and '.join(names)}")
                  for b in c.pictures.values()]  # fmt: skip
    return Section("Out-of-distribution data", join(parts))


def _another(run: RunFiles) -> str:
    """Data for a run to be compared with: its own images turned, where they can be."""
    of, seen = run.config.get("data", "DATA"), [e.data.get("data", {}) for e in run.evals]
    media = {d["medium"] for d in (run.data, *seen) if "medium" in d}
    if not media <= {"image", "video"}:
        return "DATA"
    square = any(d["shape"][-3] == d["shape"][-2] for d in seen if "shape" in d)
    return f"rotated({of})" if square else f"rotated({of}, turns=2)"


def compare(run: RunFiles) -> Section | None:
    """Paired differences between runs."""
    if not run.compare:
        return None
    rows = []
    for c in run.compare:
        d = c.data
        rows.append([c.stem, bits(d["a"]), bits(d["b"]), bits(d["difference"]),
                     number(d["monte_carlo_se"])])  # fmt: skip
    head = ["runs a and b", "a, bits/dim", "b, bits/dim", "b - a, paired", "Monte-Carlo s.e."]
    return Section("Comparisons", table(head, rows))


def edits(run: RunFiles) -> Section | None:
    """The newest edits."""
    if not run.edits:
        return None
    parts = []
    for e in run.edits:
        edit, how = e.data["edit"], e.data["sampling"]
        caption = f"{edit['method']}: {how['sampler']}, guidance {how['guidance']}."
        alt = "Sources, the parts kept of them, and results side by side"
        drawn = join(
            image(n, b, alt, caption) if n.endswith(".png")
            else image(n, b, f"A result, moving: {n}", "A result, moving.")
            for n, b in e.pictures.items()
        )  # fmt: skip
        judged = _judged(e.data.get("judged") or {})
        parts.append(drawn if judged is None else columns(drawn, judged))
    return Section("Edits", join(parts))


def _judged(found: dict[str, Any]) -> Html | None:
    """The judge's results for the sources, and for what the edit has changed and kept."""
    shares = [(who, found.get(who, {})) for who in ("sources", "changed", "kept")]
    shares += [(f"frame at {f['weight']:.2f}, like the {end}", {"all": f[end]})
               for f in found.get("frames", ()) for end in ("first", "second")]  # fmt: skip
    rows = [[who, name, plus_minus(v["value"], v.get("standard_error")), number(v.get("images"))]
            for who, of in shares for name, v in of.items()]  # fmt: skip
    head = ["of", "right", "share", "images"]
    return table(head, rows, "Results of the judge of texts") if rows else None


def environment(run: RunFiles) -> Section | None:
    """Hardware and versions, of training and of every evaluation that recorded them."""
    rows: dict[tuple, None] = {}
    for e in (*run.evals, *run.quality, *run.progressive, *run.ood, *run.inform, *run.audit):
        n = e.data.get("numerics") or {"devices": e.data.get("devices")}
        kind = e.name.partition("/")[0]
        rows[(kind, n.get("devices"), n.get("matmul_precision"), n.get("jax"),
              n.get("diffusion_jax"))] = None  # fmt: skip
    grid = table(["what", "devices", "precision", "jax", "diffusion_jax"],
                 [[number(v) for v in row] for row in rows]) if rows else None  # fmt: skip
    starts = [
        tag(
            "details",
            tag("summary", f"Started at step {s.get('step')}, {s.get('time')}"),
            settings([(k, v) for k, v in s.items() if k not in ("step", "time")]),
            open="" if i == 0 else None,
        )
        for i, s in enumerate(reversed(run.starts))
    ]
    none = None if starts or not run.config else tag(
        "p", "Versions and hardware of the training were not recorded.", class_="note"
    )  # fmt: skip
    parts = [part for part in (*starts, none, grid) if part is not None]
    return Section("Hardware and versions", join(parts)) if parts else None

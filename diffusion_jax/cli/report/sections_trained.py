"""Sections about training and its results: curves, schedule, samples."""

from typing import Any

from diffusion_jax.cli.report import figures
from diffusion_jax.cli.report.collect import DEFAULTS, Record, RunFiles, first_of_newest, of_test
from diffusion_jax.cli.report.curves import Curve
from diffusion_jax.cli.report.elements import (
    Missing,
    Section,
    columns,
    djax,
    duration,
    image,
    number,
    plus_minus,
    png_width,
    svg,
)
from diffusion_jax.cli.report.markup import Html, data_uri, join, pairs, settings, tag
from diffusion_jax.runtime.formatting import examples

_FEW = 30  # maximum number of classes that are shown without unfolding
# For each metric of a task: the unit of the loss, the metric of validation, and the metrics that
# have charts already; each of the others gets one. None: the others are parts of the bound.
_CURVES: dict[str, tuple[str, str, tuple[str, ...] | None]] = {
    "bits_per_dim": ("bits/dim", "bits_per_dim", None),
    "loss_by_gamma": ("nats", "loss", ("train/loss", "train/grad_norm", "train/core_seconds")),
    "agreement": ("weighted squares", "", None),
    "samples": ("nats", "", ("train/loss", "train/grad_norm", "train/core_seconds")),
}
_WIDE = 900  # pixels; a wider grid takes the full width of the page

_NO_TIMES = (
    "There is no chart of the loss against time: this run was trained by a version that did not "
    "record times."
)


def others(records: tuple[Record, ...], shown: Record | None) -> Html | None:
    """Lists the files of a kind that are not shown."""
    names = [r.name for r in records if r is not shown]
    return tag("p", f"Not shown: {', '.join(names)}.", class_="note") if names else None


def newest_bound(run: RunFiles) -> Record | None:
    """The newest evaluation of the bound, preferably with the settings of the run."""
    bounds = [e for e in run.evals if "bound_by_timesteps" in e.data.get("result", {})]
    asked = run.config.get("eval")

    def order(e: Record) -> tuple[int, bool, bool]:
        how = e.data.get("model", {}).get("config", {}).get("eval")
        return e.step, how is not None and how == asked, e.stem.isdigit()

    return max(bounds, key=order, default=None)  # the first of them


def of_part(e: Record) -> str:
    """Suffix for the unit, such as `" of the smaller image"`; empty for whole images."""
    part = e.data["result"].get("part")
    return f" of {part['of']}" if part else ""


def headline(run: RunFiles) -> Html | None:
    """The most important results."""
    tiles: list[tuple[str, Any]] = []
    bound = newest_bound(run)
    if bound is not None:
        result, data = bound.data["result"], bound.data.get("data", {}).get("name", "")
        value = plus_minus(result["bits_per_dim"], result["standard_error"], 3)
        tiles.append((f"bits/dim{of_part(bound)}, {data}", value))
    scored = first_of_newest(run.evals)
    if scored is not None:
        name = "" if of_test(scored) else f", {scored.data['data']['name']}"
        found = scored.data.get("mean", {}).items()
        tiles += [(f"{k}{name}" if name else f"test {k}", number(v, 3)) for k, v in found]
    card = first_of_newest(run.quality)
    if card is not None:
        found = card.data.get("result", {}).get("frechet")
        if found:
            kind = card.data["features"]["features"].partition("(")[0]
            shown = plus_minus(found["mean"], found.get("standard_error"), 3)
            tiles.append((f"Frechet distance, {kind}", shown))
    if run.curves.last_step:
        tiles.append(("training steps", number(run.curves.last_step)))
    if run.curves.seconds is not None:
        tiles.append(("training and evaluation", duration(run.curves.seconds)))
    used = run.curves.get("train/core_seconds")
    if used is not None:
        tiles.append(("core-seconds of training", number(round(used.value[-1]))))
    if bound is not None and "parameters" in bound.data.get("model", {}):
        tiles.append(("parameters", number(bound.data["model"]["parameters"])))
    if not tiles:
        return None
    return tag("div", pairs(tiles), class_="tiles")


def _ends(curve: Curve | None, unit: str) -> str:
    if curve is None:
        return ""
    return f", from {curve.value[0]:.3g} to {curve.value[-1]:.3g} {unit}"


def training(run: RunFiles) -> Section | Missing:
    """Loss and gradients against steps and time."""
    c = run.curves
    if not c.by_name:
        return Missing("Curves of the training", djax("train", "--config=CONFIG"))
    unit, valid, known = _CURVES[run.figure]
    train, of = c.get("train/loss"), "training, weighted" if run.weighted else "training"
    ends = _ends(train, f"weighted {unit}" if run.weighted else unit)
    loss = f"Line chart of the loss in training{ends}"
    gamma = {"train/gamma_0": "gamma_0, at the data", "train/gamma_1": "gamma_1, at the noise"}
    extra = {
        n: n.partition("/")[2]
        for n in c.by_name
        if known is not None and n.startswith("train/") and n not in known
    }
    drawn = columns(
        svg(
            figures.loss(c, False, unit, valid, of), loss,
            f"Loss against steps ({unit}). Held-out and test values use the averaged weights; "
            "bands and bars are one standard error over examples."
            + " The training loss is weighted, the others are the bound." * run.weighted,
        ),
        svg(figures.loss(c, True, unit, valid, of), f"{loss}, against time",
            "The same against time, including compilation, validation and saving."),
        svg(figures.parts(c), "Line chart of the parts of the training loss, logarithmic",
            "Parts of the training loss."),
        svg(figures.metric(c, {"train/grad_norm": "norm"}, "gradient norm", log=True),
            "Line chart of the gradient norm, logarithmic",
            "Norm of the gradient, before clipping."),
        svg(figures.metric(c, gamma, "gamma"),
            "Line chart of both ends of the noise schedule against steps",
            "The ends of the schedule during training."),
        svg(figures.metric(c, {"valid/agreement": "agreement"}, "grey levels"),
            "Line chart of the distance between samples of student and teacher",
            "Rms distance between samples of student and teacher from the same noise."),
        svg(figures.speed(c), "Line chart of steps per second", "Speed: steps per second."),
        *(svg(figures.metric(c, {n: label}, label), f"Line chart of {label} in training",
              f"{label.capitalize()} in training.") for n, label in extra.items()),
    )  # fmt: skip
    times = None
    if train is not None and not train.timed:
        times = tag("p", _NO_TIMES, class_="note")
    return Section("Training", join([drawn, times]))


def data(run: RunFiles) -> Section | None:
    """The training data: their origin, and their classes in order."""
    d = run.data
    if not d:
        return None
    summary = settings([("trained on", d["name"]), ("examples", number(d["images"]))])
    notes = [tag("p", note) for note in (*d["notes"], d.get("attribution")) if note]
    names = d["classes"] or [f"class {i}" for i in range(len(d["counts"]))]
    shown = [(name, number(count)) for name, count in zip(names, d["counts"], strict=False)]
    classes = tag("details", tag("summary", f"{len(shown)} classes, in order, and {examples(d)}"),
                  settings(shown), open="" if len(shown) <= _FEW else None)  # fmt: skip
    return Section("Data", join([summary, *notes, classes if shown else None]))


def noise(run: RunFiles) -> Section | Missing:
    """gamma(t), and the loss against gamma."""
    inspected = first_of_newest(run.inspect)
    report = {} if inspected is None else inspected.data
    curve = report.get("schedule") or (run.schedule[-1].data if run.schedule else None)
    bound = newest_bound(run)
    by_gamma = report.get("loss_by_gamma") or (bound.data.get("loss_by_gamma") if bound else None)
    if curve is None and by_gamma is None:
        return Missing("The noise schedule and the loss against gamma", djax("inspect"))
    span = "" if curve is None else f" from {curve['gamma'][0]:.2f} to {curve['gamma'][-1]:.2f}"
    drawn = columns(
        svg(None if curve is None else figures.schedule(curve), f"Line chart of gamma(t){span}",
            "The noise schedule: gamma is minus the log signal-to-noise ratio; t = 0 is the data."),
        svg(None if by_gamma is None else figures.loss_by_gamma(by_gamma),
            "Line chart of the loss per unit of gamma",
            "Loss by noise level: the area under the mean is the diffusion term."),
        svg(figures.densities(report["densities"]) if "densities" in report else None,
            "Line chart of the densities of gamma",
            "Density of the noise levels in training, and that of the least variance."),
    )  # fmt: skip
    numbers = []
    for name, found in report.get("variance", {}).items():
        if isinstance(found, dict) and "variance" in found:
            value = plus_minus(found["variance"], found["standard_error"], 3)
            numbers.append((f"variance of one draw, {name.replace('_', ' ')}", value))
    if drift := report.get("drift"):
        i = max(range(len(drift["mean"])), key=drift["mean"].__getitem__)
        value = plus_minus(drift["mean"][i], drift["standard_error"][i])
        where = f"gamma {drift['gamma'][i]:.2f} to {drift['end'][i]:.2f}"
        numbers.append((f"squared drift of predictions, at most ({where}); 0 if perfect", value))
    rest = others(run.inspect, inspected)
    return Section("Noise schedule", join([drawn, settings(numbers) if numbers else None, rest]))


def further(how: dict[str, Any], latents: bool) -> list[str]:
    """Further settings of sampling, in words, if they are set or make a difference.

    Args:
        how: the record of the samples.
        latents: whether the model is of latents, for which the final step matters.
    """
    final, gamma = how.get("final"), how.get("low_gamma")
    given = how.get("given") or (how.get("low") and f"small images of {how['low']}")
    return [
        *([f"final {final}"] if final and (latents or final != DEFAULTS.final) else []),
        *([f"given {given}"] if given else []),
        *([f"noise of gamma {gamma:g} in the small images"] if gamma is not None else []),
    ]


def samples(run: RunFiles) -> Section | Missing:
    """The newest grid of samples, and the animation of sampling."""
    if not run.samples and not run.trajectory:
        return Missing("Samples", djax("sample"), of_stages=True)
    grids, rest = [], []
    for r in run.samples:
        how = r.data
        guided = [f"guidance {how['guidance']}"] if "guidance" in how else []  # a GAN has none
        method = [how["sampler"], f"{how['network_calls']} network calls", *guided,
                  *further(how, run.latents),
                  f"seed {how['seed']}"] if {"sampler", "seed"} <= how.keys() else []  # fmt: skip
        caption = f"Samples at step {r.stem}" + f": {', '.join(method)}" * bool(method) + "."
        alt = f"Grid of {how.get('images', 'the')} samples of the model"
        first, *more = r.pictures.items()
        films = [pair for pair in more if not pair[0].endswith(".png")]
        levels = [pair for pair in more if pair not in films]
        grids.append(image(*first, alt, caption))
        grids += [image(n, b, "The same samples, animated", "The same, animated.")
                  for n, b in films]  # fmt: skip
        grids += [
            image(n, b, "Samples at every level of the cascade, one image a line",
                  "The first samples at every level of the cascade, small images on the left.")
            for n, b in levels
        ]  # fmt: skip
    for r in run.trajectory[-1:]:
        moving = next((b for n, b in r.pictures.items() if n.endswith(".webp")), None)
        still = next((b for n, b in r.pictures.items() if n.endswith(".png")), None)
        if moving is not None:
            rest.append(_moving(r.data, moving, still, run.latents))
        if still is not None:
            caption = "Two samples, noise on the left: latents, and under each the prediction"
            caption += ", both decoded." if run.latents else "."
            rest.append(image("x.png", still, "Film strip of the same run", caption))
    sides = [tag("div", join(side)) for side in (grids, rest) if side]
    wide = any(png_width(b) > _WIDE for r in run.samples for n, b in r.pictures.items()
               if n.endswith(".png"))  # fmt: skip
    return Section("Samples", join(sides if wide else [columns(*sides)]))


def reconstructions(run: RunFiles) -> Section | None:
    """Images and their reconstructions from latents; None for a model of pixels."""
    for r in [r for r in run.reconstructions if r.pictures][-1:]:
        shown, d = next(iter(r.pictures.values())), r.data
        below = "sampled ones" if d.get("drawn") else "the most probable ones"
        caption = (
            f"Images of {d['split']}, and below them {below} given their latents z_0. "
            f"{d['exact']:.1%} of the values are exact; the mean error is "
            f"{number(d['mean_absolute_error'], 3)} of {d['levels']} levels."
        )
        alt = f"{d['images']} images and their reconstructions"
        return Section("Reconstructions", image("x.png", shown, alt, caption))
    return None


def _moving(how: dict[str, Any], moving: bytes, still: bytes | None, decoded: bool) -> Html:
    """The animation; readers who prefer reduced motion see only the film strip."""
    address = data_uri("image/webp", moving)
    alt = "Animation: noise turns into samples; the network's prediction is under each latent"
    shown = tag("img", src=address, alt=alt, class_="pixels")
    if still is not None:
        reduced = tag("source", srcset=data_uri("image/png", still),
                      media="(prefers-reduced-motion: reduce)")  # fmt: skip
        shown = tag("picture", reduced, shown)
    g = how["gammas"]
    caption = (
        f"From noise (gamma {g[0]:.1f}) to data (gamma {g[-1]:.1f}) in {how['steps']} steps of "
        f"{how['sampler']}, guidance {how['guidance']}: latents above, predictions below"
        + (", both decoded." if decoded else ".")
    )
    return tag("figure", shown, tag("figcaption", caption))

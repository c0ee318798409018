"""Plots of the reports, as PNG. Needs no display; matplotlib is loaded when a plot is drawn."""

from pathlib import Path
from typing import Any

import numpy as np

from diffusion_jax.runtime.storage import write_picture

_WAYS = {"straight_line": "straight line", "schedule": "schedule", "optimum": "optimum"}


def _panels(count: int) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * count, 3.6), layout="constrained")
    return figure, list(np.ravel(figure.subplots(1, count)))


def _finish(figure: Any, panels: list[Any], path: Path) -> None:
    for axes in panels:
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)
    write_picture(path, figure, dpi=120)


def schedule(path: Path, curve: dict[str, Any]) -> None:
    """gamma(t), SNR(t) and gamma'(t), next to the straight line with the same ends.

    Args:
        path: the PNG file.
        curve: from `inspection.curve`; with `"spread"` from `inspection.spread`, the band between
            its quantiles is drawn too.
    """
    t, line = np.asarray(curve["t"]), np.asarray(curve["line"])
    figure, panels = _panels(3)
    rows = (
        ("gamma", "gamma(t)", line),
        ("snr", "SNR(t)", np.exp(-line)),
        ("slope", "d gamma / dt", np.full_like(t, line[-1] - line[0])),
    )
    for axes, (key, label, straight) in zip(panels, rows, strict=True):
        axes.plot(t, curve[key], label="schedule")
        axes.plot(t, straight, "--", color="0.5", label="straight line")
        axes.set(xlabel="t", ylabel=label)
    panels[1].set_yscale("log")
    band = curve.get("spread")
    if band:
        panels[0].fill_between(
            band["t"], band["low"], band["high"], alpha=0.3, label="5 % to 95 % of pixels"
        )
    panels[2].set_ylim(bottom=0.0)
    _finish(figure, panels, path)


def loss(path: Path, by_gamma: dict[str, Any]) -> None:
    """The loss per unit of gamma: its mean and the root of its second moment.

    Args:
        path: the PNG file.
        by_gamma: from `inspection.loss_by_gamma`.
    """
    figure, panels = _panels(1)
    gamma, root = by_gamma["gamma"], np.sqrt(by_gamma["second_moment"])
    panels[0].plot(gamma, by_gamma["mean"], "o-", markersize=3, label="mean")
    panels[0].plot(gamma, root, "--", label="root of the second moment")
    panels[0].set(xlabel="gamma", ylabel="bits/dim per unit of gamma")
    panels[0].set_ylim(bottom=0.0)
    _finish(figure, panels, path)


def proposal(path: Path, densities: dict[str, Any]) -> None:
    """The densities of gamma: uniform, the schedule's and the optimum.

    Args:
        path: the PNG file.
        densities: `gamma`, and the density of each way to draw there.
    """
    figure, panels = _panels(1)
    for key, style in zip(_WAYS, ("--", "-", "-"), strict=True):
        panels[0].plot(densities["gamma"], densities[key], style, label=_WAYS[key])
    panels[0].set(xlabel="gamma", ylabel="density of gamma")
    panels[0].set_ylim(bottom=0.0)
    _finish(figure, panels, path)


def encoder(path: Path, shift: dict[str, Any]) -> None:
    """How far the encoder moves the data.

    Args:
        path: the PNG file.
        shift: from `inspection.encoder_shift`.
    """
    figure, panels = _panels(1)
    panels[0].plot(shift["gamma"], shift["rms"])
    panels[0].set(xlabel="gamma", ylabel="rms of x_t - x")
    _finish(figure, panels, path)


def rate_distortion(path: Path, curve: dict[str, Any]) -> None:
    """Quality against rate, and where on the way to the data the bits are.

    Args:
        path: the PNG file.
        curve: from `progressive.summary`.
    """
    figure, panels = _panels(2)
    rate = np.asarray(curve["rate_bits_per_dim"])
    panels[0].plot(rate, curve["psnr_db"])
    panels[0].set(xlabel="rate, bits/dim", ylabel="PSNR of x_hat, dB")
    panels[1].plot(curve["gamma"], rate, label="rate when stopping here")
    panels[1].plot(curve["gamma"], curve["remaining_bits_per_dim"], "--", label="remaining")
    panels[1].set(xlabel="gamma", ylabel="bits/dim")
    _finish(figure, panels, path)


def scores(path: Path, pairs: dict[str, tuple[np.ndarray, np.ndarray]], names: list[str]) -> None:
    """Histograms of scores of two data sets, a panel for each score.

    Args:
        path: the PNG file.
        pairs: for each score's title, its values on the two sets.
        names: of the sets.
    """
    figure, panels = _panels(len(pairs))
    for axes, (title, values) in zip(panels, pairs.items(), strict=True):
        edges = np.histogram_bin_edges(np.concatenate(values), bins=40)
        for name, v in zip(names, values, strict=True):
            axes.hist(v, edges, density=True, alpha=0.5, label=name)
        axes.set(xlabel=title, ylabel="density")
    _finish(figure, panels, path)

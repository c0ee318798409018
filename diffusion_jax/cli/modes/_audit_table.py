"""The lines that `--mode=audit` prints."""

from collections.abc import Sequence
from typing import Any

from diffusion_jax.cli.modes._records import noise_draws
from diffusion_jax.evaluation.audit_verdict import verdict
from diffusion_jax.runtime.formatting import plus_minus


def table(report: dict[str, Any], names: Sequence[str] = ()) -> str:
    """Summarises a report in a few lines.

    Args:
        report: the content of `audit/<step>.json`.
        names: class names, possibly empty.
    """
    found = report["result"]
    parts = {
        "gap": _gap, "membership": _membership, "copies": _copies, "bits_of_classes": _bits,
        "shares_of_classes": _shares, "agreement": _agreement,
    }  # fmt: skip
    train, test = report["data"], report["held_out"]
    draws = f", {noise_draws(report['draws_per_image'], train)}" if "gap" in found else ""
    lines = [
        f"{train['name']}, {train['images']} train / {test['images']} of {test['name']}{draws}"
    ]
    for key, write in parts.items():
        if found.get(key):
            lines += [f"  {line}" for line in write(found[key], names)]
    lines += [f"  note: {line}" for line in report["notes"]]
    lines += [f"  left out: {line}" for line in report["left_out"]]
    lines.append(f"  {verdict(found)}")
    return "\n".join(lines)


def _gap(g: dict[str, Any], _: Sequence[str]) -> list[str]:
    train, test, most = g["train"], g["held_out"], g["largest"]
    sides = (f"{plus_minus(v['bits_per_dim'], v['standard_error'])}" for v in (train, test))
    return [
        "bits/dim train {}  held out {}".format(*sides)
        + f"  gap {plus_minus(g['bits_per_dim'], g['standard_error'])} (z {g['z']:.1f}); largest "
        f"at gamma {most['from']:.1f} .. {most['to']:.1f}, "
        f"{plus_minus(most['bits_per_dim'], most['standard_error'])}"
    ]


def _membership(m: dict[str, Any], _: Sequence[str]) -> list[str]:
    best, (low, high) = m["best_band"], m["interval"]
    wanted = f" (1% needs {m['needs']} held-out examples)" if m["needs"] else ""
    return [
        f"membership AUROC {_auroc(m)}; TPR at {m['false_positive_rate']:.0%} FPR "
        f"{m['true_positive_rate']:.3f} [{low:.3f}, {high:.3f}]{wanted}",
        f"membership by the band gamma {best['from']:.1f} .. {best['to']:.1f}, chosen on one half: "
        f"AUROC {_auroc(best)} on the other",
    ]


def _auroc(f: dict[str, float]) -> str:
    return (
        f"{plus_minus(f['auroc'], f['standard_error'], '.3f')} "
        f"(no skill 0.500 +- {f['null_standard_error']:.3f})"
    )


def _copies(c: dict[str, Any], _: Sequence[str]) -> list[str]:
    n, m = c["rows"]["samples"], c["rows"]["held_out"]
    ratio = "unknown" if c["ratio"] is None else f"{c['ratio']:.3f}"
    return [
        f"copies {c['copies']} of {n} (held out {c['held_out_copies']} of {m}); "
        f"nearest/second nearest < 1/3: {c['singled_out']} (held out {c['held_out_singled_out']}); "
        f"closer than any held-out image: {c['nearer_than_all']}; median distance to the training "
        f"set: {ratio} of that of held-out images"
    ]


def _bits(b: dict[str, Any], names: Sequence[str]) -> list[str]:
    w = b["worst"]
    low, high = w["interval"]
    return [
        f"worst bits/dim: class {_name(w, names)}, "
        f"{plus_minus(w['over_the_rest'], w['its_standard_error'], '.3f')} over the rest "
        f"[{low:.3f}, {high:.3f}] (Holm p {w['holm_p']:.2g}; if all classes were equal the worst "
        f"would be {w['null']['mean']:.3f} over, 95% below {w['null']['quantile_95']:.3f})"
    ]


def _shares(s: dict[str, Any], names: Sequence[str]) -> list[str]:
    least = s["least"]
    low, high = least["interval"]
    line = (
        f"classes of {s['images']} samples: least frequent {_name(least, names)}, "
        f"{least['share']:.3f} [{low:.3f}, {high:.3f}] of {least['of_data']:.3f}"
    )
    if "corrected" in least:
        fixed = plus_minus(least["corrected"], least["corrected_standard_error"], ".3f")
        line += f" ({fixed} corrected for the judge's errors)"
    null = least["null"]
    line += (
        f", {least['ratio']:.2f} of its share (for samples distributed like the data: "
        f"{null['mean']:.2f}, 95% above {null['quantile_5']:.2f})"
    )
    return [f"{line}; chi2 p {s['chi2_p']:.2g}"]


def _agreement(a: dict[str, Any], _: Sequence[str]) -> list[str]:
    shared = f"; the runs share {a['shared']} training examples" if a["shared"] else ""
    others = a["cosine_of_others"]
    other = "" if others is None else f" (other noise {others:.3f})"
    return [
        f"samples of both runs from the same noise ({a['sampler']}): cosine {a['cosine']:.3f}"
        f"{other}, rms distance {a['rms']:.3f}; to the nearest training image of each run "
        f"{a['rms_to_train'][0]:.3f} and {a['rms_to_train'][1]:.3f}{shared}"
    ]


def _name(row: dict[str, Any], names: Sequence[str]) -> str:
    return names[row["class"]] if row["class"] < len(names) else str(row["class"])

"""Checks that an information between captions and images must pass, whatever the model."""

from typing import Any

from diffusion_jax.runtime.formatting import plus_minus


def checks(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Runs all checks whose inputs exist; `passed` is None if a check is inconclusive."""
    i, h = result["information"], result["entropy"]
    found = []

    def add(name: str, passed: bool | None, said: str) -> None:
        found.append({"check": name, "passed": passed, "said": said})

    if h is None:
        add("I <= H", None, "skipped: the entropy of these captions is unknown")
    else:
        over = i["bits"] - h
        said = f"I = {i['bits']:.3f}, H = {h:.3f} bits"
        if over > 0:
            said += f": the bound without text is too loose by at least {over:.3f}"
        add("I <= H", over <= 2 * i["standard_error"] or over <= 0, said)
    s = result["shuffled_above_null"]
    add(
        "shuffled > null > true",
        _in_order(s, i),
        f"another image's caption costs {plus_minus(s['bits'], s['standard_error'])} bits, the "
        f"image's own saves {plus_minus(i['bits'], i['standard_error'])}",
    )
    if "mixture" in result:
        m = result["mixture"]["bits"]
        loose, shown = i["bits"] - m, plus_minus(m, result["mixture"]["standard_error"], ".3f")
        whole = "all captions"
        if h is None:
            whole = "the captions of these images (no check: their distribution is unknown)"
        add(
            "mixture",
            None if h is None else m <= h + 1e-6,
            f"{shown} bits ({result['mixture']['half']:.3f} with half the draws); the bound "
            f"without text is {abs(loose):.3f} bits {'looser' if loose > 0 else 'tighter'} than "
            f"the mixture of {whole}",
        )
    if "against" in result:
        a = result["against"]
        gap = a["null_looser_by"]
        add(
            "null of another run",
            gap["bits"] <= 2 * gap["standard_error"],
            f"this run's is {gap['bits']:+.3f} bits looser; I with the other: "
            f"{a['information']:.3f}",
        )
    if "processed" in result:
        more, whole = (result["processed"][k] for k in ("more", "information"))
        add(
            "I(vector) <= I(image)",
            more["bits"] <= 3 * more["standard_error"] or more["bits"] <= 0,
            f"I(vector) is {plus_minus(more['bits'], more['standard_error'])} bits above "
            f"I(image), {whole['bits']:.3f} by {result['processed']['run']}",
        )
        if "mixture" in result["processed"]:
            m = result["processed"]["mixture"]
            less, error = -m["more"]["bits"], m["more"]["standard_error"]
            add(
                "the same by mixtures",
                less >= -3 * error,
                f"{m['vector']['bits']:.3f} bits for the vector, {m['information']['bits']:.3f} "
                f"for the image: {plus_minus(abs(less), error)} "
                + ("are lost" if less > 0 else "are missed by the model of images"),
            )
    if "paraphrase" in result:
        p = result["paraphrase"]
        add(
            "another wording",
            abs(p["bits"]) <= 3 * p["standard_error"],
            f"costs {p['bits']:+.4f} +- {p['standard_error']:.4f} bits",
        )
    return found


def _in_order(shuffled: dict[str, float], own: dict[str, float]) -> bool | None:
    """Whether both are positive by two standard errors; None if inconclusive."""
    both = [(f["bits"], 2 * f["standard_error"]) for f in (shuffled, own)]
    if any(bits < -error for bits, error in both):
        return False
    return True if all(bits > error for bits, error in both) else None

"""What has to hold of an information between captions and images, whatever the model."""

from typing import Any

from diffusion_jax.runtime.formatting import plus_minus


def checks(result: dict[str, Any]) -> list[dict[str, Any]]:
    """What has to hold of an information, in words; `passed` is None where it cannot be said."""
    i, h = result["information"], result["entropy"]
    found = []

    def add(name: str, passed: bool | None, said: str) -> None:
        found.append({"check": name, "passed": passed, "said": said})

    if h is None:
        add("I <= H", None, "the entropy of these captions is not known: skipped")
    else:
        over = i["bits"] - h
        holds = over <= 2 * i["standard_error"] or over <= 0
        add("I <= H", holds, f"I = {i['bits']:.3f}, H = {h:.3f} bits" + ("" if over <= 0 else
            f": the bound without text is too loose by at least {over:.3f}"))  # fmt: skip
    s = result["shuffled_above_null"]
    add(
        "shuffled > null > true",
        _in_order(s, i),
        f"another image's caption costs {plus_minus(s['bits'], s['standard_error'])} bits, the own "
        f"one saves {plus_minus(i['bits'], i['standard_error'])}",
    )
    if "mixture" in result:
        m = result["mixture"]["bits"]
        loose, shown = i["bits"] - m, plus_minus(m, result["mixture"]["standard_error"], ".3f")
        whole = "all captions" if h is not None else (
            "the captions of these images alone (their law is not known: no check)"
        )  # fmt: skip
        add("mixture", None if h is None else m <= h + 1e-6,
            f"{shown} bits ({result['mixture']['half']:.3f} "
            f"with half of the draws) against I: the bound without text is {abs(loose):.3f} bits "
            f"{'looser' if loose > 0 else 'tighter'} than the mixture of {whole}")  # fmt: skip
    if "against" in result:
        a = result["against"]
        gap = a["null_looser_by"]
        add(
            "null of another run",
            gap["bits"] <= 2 * gap["standard_error"],
            f"ours is {gap['bits']:+.3f} bits looser; I by theirs {a['information']:.3f}",
        )
    if "processed" in result:
        more, whole = (result["processed"][k] for k in ("more", "information"))
        add(
            "I(vector) <= I(image)",
            more["bits"] <= 3 * more["standard_error"] or more["bits"] <= 0,
            f"the text tells {plus_minus(more['bits'], more['standard_error'])} bits more of the "
            f"vector than of the image, {whole['bits']:.3f} by {result['processed']['run']}",
        )
        if "mixture" in result["processed"]:
            m = result["processed"]["mixture"]
            less, error = -m["more"]["bits"], m["more"]["standard_error"]
            add(
                "the same by mixtures",
                less >= -3 * error,
                f"{m['vector']['bits']:.3f} bits of the vector, {m['information']['bits']:.3f} of "
                f"the image: {plus_minus(abs(less), error)} "
                + ("are lost" if less > 0 else "that the model of images misses"),
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
    """Whether both are more than nothing, by two standard errors; None where noise decides."""
    both = [(f["bits"], 2 * f["standard_error"]) for f in (shuffled, own)]
    if any(bits < -error for bits, error in both):
        return False
    return True if all(bits > error for bits, error in both) else None

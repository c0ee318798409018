"""The packaged configurations: their folder, and which of them makes a run of a given kind."""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def folder() -> Path:
    """The folder of the configurations, in an installed package or in a checkout."""
    inside = _PACKAGE / "configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "configs"


def names() -> list[str]:
    """The names that `--config` accepts, sorted."""
    return sorted(p.stem for p in folder().glob("*.py"))


def making(kind: str, data: str = "") -> str:
    """The name of the configuration that makes a run of a kind; empty if there is none.

    Args:
        kind: end of the name, such as `"clip"` for `digits_clip`, optionally with a variant
            (`"latent:vae"`); empty for a model of the data alone.
        data: name of a data plug-in, whose configurations are preferred.
    """
    kind, colon, variant = kind.partition(":")
    preferred = [f"{d}_{kind}" if kind else d for d in (data, "digits", "scenes")]
    fitting = [n for n in names() if not kind or n.endswith(f"_{kind}")]
    chosen = next((n for n in (*preferred, *fitting) if n in fitting), "")
    return f"{chosen}{colon}{variant}" if chosen else ""


def command(kind: str, data: str, workdir: str) -> str:
    """The command that makes such a run, as the end of a message; empty if there is none."""
    name = "" if Path(workdir).is_file() else making(kind, data)
    return f"; djax train --config={name} --workdir={workdir} makes one" if name else ""

"""Our own configurations: where they are, and which of them makes a run of some kind."""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def folder() -> Path:
    """Their folder: in an installed package, or in a checkout."""
    inside = _PACKAGE / "configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "configs"


def names() -> list[str]:
    """What `--config` may name, sorted."""
    return sorted(p.stem for p in folder().glob("*.py"))


def making(kind: str, data: str = "") -> str:
    """The configuration that makes a run of a kind, by its name; empty where there is none.

    Args:
        kind: how the names end, `"clip"` for `digits_clip`; a variant may follow, `"latent:vae"`;
            empty for a model of the data alone.
        data: a plug-in of data, whose own configuration is preferred.
    """
    kind, colon, variant = kind.partition(":")
    first = [f"{d}_{kind}" if kind else d for d in (data, "digits", "scenes")]
    found = [n for n in (*first, *names()) if n in names() and (not kind or n.endswith(f"_{kind}"))]
    return f"{found[0]}{colon}{variant}" if found else ""


def command(kind: str, data: str, workdir: str) -> str:
    """The command that makes such a run, in words, after a semicolon; or nothing."""
    name = "" if Path(workdir).is_file() else making(kind, data)
    return f"; djax train --config={name} --workdir={workdir} makes one" if name else ""

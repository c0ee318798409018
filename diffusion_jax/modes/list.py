"""`--mode=list`: all plug-ins and modes, with their arguments; needs no configuration."""

from diffusion_jax import catalogue
from diffusion_jax.errors import ConfigError

_NOTE = (
    "Arguments without a value come from the data and the model where they are known there; the "
    "others must be given. A plug-in's file says more."
)


def run(kind: str = "") -> None:
    """Prints the plug-ins: as a table on a terminal, else a line each, with tabs between columns.

    Args:
        kind: only this folder; empty for all.

    Raises:
        ConfigError: there is no such kind.
    """
    from rich.console import Console

    known = catalogue.kinds()
    if kind and kind not in known:
        raise ConfigError(f"--kind={kind}: there are no such plug-ins; kinds: {', '.join(known)}")
    console = Console()
    chosen = {k: known[k] for k in ([kind] if kind else known)}
    if not console.is_terminal:
        for name in chosen:
            for p in catalogue.plugins(name):
                print(name, _call(name, p), p.line, sep="\t")
        return
    for name, line in chosen.items():
        _table(console, name, line)
    console.print(_NOTE, style="dim")


def _call(kind: str, p: catalogue.Plugin) -> str:
    return f"--mode={p.name}" if kind == "modes" else f"{p.name}({', '.join(p.arguments)})"


def _table(console: object, kind: str, line: str) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=SIMPLE_HEAD, title=Text(f"{kind}: {line}"), title_justify="left", expand=True)
    grid.add_column("plug-in", ratio=2, overflow="fold", style="bold")
    grid.add_column("what it is", ratio=3)
    for p in catalogue.plugins(kind):
        grid.add_row(Text(_call(kind, p)), Text(p.line))
    console.print(grid)

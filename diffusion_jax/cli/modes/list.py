"""`--mode=list`: all plug-ins and modes, with their arguments; needs no configuration."""

from diffusion_jax import registry

_NOTE = (
    "Arguments without a value come from the data and the model where they are known there; the "
    "others must be given. A plug-in's file says more."
)


READS = ("list",)


def run(kind: str = "") -> None:
    """Prints the plug-ins: as a table on a terminal, else a line each, with tabs between columns.

    Args:
        kind: only this kind, as `config.list.kind` says; empty for all.

    Raises:
        SpecError: there is no such kind.
    """
    from rich.console import Console

    console = Console()
    for name in [kind] if kind else registry.FOLDERS:
        line, plugins = registry.describe(name)
        if console.is_terminal:
            _table(console, name, line, plugins)
            continue
        for p in plugins:
            print(name, _call(name, p), p.line, sep="\t")
    if not console.is_terminal:
        return
    console.print(_NOTE, style="dim")


def _call(kind: str, p: registry.Plugin) -> str:
    return f"--mode={p.name}" if kind == "modes" else f"{p.name}({', '.join(p.arguments)})"


def _table(console: object, kind: str, line: str, plugins: tuple[registry.Plugin, ...]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=SIMPLE_HEAD, title=Text(f"{kind}: {line}"), title_justify="left", expand=True)
    grid.add_column("plug-in", ratio=2, overflow="fold", style="bold")
    grid.add_column("what it is", ratio=3)
    for p in plugins:
        grid.add_row(Text(_call(kind, p)), Text(p.line))
    console.print(grid)

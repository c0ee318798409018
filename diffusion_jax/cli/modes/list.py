"""`--mode=list`: all plug-ins and modes with their arguments; needs no configuration."""

from typing import TYPE_CHECKING

from diffusion_jax import registry

if TYPE_CHECKING:
    from rich.console import Console

READS = ("list",)

_NOTE = (
    "Arguments without a value are taken from the data and the model if these define them; the "
    "others are required. The docstrings of a plug-in's file say more."
)
_HOW = "For one kind with its arguments: djax list --config.list.kind=samplers"


def run(kind: str = "") -> None:
    """Prints one kind, or all: formatted on a terminal, otherwise as tab-separated lines."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        for name in [registry.kind_called(kind)] if kind else registry.FOLDERS:
            for p in registry.describe(name)[1]:
                print(name, _call(name, p), p.line, sep="\t")
    elif kind:
        _one_kind(console, registry.kind_called(kind))
    else:
        _all_kinds(console)


def _call(kind: str, p: registry.Plugin) -> str:
    return f"--mode={p.name}" if kind == "modes" else f"{p.name}({', '.join(p.arguments)})"


def _all_kinds(console: "Console") -> None:
    """Prints the names of every kind, on one screen."""
    from rich.table import Table

    grid = Table.grid("kind", "plug-ins", padding=(0, 2))
    for name in registry.FOLDERS:
        grid.add_row(f"[bold]{name}[/]", ", ".join(registry.available(name)))
    console.print(grid)
    console.print(_HOW, style="dim")


def _one_kind(console: "Console", kind: str) -> None:
    from rich.padding import Padding
    from rich.text import Text

    line, plugins = registry.describe(kind)
    console.print(Text(f"{kind}: {line}"))
    for p in plugins:
        console.print(Text(_call(kind, p), style="bold"))
        console.print(Padding(Text(p.line), (0, 0, 0, 4)))
    console.print(_NOTE, style="dim")

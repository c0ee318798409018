"""The parts of a table of `benchmarks.bits`: rows, as changes to a configuration."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from diffusion_jax.errors import ConfigError


@dataclass(frozen=True)
class Part:
    """One run of a row that has several.

    Attributes:
        share: fraction of the row's core-seconds.
        config: the file in `configs/` to start from, with its variant after a colon; the work's if
            empty. Data, validation and evaluation are always the work's.
        settings: fields that differ; `{0}` in them stands for the folder of the first part.
    """

    share: float = 1.0
    config: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Variant:
    """A row.

    Attributes:
        settings: fields of the configuration that differ.
        lrs: learning rates to try with the first seed; the best one on held-out images is used.
        weights: evaluate these weights (`config.eval.weights`) of the first row's run instead of
            training another.
        parts: several runs in order, instead of one with `settings`; the last one is evaluated.
        together: whether the parts are the stages of a cascade, evaluated as one model.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    lrs: tuple[float, ...] = ()
    weights: str = ""
    parts: tuple[Part, ...] = ()
    together: bool = False

    @property
    def runs(self) -> tuple[Part, ...]:
        """The runs of the row: its parts, or a single one."""
        return self.parts or (Part(settings=self.settings),)


@dataclass(frozen=True)
class Table:
    """Rows to compare with the first.

    Attributes:
        rows: rows by name.
        equal_steps: whether all rows train for the first one's number of steps, because a step
            costs the same.
        frechet: whether samples are drawn and scored as well.
    """

    rows: dict[str, Variant]
    equal_steps: bool = False
    frechet: bool = False

    def only(self, names: Collection[str] | None, lrs: Sequence[float] | None) -> "Table":
        """The table with only the first row and those named, and other learning rates to try."""
        first = next(iter(self.rows))
        unknown = set(names or ()) - self.rows.keys()
        if unknown:
            raise ConfigError(f"no row {', '.join(unknown)}; there are {', '.join(self.rows)}")
        rows = {n: v for n, v in self.rows.items() if names is None or n in (first, *names)}
        if lrs:
            rows = {n: v if v.weights else replace(v, lrs=tuple(lrs)) for n, v in rows.items()}
        return replace(self, rows=rows)


@dataclass(frozen=True)
class Work:
    """Data, and all settings that the rows have in common.

    Attributes:
        config: the file in `configs/` to start from.
        settings: fields that differ from it.
        tables: tables by name.
    """

    config: str
    settings: dict[str, Any]
    tables: dict[str, Table]

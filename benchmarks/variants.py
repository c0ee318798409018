"""What `benchmarks.bits` compares: the rows of its tables, as changes to a configuration."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from diffusion_jax.errors import ConfigError


@dataclass(frozen=True)
class Variant:
    """A row.

    Attributes:
        settings: fields of the configuration that differ.
        lrs: learning rates to try with the first seed; the held-out images choose.
        weights: measure these weights (`config.eval.weights`) of the first row's run, train none.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    lrs: tuple[float, ...] = ()
    weights: str = ""


@dataclass(frozen=True)
class Table:
    """Rows to compare with the first.

    Attributes:
        rows: by name.
        equal_steps: the rows do the same work, so that the first one's steps are for all.
        frechet: whether samples are drawn and scored as well.
    """

    rows: dict[str, Variant]
    equal_steps: bool = False
    frechet: bool = False

    def only(self, names: Collection[str] | None, lrs: Sequence[float] | None) -> "Table":
        """The table with the first row and those named, at other learning rates to try."""
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
    """Data and all that the rows have in common.

    Attributes:
        config: the file in `configs/` it starts from.
        settings: fields that differ from it.
        tables: by name.
    """

    config: str
    settings: dict[str, Any]
    tables: dict[str, Table]


def _networks(specs: dict[str, str]) -> Table:
    """U-Nets at the configuration's rate, transformers at half of it."""
    rates = {name: {"lr": 1e-3} if name in ("dit", "uvit") else {} for name in specs}
    return Table({name: Variant({"network": spec, **rates[name]}) for name, spec in specs.items()})


_WEIGHTINGS = Table(
    {
        "bound": Variant(),
        **{
            name: Variant({"objective": f"weighted(weight={name}())"})
            for name in ("sigmoid", "edm", "x", "eps")
        },
    },
    equal_steps=True,
    frechet=True,
)
_OPTIMIZERS = Table(
    {
        "adamw": Variant(lrs=(2e-3, 5e-3)),
        "muon": Variant({"optimizer": "muon(weight_decay=0.01)"}, (2e-3, 5e-3)),
        "soap": Variant({"optimizer": "soap(weight_decay=0.01)"}, (2e-3, 5e-3)),
    }
)
_AVERAGES = Table(
    {
        "0.995": Variant({"ema": (0.995, "power(0.05)", "power(0.1)"), "keep_latest": 10}),
        "no average": Variant(weights="params"),
        **{name: Variant(weights=name) for name in
           ("posthoc(0.03)", "posthoc(0.075)", "posthoc(0.15)")},
    }
)  # fmt: skip

WORK = {
    "digits": Work(
        "digits",
        {"valid_draws": 16},
        {
            "networks": _networks({
                "vdm_unet": "vdm_unet(width=32, depth=2, embed=64)",
                "unet": "unet(width=32, mults=(1, 2), blocks=2, attention=(4,))",
                "dit": "dit(width=128, depth=6, heads=4, patch=1, dropout=0.05)",
                "uvit": "uvit(width=128, depth=6, heads=4, patch=1, dropout=0.05)",
            }),
            "weights": _networks({
                "vdm_unet": "vdm_unet(width=32, depth=2, embed=64)",
                "unet": "unet(width=16, mults=(1, 2), blocks=3, attention=(4,))",
                "dit": "dit(width=64, depth=4, heads=2, patch=1)",
                "uvit": "uvit(width=64, depth=4, heads=2, patch=1)",
            }),
            "weightings": _WEIGHTINGS,
            "optimizers": _OPTIMIZERS,
            "averages": _AVERAGES,
        },
    ),
    "mnist": Work(
        "mnist_3h",
        {"valid_draws": 2, "eval.limit": 1000},
        {
            "networks": _networks({
                "vdm_unet": "vdm_unet(width=32, depth=2, embed=64)",
                "unet": "unet(width=16, mults=(1, 2, 4), blocks=1, attention=(7,), dropout=0.0)",
                "dit": "dit(width=96, depth=4, heads=3, patch=4)",
                "uvit": "uvit(width=96, depth=4, heads=3, patch=4)",
            }),
            "optimizers": _OPTIMIZERS,
            "averages": _AVERAGES,
        },
    ),
}  # fmt: skip

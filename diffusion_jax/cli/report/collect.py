"""Reads the files of a work directory that a report shows, and lists damaged ones."""

import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffusion_jax import config as config_lib, registry, saved_config
from diffusion_jax.cli.report.curves import Curves, read_curves
from diffusion_jax.errors import ConfigError
from diffusion_jax.likelihood.objectives.base import bound_of
from diffusion_jax.runtime import untrusted
from diffusion_jax.runtime.storage import modified, size

DEFAULTS = config_lib.base()


@dataclass(frozen=True)
class Record:
    """One JSON report of a mode.

    Attributes:
        name: path of the file, relative to the work directory.
        data: its content.
        pictures: PNG and WebP files next to it whose names begin with its name.
    """

    name: str
    data: dict[str, Any]
    pictures: dict[str, bytes] = field(default_factory=dict)

    @property
    def stem(self) -> str:
        """The file's name without folder and suffix."""
        return Path(self.name).stem

    @property
    def step(self) -> int:
        """The training step at the beginning of the name; -1 if there is none."""
        match = re.match(r"\d+", self.stem)
        return int(match.group()) if match else -1


def first_of_newest(records: tuple[Record, ...]) -> Record | None:
    """The first record of the newest step; the later ones are variations."""
    return next((r for r in records if r.step == records[-1].step), None)


def of_test(record: Record) -> bool:
    """Whether a report is of the test set: those of other splits have them in their names."""
    return not re.search(r"_(train|valid)(_|$)", record.stem)


@dataclass(frozen=True)
class RunFiles:
    """The content of a work directory.

    Attributes:
        name: name of the folder.
        config: the configuration; empty if there is none.
        curves: metrics logged by training.
        data: `data.json`, the description of the training data.
        starts: lines of `environment.jsonl`.
        evals: from `--mode=eval`, of models and of guidance networks.
        inspect: from `--mode=inspect`.
        schedule: gamma(t), from `--mode=report`.
        trajectory: from `--mode=report`.
        reconstructions: from `--mode=report`, of an autoencoder.
        quality: cards of `--mode=quality`.
        compressed: from `--mode=compress`.
        progressive: from `--mode=progressive`.
        ood: from `--mode=ood`.
        inform: from `--mode=inform`.
        audit: from `--mode=audit`.
        compare: from `--mode=compare`.
        edits: from `--mode=edit`.
        sweeps: results of `benchmarks.sample_quality` in the work directory.
        samples: grids of samples of the newest step, in the order in which they were made.
        parameters: the table of parameters.
        problems: one line for each file that could not be read.
    """

    name: str
    config: dict[str, Any]
    curves: Curves
    data: dict[str, Any] = field(default_factory=dict)
    starts: tuple[dict[str, Any], ...] = ()
    evals: tuple[Record, ...] = ()
    inspect: tuple[Record, ...] = ()
    schedule: tuple[Record, ...] = ()
    trajectory: tuple[Record, ...] = ()
    reconstructions: tuple[Record, ...] = ()
    quality: tuple[Record, ...] = ()
    compressed: tuple[Record, ...] = ()
    progressive: tuple[Record, ...] = ()
    ood: tuple[Record, ...] = ()
    inform: tuple[Record, ...] = ()
    audit: tuple[Record, ...] = ()
    compare: tuple[Record, ...] = ()
    edits: tuple[Record, ...] = ()
    sweeps: tuple[Record, ...] = ()
    samples: tuple[Record, ...] = ()
    parameters: str = ""
    problems: tuple[str, ...] = ()

    @property
    def figure(self) -> str:
        """The metric of the run's task."""
        task = saved_config.today(self.config).get("task", "diffusion()")
        try:
            return registry.build("tasks", task).figure
        except ConfigError:  # a task plug-in that is not installed here
            return "bits_per_dim"

    @property
    def latents(self) -> bool:
        """Whether the run has an autoencoder, so that what is shown has been decoded."""
        none = DEFAULTS.autoencoder
        try:
            found = registry.parse(saved_config.today(self.config).get("autoencoder", none))
        except ConfigError:
            return False
        return found.name != registry.parse(none).name

    @property
    def weighted(self) -> bool:
        """Whether training weights the bound, so that its loss is not in bits/dim."""
        try:
            objective = registry.build("objectives", self.config["objective"])
            return bound_of(objective) is not objective
        except (KeyError, ConfigError):
            return False


# The files of each field; the pictures that belong to `x.json` are `x.png` and `x_*.png`.
_FILES = {
    "evals": "eval/*.json",
    "inspect": "inspect/*.json",
    "schedule": "report/*_schedule.json",
    "trajectory": "report/*_trajectory.json",
    "reconstructions": "report/*_reconstructions.json",
    "quality": "quality/*.json",
    "compressed": "compressed/*.json",
    "progressive": "progressive/*.json",
    "ood": "ood/*.json",
    "inform": "inform/*.json",
    "audit": "audit/*.json",
    "compare": "compare/*.json",
    "edits": "edits/*/record.json",
}
_KINDS = (".png", ".webp")
_FILMS, _MOVING = (".gif", ".webp", ".apng"), 6  # animations of edited videos; number shown
# Fields that are sorted by the age of their files, and how many of the newest are shown.
_BY_AGE = {"edits": 6, "quality": 1000}
_LARGEST = 8 * 2**20  # maximum number of bytes of one picture
_UNEXPECTED = (ValueError, KeyError, TypeError, AttributeError)  # JSON with another structure


def read(workdir: Path) -> RunFiles:
    """Reads a work directory; the fields of absent files are empty.

    Returns:
        Its content.
    """
    problems: list[str] = []

    def tried(path: Path, reader: Callable[[Path], Any], default: Any) -> Any:
        try:
            return reader(path) if path.is_file() else default
        except (*_UNEXPECTED, OSError, zipfile.BadZipFile, EOFError) as e:
            problems.append(f"{path.relative_to(workdir)}: {(str(e).splitlines() or ['?'])[0]}")
            return default

    found: dict[str, tuple[Record, ...]] = {}
    for field_name, pattern in _FILES.items():
        paths = sorted(workdir.glob(pattern))
        if field_name in _BY_AGE:
            paths = sorted(paths, key=modified)[-_BY_AGE[field_name] :]
        records = [
            Record(str(p.relative_to(workdir)), data, _pictures(p, tried))
            for p in paths
            if (data := tried(p, _report, None)) is not None
        ]
        by_age = field_name in _BY_AGE  # the sort is stable, so it keeps this order
        found[field_name] = tuple(sorted(records, key=lambda r: (r.step, "" if by_age else r.name)))
    config = tried(workdir / "config.json", _object, {})
    for record in (*found["evals"], *found["progressive"]):  # if evaluated in another folder
        config = config or record.data.get("model", {}).get("config", {})
    sweeps = [
        Record(p.name, data)
        for p in sorted(workdir.glob("*.json"))
        if p.name not in ("config.json", "data.json") and _is_sweep(data := tried(p, _object, {}))
    ]
    curves = tried(workdir / "metrics.jsonl", read_curves, Curves())
    if curves.left_out:
        problems.append(f"metrics.jsonl: {curves.left_out} unreadable line(s) left out")
    return RunFiles(
        name=workdir.name,
        config=config,
        curves=curves,
        data=tried(workdir / "data.json", _object, {}),
        starts=tuple(tried(workdir / "environment.jsonl", _lines, ())),
        sweeps=tuple(sweeps),
        samples=_samples(workdir, tried),
        parameters=tried(workdir / "params.txt", lambda p: p.read_text(), ""),
        problems=tuple(problems),
        **found,
    )


def _is_sweep(data: dict[str, Any]) -> bool:
    """Whether `benchmarks.sample_quality` wrote this; other benchmarks also write rows."""
    rows = data.get("rows")
    return (
        isinstance(rows, list)
        and bool(rows)
        and all(isinstance(r, dict) and {"table", "frechet"} <= r.keys() for r in rows)
    )


def _object(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text())
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return found


def _report(path: Path) -> dict[str, Any]:
    """The report of a mode; ValueError if its parts do not have the expected types."""
    found = _object(path)
    for name in ("result", "model"):
        if not isinstance(found.get(name, {}), dict):
            raise ValueError(f"{name} is not a JSON object")
    if not isinstance(found.get("model", {}).get("config", {}), dict):
        raise ValueError("the model's config is not a JSON object")
    return found


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line]


def _pictures(path: Path, tried: Callable) -> dict[str, bytes]:
    """Pictures of a record: those of its name, or the contact sheet and animations of an edit."""
    stem = "sheet" if path.stem == "record" else path.stem
    beside = [p for p in sorted(path.parent.iterdir()) if p.suffix in _KINDS]
    out = {}
    # Names of other records may begin with the same stem: `6_valid.json` has `6_valid.png`.
    longer = [q.stem for q in path.parent.glob(f"{path.stem}_*.json")]
    films = [p for p in sorted(path.parent.iterdir()) if p.suffix in _FILMS and p.stem.isdigit()]
    for p in beside:
        rest = p.stem.removeprefix(stem)
        theirs = any(p.stem == q or p.stem.startswith(f"{q}_") for q in longer)
        if p.stem.startswith(stem) and not theirs and re.fullmatch(r"|_(?!\d+(_|$)).*", rest):
            out[p.name] = tried(p, _picture, b"")
    for p in films[:_MOVING] if stem == "sheet" else ():
        out[p.name] = tried(p, _picture, b"")
    return {name: data for name, data in out.items() if data}


def _picture(path: Path) -> bytes:
    if size(path) > _LARGEST:
        raise ValueError(f"larger than {_LARGEST // 2**20} MiB, left out")
    return path.read_bytes()


def _samples(workdir: Path, tried: Callable) -> tuple[Record, ...]:
    """The grids of samples of the newest step, and how they were drawn."""

    def method(path: Path) -> dict[str, Any]:
        with path.open("rb") as raw:
            f = untrusted.npz(raw)
            how = json.loads(str(f["method"])) if "method" in f else {}
            return {**how, "images": len(f["image"])}

    named = ((re.fullmatch(r"(\d+)(?:_(\d+))?", p.stem), p) for p in workdir.glob("samples/*.png"))
    grids = sorted((int(m[1]), int(m[2] or 1), p) for m, p in named if m)

    def shown(path: Path) -> dict[str, bytes]:
        films = (path.with_suffix(kind) for kind in (".gif", ".webp", ".apng"))
        beside = (path, path.with_name(f"{path.stem}_levels.png"), *films)  # _levels: cascades
        found = {p.name: tried(p, _picture, b"") for p in beside if p.exists()}
        return {name: picture for name, picture in found.items() if picture}

    return tuple(
        Record(f"samples/{p.name}", tried(p.with_suffix(".npz"), method, {}), pictures)
        for step, _, p in grids
        if step == grids[-1][0] and p.name in (pictures := shown(p))
    )

"""Several runs as one model of whole images: `config.stages`, small images first.

    log P(image) = log P(smallest) + sum over later stages of log P(detail | smaller image)

Every stage is an ordinary run with its own bound, and their sum bounds `-log P(image)`. A model of
latents and a model of images given latents are two such stages.
"""

import copy
import dataclasses
import functools
from collections.abc import Collection, Sequence
from typing import Any

from diffusion_jax import registry
from diffusion_jax.config_groups import GROUPS, group
from diffusion_jax.errors import CheckpointError, ConfigError
from diffusion_jax.experiment import Experiment, assembly, exported, latent_decoder, other_runs
from diffusion_jax.experiment.sampling import priors
from diffusion_jax.model import Model
from diffusion_jax.runtime.storage import place
from diffusion_jax.training import restore
from diffusion_jax.types import Params

# Settings that the stages take from the cascade's command line; all others are their own.
_SHARED = (*GROUPS["sampling"], "sample", "eval", "quality", "compress", "edit",
           "mesh", "data_dir", "data_workers")  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Cascade(Experiment):
    """A run whose model consists of all its stages."""

    @functools.cached_property
    def model(self) -> Model:
        """The model of the last stage, whose labels and levels are those of all stages."""
        return self.stages[-1].model

    @functools.cached_property
    def loaded(self) -> tuple[Params, dict[str, Any]]:
        """The weights of every stage, as a tuple, and a record that describes them."""
        params, records = zip(*(s.loaded for s in self.stages), strict=True)
        _check_data(self.stages, records)
        if self.model.from_latent:
            params = latent_decoder.in_units_of(self.stages, params)
        last = records[-1]
        return params, {
            "step": last["step"],
            "weights": ", ".join(dict.fromkeys(r["weights"] for r in records)),
            "checkpoint": ", ".join(r["checkpoint"] for r in records),
        }


def joined(run: Experiment) -> Cascade:
    """Opens the cascade of `run.config.stages`.

    Raises:
        ConfigError: the runs do not fit together, or are in the wrong order.
    """
    names = [name.strip() for name in run.config.stages.split(",") if name.strip()]
    if len(names) < 2:
        raise ConfigError(
            f"stages={run.config.stages!r}: give the runs of all stages, small images first: "
            "runs/low,runs/high"
        )
    if run.checkpoint:
        raise ConfigError("--checkpoint is one run, --config.stages are several: leave one out")
    for name in names:
        if place(name) == run.workdir:
            raise ConfigError(
                f"--workdir={name} is the folder of a stage, whose files would be mixed with "
                "the cascade's; use another folder for the cascade"
            )
    stages = tuple(_stage(run, name, i == 0) for i, name in enumerate(names))
    _share_data(stages)
    _only_to_readers(stages)
    of_latents = assembly.takes_latent(stages[-1])
    if not of_latents:
        _check_order(stages, names)
    _check_equal(stages, names)
    if of_latents:
        latent_decoder.check(stages, names)
        latent_decoder.join(stages)
    found = Cascade(run.config, run.workdir, "", stages)
    vars(found).update(data=stages[-1].data, source=stages[-1].source)
    return found


def check_asked(fields: Collection[str]) -> None:
    """Raises ConfigError for settings on the command line that every stage has its own value of."""
    for field in fields:
        if not group(field) and field not in _SHARED:
            raise ConfigError(
                f"--config.stages ignores --config.{field}: each stage has the settings that it "
                "was trained with; leave it out"
            )


def waste(run: Experiment) -> str:
    """A note about bits that a cascade wastes if its pyramid is not a bijection; else empty."""
    pyramids = [s.model.view.pyramid for s in run.stages]
    if all(p is None or p.exact for p in pyramids):
        return ""
    return (
        f"note: {run.stages[-1].config.view} also gives probability to images that contradict the "
        "given small image; bounds and files are valid, but slightly longer than necessary"
    )


def _stage(run: Experiment, name: str, first: bool) -> Experiment:
    """Opens one run, with the settings of the cascade's command line."""
    made = f"cascade:{'low' if first else 'high'}"
    own = other_runs.opened("stages", name, made, run.config.data_dir)
    if own.task.holds != "denoiser":
        raise ConfigError(f"stages: {name} holds {own.config.task}, not a diffusion model")
    config = copy.deepcopy(own.config)
    for field in _SHARED:
        config[field] = copy.deepcopy(run.config[field])
    if first:
        config.sample.low_gamma = None
    stage = dataclasses.replace(own, config=config)
    assembly.settle(stage)
    return stage


def _share_data(stages: Sequence[Experiment]) -> None:
    """Gives all stages one data set; each keeps the texts and embeddings it was trained with."""
    last = stages[-1]
    for stage in stages[:-1]:
        vars(stage).pop("source", None)
        vars(stage)["data"] = last.data
        if _conditions(stage) == _conditions(last):
            vars(stage)["source"] = last.source


def _conditions(stage: Experiment) -> tuple[str, ...]:
    return tuple(stage.config[k] for k in ("text", "embedding"))


def _only_to_readers(stages: Sequence[Experiment]) -> None:
    """Keeps prompts and the prior only in stages that take them; if none does, all refuse them."""
    decoders = [bool(s.config.embedding) for s in stages]
    readers = [priors.uses_captions(s) for s in stages]
    prompts = {"captions": (), "prompts": "", "captions_of": ""}
    for take, nothing in ((decoders, {"prior": ""}), (readers, prompts)):
        for stage, takes in zip(stages, take, strict=True):
            if any(take) and not takes:
                stage.config.sample.update(nothing)


def _check_order(stages: Sequence[Experiment], names: Sequence[str]) -> None:
    """Checks that each stage has one halving less than the stage before it, down to none."""
    listed = ", ".join(f"{n} (view {s.config.view})" for n, s in zip(names, stages, strict=True))
    views = [assembly.view(s) for s in stages]
    shape = stages[-1].source.shape
    halved = [v.halvings for v in views]
    gives = [v.given_shape(shape) is not None for v in views]
    wanted = [*range(len(stages) - 1, -1, -1)]
    if halved != wanted or gives != [False, *[True] * (len(stages) - 1)]:
        raise ConfigError(
            f"stages: {listed} are not the levels of one cascade in order; give low(level=N) "
            "first, then high(level=N), and so on to high(level=1), none missing; for videos "
            "first(frames=N), then later(given=N)"
        )
    if any(v.pyramid != views[0].pyramid for v in views):
        raise ConfigError(
            f"stages: {listed} split {stages[-1].source.medium.name}s by different pyramids, or "
            "after different frames; train all stages with the same"
        )


def _check_equal(stages: Sequence[Experiment], names: Sequence[str]) -> None:
    """Checks that all stages have the same data, levels and classes."""
    first, *others = stages
    for name, other in zip(names[1:], others, strict=True):
        for what in ("data", "conditional", "decoder"):
            a, b = first.config[what], other.config[what]
            same = registry.parse(a) == registry.parse(b) if isinstance(a, str) else a == b
            if not same:
                raise ConfigError(
                    f"stages: {names[0]} has {what}={a!r}, {name} {what}={b!r}; all stages of a "
                    "cascade must be trained on the same data"
                )


def _check_data(stages: Sequence[Experiment], records: Sequence[dict[str, Any]]) -> None:
    """Compares the training images of the stages, by the digests in the checkpoints."""
    where = [place(r["checkpoint"]) for r in records]
    # Exported weights have no digest of the data.
    metas = [restore.read_meta(p) for p in where if not exported.is_exported(p)]
    digests = {digest for m in metas if (digest := m.get("data", {}).get("sketch"))}
    if len(digests) > 1:
        raise CheckpointError(
            "stages: the runs were trained on different images under the same name: the digests of "
            f"their data differ ({', '.join(str(s.workdir) for s in stages)})"
        )

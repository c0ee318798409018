"""An autoencoder that another run has trained, taken over by a run of its latents.

The settings of the autoencoder are those it was trained with; they, and the SHA-256 of its weights,
become part of the new run's configuration, and the weights of its checkpoints: the run needs the
other one only to begin.
"""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from ml_collections import ConfigDict

from diffusion_jax import registry, saved_config
from diffusion_jax.errors import CheckpointError, ConfigError, UserError
from diffusion_jax.experiment import exported, other_runs
from diffusion_jax.registry import Spec
from diffusion_jax.runtime.sharding import replicated
from diffusion_jax.runtime.storage import place
from diffusion_jax.training import restore
from diffusion_jax.training.state import ema_key
from diffusion_jax.types import Params

if TYPE_CHECKING:
    from diffusion_jax.experiment import Experiment

# Settings of this run, which are not those of the run that trained the autoencoder.
_OWN = ("checkpoint", "train", "rate", "sha256", "dropout")
# What data and arithmetic say of images: `_check_data` sees to those, and `read` to the arrays.
_OFFERED = ("levels", "shape", "dtype")


def settle(run: "Experiment") -> None:
    """Writes what the autoencoder's checkpoint says of it into the configuration."""
    c = run.config
    spec = registry.parse(c.autoencoder)
    if not spec.kwargs.get("checkpoint") or spec.kwargs.get("sha256"):
        return
    c.autoencoder = _resumed(run, spec) or _resolved(run, spec)


def _resumed(run: "Experiment", spec: Spec) -> str:
    """The autoencoder of a run that has begun already with the same checkpoint, or nothing."""
    saved = run.workdir / "config.json"
    if not saved.exists():
        return ""
    before = saved_config.read(saved).autoencoder
    old = registry.parse(before)
    if old.name != spec.name:
        return ""
    written, defaults = registry.arguments("autoencoders", old)
    asked, _ = registry.arguments("autoencoders", spec)
    same = all(_plain((defaults | written).get(k)) == _plain(v) for k, v in asked.items())
    return before if same else ""


def _resolved(run: "Experiment", spec: Spec) -> str:
    """The autoencoder with the settings and the SHA-256 of its checkpoint."""
    found, sha256 = with_settings(run, spec), digest(_weights(run, spec.kwargs["checkpoint"]))
    return str(Spec(found.name, (), {**found.kwargs, "sha256": sha256}))


def with_settings(run: "Experiment", spec: Spec) -> Spec:
    """The autoencoder with the settings of its checkpoint, whose weights are not read.

    Raises:
        ConfigError: there is no such run, or it trained another autoencoder.
    """
    name = spec.kwargs["checkpoint"]
    kept = other_runs.saved("autoencoder", name, "latent:vae", run.config.data)
    theirs = saved_config.read(kept)
    trained = registry.parse(theirs.autoencoder)
    if trained.name == "pixels":
        raise ConfigError(
            f"autoencoder: {name} is a model of pixels, which cannot score images given latents: "
            "train an autoencoder with a head, as configs/digits_latent.py:vae"
        )
    if trained.name != spec.name:
        raise ConfigError(f"autoencoder: {name} holds {trained.name}(), not {spec.name}()")
    _check_data(run, theirs, name)
    written, defaults = registry.arguments("autoencoders", trained)
    settings = {k: v for k, v in written.items() if k not in _OWN}
    asked, _ = registry.arguments("autoencoders", spec)
    for key, value in asked.items():
        its = settings.get(key, defaults.get(key, value))
        if key not in (*_OWN, *_OFFERED) and _plain(its) != _plain(value):
            raise ConfigError(
                f"autoencoder: {key}={value!r}, but {name} was trained with {its!r}; leave it out"
            )
    own = {k: v for k, v in asked.items() if k in (*_OWN, *_OFFERED)}
    return Spec(spec.name, (), {**settings, **own})


def _plain(value: Any) -> Any:
    """`(8, 8)` for `[8, 8]`, which means the same."""
    return tuple(value) if isinstance(value, list) else value


def _check_data(run: "Experiment", theirs: Any, name: str) -> None:
    """Refuses an autoencoder of images of another shape, or of other levels."""
    if saved_config.untrusted_imports({"data": theirs.data}):
        return
    try:
        there = registry.build(
            "data", theirs.data, data_dir=run.config.data_dir, workers=run.config.data_workers
        )
    except (UserError, OSError):
        return  # the arrays will not fit, if the images are others
    pairs = {"shape": (there.shape, run.source.shape), "levels": (there.levels, run.source.levels)}
    for what, (old, new) in pairs.items():
        if old != new:
            raise ConfigError(
                f"autoencoder: {name} was trained on images of {what} {old}, these have {new}"
            )


def check_same(mine: ConfigDict, theirs: ConfigDict, name: str) -> None:
    """Refuses a second network that is of other latents, or of pixels beside a model of latents.

    By settings alone; `check_weights` sees the rest.
    """
    pair = [_latents(c) for c in (mine, theirs)]
    what = ["latents" if spec else "pixels" for spec in pair]
    if what[0] == what[1]:
        taken = [s.kwargs.get("sha256") for s in pair if s and not s.kwargs.get("train")]
        if None in taken or len(set(taken)) < 2:
            return
        what[1] = "latents of another autoencoder"
    raise ConfigError(
        f"{name} is a network of {what[1]}, this model one of {what[0]}: guidance needs the same "
        "for both"
    )


def check_weights(run: "Experiment", theirs: Params, name: str) -> None:
    """Refuses a second network, of weights `theirs`, whose latents are not the run's own.

    Latents that are given to a model of pixels are looked at as well.

    That is by the SHA-256 of the autoencoder's weights, which training may have moved since they
    were taken over, and by the units of latents. A run in training has no weights yet to compare.
    """
    other = theirs.get("autoencoder")
    if not other:
        return
    try:
        own = run.params.get("autoencoder")
    except CheckpointError:
        return
    if not own:
        return
    if digest(own) != digest(other):
        how = "is a network of latents of another autoencoder (the SHA-256 of its weights differs)"
    elif not _same_units(own, other):
        how = "is a network of the same latents in other units (standardised otherwise)"
    else:
        return
    raise ConfigError(
        f"{name} {how}: train it with --config.autoencoder=\"conv(checkpoint='{run.workdir}')\""
    )


def _same_units(own: Params, other: Params) -> bool:
    pair = (jax.tree.leaves(p.get("standard", {})) for p in (own, other))
    return all(np.allclose(a, b, rtol=1e-3, atol=1e-3) for a, b in zip(*pair, strict=True))


def _latents(config: ConfigDict) -> Spec | None:
    """The autoencoder whose latents diffuse in a run with these settings; None for pixels."""
    spec = registry.parse(config.autoencoder)
    told = getattr(registry.build("views", config.view), "latent", False)
    return None if spec.name == "pixels" or told else spec


def _weights(run: "Experiment", name: str) -> Params:
    """The autoencoder's weights: exported ones, or the first average of the newest checkpoint."""
    where = place(name)

    def read(folder: Path) -> Params:
        meta = restore.read_meta(folder)
        average = ema_key(meta["config"]["ema"][0])
        return restore.read_group(folder, average, "autoencoder", replicated(run.mesh))

    try:
        if exported.is_exported(where):
            return exported.group(where, "autoencoder")
        return restore.restore_newest(where, read)[0]
    except CheckpointError as e:
        raise CheckpointError(f"autoencoder: {e}") from e


def digest(params: Params) -> str:
    """SHA-256 over names, types, shapes and numbers, without the standardisation."""
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name, a = jax.tree_util.keystr(path), np.asarray(jax.device_get(leaf))
        if "standard" not in name:
            found.update(f"{name} {a.dtype} {a.shape}".encode())
            found.update(np.ascontiguousarray(a).tobytes())
    return found.hexdigest()


def read(run: "Experiment", wanted: Params) -> dict[str, np.ndarray]:
    """The arrays to begin with, by path; nothing without a checkpoint.

    Args:
        wanted: the weights to be (arrays or shapes).

    Raises:
        ConfigError: the checkpoint is no longer what it was when this run was set up, or its arrays
            are not those of the autoencoder that the settings describe.
    """
    spec = registry.parse(run.config.autoencoder)
    name = spec.kwargs.get("checkpoint")
    if not name:
        return {}
    weights = _weights(run, name)
    if digest(weights) != spec.kwargs.get("sha256"):
        raise ConfigError(f"autoencoder: the weights in {name} have changed since this run began")
    found = {k: np.asarray(jax.device_get(a)) for k, a in _by_path(weights).items()}
    mine = _by_path(wanted["autoencoder"]) if "autoencoder" in wanted else found
    for key in sorted(mine.keys() | found.keys()):
        pair = [tree[key].shape if key in tree else "absent" for tree in (found, mine)]
        if pair[0] != pair[1]:
            raise ConfigError(
                f"autoencoder: {key} is {pair[0]} in {name} and {pair[1]} in "
                f"{run.config.autoencoder}: of its settings, name only the checkpoint"
            )
    return found


def _by_path(weights: Params) -> dict[str, Any]:
    """The autoencoder's arrays or shapes by their path in the weights of a run."""
    leaves = jax.tree_util.tree_leaves_with_path({"autoencoder": weights})
    return {jax.tree_util.keystr(p, simple=True, separator="/"): a for p, a in leaves}

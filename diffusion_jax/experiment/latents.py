"""An autoencoder trained by another run, as a part of a run of its latents.

Its settings and the SHA-256 of its weights become part of the new run's configuration, and its
weights part of the new run's checkpoints: the other run is needed only to begin.
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

# Arguments that may differ from the run that trained the autoencoder.
_OWN = ("checkpoint", "train", "rate", "sha256", "dropout")
# Arguments given by data and arithmetic: `_check_data` checks them, and `read` the arrays.
_OFFERED = ("levels", "shape", "dtype")


def settle(run: "Experiment") -> None:
    """Fills in the settings of the autoencoder from its checkpoint."""
    c = run.config
    spec = registry.parse(c.autoencoder)
    if not spec.kwargs.get("checkpoint") or spec.kwargs.get("sha256"):
        return
    c.autoencoder = _resumed(run, spec) or _resolved(run, spec)


def _resumed(run: "Experiment", spec: Spec) -> str:
    """The resolved autoencoder of this run if it has begun with the same checkpoint; else empty."""
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
    """The autoencoder with the settings of its checkpoint; does not read its weights.

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
            "train an autoencoder with a head, such as configs/digits_latent.py:vae"
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
    """Converts lists to tuples, which are equivalent here."""
    return tuple(value) if isinstance(value, list) else value


def _check_data(run: "Experiment", theirs: Any, name: str) -> None:
    """Raises ConfigError for an autoencoder of images with another shape or other levels."""
    if saved_config.untrusted_imports({"data": theirs.data}):
        return
    try:
        there = registry.build(
            "data", theirs.data, data_dir=run.config.data_dir, workers=run.config.data_workers
        )
    except (UserError, OSError):
        return  # if the images differ, the arrays will not fit
    pairs = {"shape": (there.shape, run.source.shape), "levels": (there.levels, run.source.levels)}
    for what, (old, new) in pairs.items():
        if old != new:
            raise ConfigError(
                f"autoencoder: {name} was trained on images with {what} {old}, these have {new}"
            )


def check_same(mine: ConfigDict, theirs: ConfigDict, name: str) -> None:
    """Raises ConfigError unless both networks are of pixels, or of the same latents.

    This compares settings only; `check_weights` compares the weights.
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
    """Raises ConfigError if a second network, with weights `theirs`, has other latents.

    Compares the SHA-256 of the autoencoders' weights, which training may have changed since they
    were copied, and the units of latents, also of those that a model of pixels is given. A run in
    training has no weights to compare yet.
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
    """The autoencoder of a run of latents with these settings; None for a run of pixels."""
    spec = registry.parse(config.autoencoder)
    given_latent = getattr(registry.build("views", config.view), "latent", False)
    return None if spec.name == "pixels" or given_latent else spec


def _weights(run: "Experiment", name: str) -> Params:
    """The autoencoder's weights: exported, or the first average of the newest checkpoint."""
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
    """SHA-256 over names, types, shapes and values, without the standardisation."""
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name, a = jax.tree_util.keystr(path), np.asarray(jax.device_get(leaf))
        if "standard" not in name:
            found.update(f"{name} {a.dtype} {a.shape}".encode())
            found.update(np.ascontiguousarray(a).tobytes())
    return found.hexdigest()


def read(run: "Experiment", wanted: Params) -> dict[str, np.ndarray]:
    """The initial arrays of the autoencoder, by path; empty without a checkpoint.

    Args:
        run: the run.
        wanted: arrays or shapes of its weights.

    Raises:
        ConfigError: the checkpoint has changed since this run was set up, or its arrays are not
            those of the autoencoder that the settings describe.
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
                f"{run.config.autoencoder}: give only the checkpoint, no other settings"
            )
    return found


def _by_path(weights: Params) -> dict[str, Any]:
    """The autoencoder's arrays or shapes by their path in the weights of a run."""
    leaves = jax.tree_util.tree_leaves_with_path({"autoencoder": weights})
    return {jax.tree_util.keystr(p, simple=True, separator="/"): a for p, a in leaves}

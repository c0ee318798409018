"""Builds the model of a run from its settings and its data."""

import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from diffusion_jax import registry
from diffusion_jax.data.base import class_numbers
from diffusion_jax.errors import ConfigError, SpecError, foreign
from diffusion_jax.experiment import embeddings, latents, texts
from diffusion_jax.experiment.modelled_part import diffuses, takes_latent, view
from diffusion_jax.model import Model, require
from diffusion_jax.networks.autoencoders import base as autoencoders
from diffusion_jax.networks.autoencoders.base import Autoencoder, is_trained
from diffusion_jax.networks.text_encoders.base import as_read
from diffusion_jax.process.decoders.base import Decoder
from diffusion_jax.process.parameterization import check as check_prediction, outputs
from diffusion_jax.process.schedules.base import check_ends, check_rises, endpoints
from diffusion_jax.runtime.memory import of_device
from diffusion_jax.training.tasks.base import teacher_of
from diffusion_jax.types import Array, least_noise

if TYPE_CHECKING:
    from diffusion_jax.experiment import Experiment


_LEAST_LATENT = -9.0  # gamma at which a latent of unit variance carries 6.5 bits


def model(run: "Experiment") -> Model:
    """Builds the model; raises ConfigError for settings that do not exist or are incompatible."""
    c, source = run.config, run.source
    if not diffuses(run):
        can = "sample it or measure its quality" if run.task.figure == "samples" else "eval it"
        raise ConfigError(f"{run.workdir} holds {c.task}, not a diffusion model: train it or {can}")
    if c.conditional and not source.num_classes:
        why = "".join(f" ({note})" for note in source.notes)
        raise ConfigError(f"conditional=True, but {source.name} has no classes{why}")
    classes = source.num_classes if c.conditional else 0
    images = {**offered(run), "num_classes": classes, "augment": run.augment.size,
              "text": run.text}  # fmt: skip
    embedder = embeddings.of(run)
    decoder, autoencoder = _space(run, images)
    latent = images["shape"] if takes_latent(run) else autoencoder.latent_shape(images["shape"])
    context = {**images, "channels": latent[-1], "shape": latent}
    values = outputs(check_prediction(c.prediction), source.levels)
    vectors = hasattr(autoencoder, "vectors")  # each level is a vector of several channels
    _check_takes_latent(run, autoencoder)
    channels = images["channels"] if vectors and values > 1 else context["channels"]
    network_context = {**context, "channels": channels * values}
    built = Model(
        network=registry.build("backbones", c.network, **network_context),
        schedule=registry.build("schedules", c.schedule, **context),
        decoder=decoder,
        prediction=c.prediction,
        num_classes=classes,
        encoder=registry.build("encoders", c.encoder, **context),
        null_class=(not classes or c.class_dropout > 0)
        and (run.text is None or c.text_dropout > 0)
        and (embedder is None or c.embedding_dropout > 0),
        view=view(run),
        autoencoder=autoencoder,
        cond_scalars=getattr(run.task, "cond_scalars", ()),
        teacher=teacher_of(run.task),
        text=run.text,
        embedding=0 if embedder is None else len(embedder.scale) + 1,
    )
    texts.check(run, built.network)
    _check_stills(run, built)
    if context["low"] and not getattr(built.network, "low", 0):
        raise ConfigError(
            f"view {c.view} conditions on small images, frames or latents, which network "
            f"{c.network} does not accept: its make() must accept `low`, the number of their "
            "channels; vdm_unet, unet, dit and uvit do, and for frames video_unet and "
            "stacked_frames"
        )
    if not built.traits.latent:  # mulan's schedule rises by construction, and the check takes long
        with jax.ensure_compile_time_eval():  # this may run while shapes are traced
            check_rises(built.schedule, built.schedule.init(jax.random.key(0)))
    if values > 1:
        require(
            built, f"prediction={c.prediction!r}", "use prediction='v'",
            discrete=True, time_dependent_data=False,
            **({"per_pixel_gamma": False} if vectors else {"pixels": True}),
        )  # fmt: skip
    if built.traits.mean_coefficient:
        require(
            built, f"encoder {c.encoder}", "use encoder='identity()', or another schedule",
            per_pixel_gamma=False,
        )  # fmt: skip
    _check_latents(run, built)
    return built


def _check_stills(run: "Experiment", built: Model) -> None:
    """Raises ConfigError if data mix videos and single images, but the network cannot."""
    c, source = run.config, run.source
    if source.stills is None:
        return
    if not built.num_classes:
        raise ConfigError(
            f"data={c.data}: some examples are unrelated images, and only their class "
            "distinguishes them from videos: set --config.conditional=True"
        )
    if getattr(built.network, "stills", None) is None:
        raise ConfigError(
            f"data={c.data}: some examples are unrelated images, and network {c.network} mixes all "
            "frames: use video_unet(), or only the videos"
        )


def check_call(run: "Experiment") -> None:
    """Traces a call of the network with the shapes of training; ConfigError if that fails."""
    built, shape = run.model, tuple(run.source.shape)
    n = max(run.config.batch // run.config.accumulate, 1)  # the batch of a training step
    image, label = jax.ShapeDtypeStruct((n, *shape), jnp.uint8), jax.ShapeDtypeStruct((n,), int)
    more = {"augment": run.augment.size, "latent": built.traits.latent}
    words = as_read(run.text, np.zeros((1, run.text.length), np.int32)) if run.text else None

    def predict(image: Array, label: Array) -> Array:
        rows = {} if words is None else {"text": jnp.repeat(jnp.asarray(words)[None], n, 0)}
        rows |= {"embedding": jnp.zeros((n, built.embedding))} if built.embedding else {}
        x, cond = built.examples({"image": image, "label": label.astype(jnp.int32), **rows})
        cond |= {k: jnp.zeros((n, size)) for k, size in more.items() if size}
        cond |= {k: jnp.zeros(n) for k in built.cond_scalars}
        if built.from_latent:
            cond["low"] = jnp.zeros((n, *(built.given_shape(shape) or ())))
        keys = jax.random.split(jax.random.key(0), n)
        z = jnp.zeros((n, *built.z_shape(shape)), x.dtype)
        return built.denoiser(built.init(keys[0], shape), keys)(z, jnp.zeros(n), cond).x

    embeddings.check_network(run)
    with foreign(
        f"network {run.config.network} cannot be called as init(key, z, gamma, cond) and "
        "apply(variables, z, gamma, cond, keys)"
    ):
        jax.eval_shape(predict, image, label)


def check_named(run: "Experiment") -> None:
    """Checks name and arguments (`ConfigError`) of plug-ins that only later modes will build."""
    c = run.config
    registry.build("edits", c.edit.method)
    context = {"shape": run.source.shape, "levels": run.source.levels, "open_classifier": None,
               "open_clip": None}  # fmt: skip
    for kind, field, spec in (
        ("features", "quality.features", c.quality.features),
        ("features", "quality.nearest", c.quality.nearest),
        ("judges", "quality.judge", c.quality.judge),
        ("judges", "sample.judge", c.sample.judge if "(" in c.sample.judge else ""),
        ("grids", "compress.grid", c.compress.grid),
        ("data", "sample.captions_of", c.sample.captions_of),
        ("data", "inform.data", c.inform.data),
        ("data", "ood.data", c.ood.data),
        ("data", "ood.against", c.ood.against),
    ):
        try:
            if spec:
                registry.check(kind, spec, data_dir=c.data_dir, workers=c.data_workers, **context)
        except SpecError as e:
            raise ConfigError(f"{field}: {e}") from e


def _space(run: "Experiment", context: dict[str, Any]) -> tuple[Decoder, Autoencoder]:
    """The decoder, and the autoencoder between data and latents."""
    decoder = registry.build("decoders", run.config.decoder, **context)
    autoencoder = autoencoders.build(run.config.autoencoder, decoder=decoder, **context)
    return decoder, autoencoder


def _check_takes_latent(run: "Experiment", autoencoder: Autoencoder) -> None:
    """Raises ConfigError if a model of pixels cannot be conditioned on these latents."""
    c = run.config
    if not takes_latent(run):
        return
    if registry.parse(c.autoencoder).name == "pixels" or is_trained(autoencoder):
        raise ConfigError(
            f"view {c.view} reads images from the latents of a trained autoencoder: "
            "give its run, --config.autoencoder=\"conv(checkpoint='runs/vae')\""
        )
    if hasattr(autoencoder, "vectors"):
        raise ConfigError(
            f"view {c.view}: {c.autoencoder} decodes its latents exactly; nothing is left to model"
        )


def _check_latents(run: "Experiment", built: Model) -> None:
    """Raises ConfigError for settings that are incompatible with latents of an autoencoder."""
    c, traits = run.config, built.traits
    if traits.latent_noise:
        spec = "encoder" if traits.time_dependent_data else "schedule"
        who, instead = f"{spec} {c[spec]}", "use noise='fixed' in the autoencoder"
        if traits.time_dependent_data or traits.latent:
            require(built, who, instead, latent_noise=False)
    shape = run.source.shape  # of the whole image
    part, latent = (math.prod(s) for s in (built.shape(shape), built.z_shape(shape)))
    if traits.latent_noise or latent >= part:
        return
    # The end of the schedule itself: its arguments may override config.gamma_min.
    gamma_0 = float(endpoints(built.schedule, built.schedule.init(jax.random.key(0)))[0].min())
    if gamma_0 < _LEAST_LATENT:
        bits = 0.5 * math.log2(1.0 + math.exp(-gamma_0))
        raise ConfigError(
            f"gamma_min={gamma_0:g}: without noise in the autoencoder, each latent would carry "
            f"{bits:.1f} bits; use about {built.space.gamma_min:g}, or noise='learned' in the "
            "autoencoder"
        )


def settle(run: "Experiment", asked: Collection[str] = ()) -> None:
    """Fills in settings that follow from the data or a teacher.

    They are saved as values, because the rules may change. Settings from the command line
    (`asked`) must agree with a teacher's.
    """
    from diffusion_jax.experiment import teachers

    c = run.config
    teachers.settle(run, asked)
    embeddings.settle(run)
    texts.settle(run)
    latents.settle(run)
    if c.gamma_min is None:
        c.gamma_min = _least_noise(run)
    if any(isinstance(label, str) for label in c.sample.labels):
        c.sample.labels = class_numbers(run.source, c.sample.labels)


def _least_noise(run: "Experiment") -> float:
    """The default `gamma_min`: by the number of levels for pixels, or from the autoencoder."""
    c, source = run.config, run.source
    if registry.parse(c.autoencoder).name == "pixels" or takes_latent(run):
        return least_noise(source.levels)
    context = {"levels": source.levels, "channels": source.shape[-1], "shape": tuple(source.shape)}
    return _space(run, context)[1].gamma_min


def offered(run: "Experiment") -> dict[str, Any]:
    """Properties of data and settings for the `make` of networks, by parameter name."""
    c, source, device = run.config, run.source, run.mesh.devices.flat[0]
    if c.dtype not in ("float32", "bfloat16"):
        raise ConfigError(f"dtype={c.dtype!r}: allowed: float32, bfloat16")
    gamma_min = _least_noise(run) if c.gamma_min is None else c.gamma_min
    check_ends(gamma_min, c.gamma_max)
    part, shape = view(run), tuple(source.shape)
    part_shape, given = part.shape(shape), part.given_shape(shape)
    if takes_latent(run):
        context = {"levels": source.levels, "channels": part_shape[-1], "shape": part_shape}
        given = _space(run, context)[1].latent_shape(part_shape)
    return {
        "gamma_min": gamma_min,
        "gamma_max": c.gamma_max,
        "levels": source.levels,
        "channels": part_shape[-1],
        "shape": part_shape,
        "low": given[-1] if given else 0,
        "given": given[0] if given and len(given) == 4 else 0,
        "classes": source.classes,
        "stills": source.stills,
        "dtype": c.dtype,
        "platform": device.platform,
        "memory": of_device(device),
        "devices": run.mesh.devices.size,
    }

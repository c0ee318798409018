"""A model of latents and one that reads images from them: one bound, one file, one picture."""

import json
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from command import main
from kraft_sum import bounds_of, everything, kraft, law
from low_image_network import Leaning
from test_kraft_latents import LITTLE, MUCH, Linear, head_of

from diffusion_jax import registry
from diffusion_jax.compression import coder as coding
from diffusion_jax.compression.model_functions import Network
from diffusion_jax.data.views.from_latent import FromLatent
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import latent_decoder, open_run
from diffusion_jax.model import Model
from diffusion_jax.process.given_latent import in_own_units
from diffusion_jax.process.parameterization import from_pred
from diffusion_jax.process.without_decoder import unread
from diffusion_jax.types import Pred, alpha, expand, sigma

ENDS = "gamma_min=-5.0, gamma_max=5.5"


@dataclass(frozen=True)
class ExactReader:
    """E[x | z, y_0] of images with probabilities `p`, given what their latent says of them."""

    points: Any  # [N, ...], in model space
    p: Any
    means: Any  # [N, ...], of their latents
    variance: float  # of y_0 around these

    def init(self, key, z, gamma, cond):
        return {"params": {}}

    def apply(self, variables, z, gamma, cond, keys=None):
        g = expand(gamma, z)
        axes = tuple(range(2, z.ndim + 1))
        near = jnp.square((z[:, None] - alpha(g)[:, None] * self.points) / sigma(g)[:, None])
        told = jnp.square(cond["low"][:, None] - self.means) / self.variance
        weight = jax.nn.softmax(jnp.log(self.p) - 0.5 * (near.sum(axes) + told.sum(axes)))
        x = jnp.einsum("bn,n...->b...", weight, self.points)
        return from_pred("eps", Pred(x, (z - alpha(g) * x) / sigma(g)), gamma)


def two_parts(strength, std, objective):
    """The bounds of both stages on all images of a small world, with the exact reader."""
    images, levels = everything((1, 2, 1), 3), 3
    p = law(len(images))
    between = Linear(head_of("categorical", 1), strength, std)
    schedule = registry.build("schedules", f"linear({ENDS})")
    decoder = registry.build("decoders", "categorical()", levels=levels)
    objective = registry.build("objectives", objective)
    normal = registry.build("backbones", "standard_normal()")
    first = Model(normal, schedule, decoder, "v", autoencoder=unread(between))
    x = decoder.encode(jnp.asarray(images))
    means, variance = between.encode({}, x)[0], (std or 0.0) ** 2 + math.exp(-5.0)
    reader = ExactReader(x, jnp.asarray(p), means, variance)

    @dataclass(frozen=True)
    class WithWeights(type(between)):
        def init(self, key, shape):
            return {"none": jnp.zeros(())}

    told = WithWeights(between.head, strength, std)
    last = Model(reader, schedule, decoder, "eps", view=FromLatent(), autoencoder=told)
    return p, *(bounds_of(m, objective, images) for m in (first, last))


@pytest.mark.parametrize("std", [None, 0.9])
def test_both_bounds_together_spend_no_more_than_there_is(std):
    """Kraft's inequality of the two-part bound; the reader alone sees what a receiver would not."""
    p, latent, read = two_parts(LITTLE, std, "continuous()")
    assert kraft(latent + read) < 1.01
    if std:
        assert kraft(latent + read) > 0.9
    _, latent, read = two_parts(MUCH, std, "continuous()")
    assert kraft(latent + read) < 1.0
    assert kraft(read) > 1.2  # without the bits of what it is told
    assert float((p * read).sum()) < float(-(p * np.log(p)).sum())


def networks(shape, levels, batch=2):
    """Both stages with random weights."""
    decoder = registry.build("decoders", "categorical()", levels=levels)
    spec = "conv(widths=(8,), channels=1, attention=False, head=categorical(), checkpoint='x')"
    between = registry.build("autoencoders", spec, levels=levels, shape=shape)
    schedule = registry.build("schedules", f"linear({ENDS})")
    first = Model(
        registry.build("backbones", "standard_normal()"), schedule, decoder, "v",
        autoencoder=unread(between),
    )  # fmt: skip
    last = Model(Leaning(), schedule, decoder, "v", view=FromLatent(), autoencoder=between)
    made = []
    for i, model in enumerate((first, last)):
        params = jax.jit(lambda model=model: model.init(jax.random.key(0), shape))()
        leaves, tree = jax.tree.flatten(params)
        keys = jax.random.split(jax.random.key(i), len(leaves))
        rough = [a + 0.01 * jax.random.normal(k, a.shape)
                 for k, a in zip(keys, leaves, strict=True)]  # fmt: skip
        made.append(jax.tree.unflatten(tree, rough))
    made[1]["autoencoder"] = made[0]["autoencoder"]
    return [Network(m, p, shape, batch) for m, p in zip((first, last), made, strict=True)]


@pytest.mark.parametrize("order", ["bitswap", "topdown"])
def test_a_file_of_both_is_as_long_as_their_bound(order):
    shape, levels = (4, 4, 1), 5
    first, last = networks(shape, levels)
    coder = coding.make(last, timesteps=10, order=order, group=4, before=[first])
    images = np.asarray(jax.random.randint(jax.random.key(2), (5, *shape), 0, levels), np.uint8)
    coded = coding.encode(coder, images, None)
    back, _ = coding.decode(coder, coded.groups, len(images))
    np.testing.assert_array_equal(back, images)
    assert coded.bits.sum() * math.log(2.0) == pytest.approx(coded.nats.sum(), rel=3e-3)
    # The latents' own share is there too.
    alone = coding.encode(coding.make(first, 10, order, group=4), images, None)
    assert coded.nats.sum() > alone.nats.sum() > 0


CONV = "conv(widths=(4,), channels=2, attention=False, head=categorical())"


def train(folder, name, **changes):
    tiny.config(folder)
    c = tiny.config(folder, steps=2, save_every=1, eval_every=0, **changes)
    c.eval.timesteps, c.sample.num = (), 0 if c.view == "whole()" else 3
    (folder / f"{name}.json").write_text(c.to_json())
    done = main(f"--config={folder / name}.json", f"--workdir={folder / name}", "--trust")
    assert done.returncode == 0, done.stderr
    return folder / name


NORMAL = {"network": "standard_normal()", "prediction": "v", "gamma_min": None}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """An autoencoder, a model of its latents, and what reads images from them."""
    folder = tmp_path_factory.mktemp("decoded")
    vae = train(folder, "vae", autoencoder=CONV, objective="vae()", conditional=False,
                guidance="none()", **NORMAL)  # fmt: skip
    taken = f"conv(checkpoint={str(vae)!r})"
    latent = train(folder, "latent", autoencoder=taken, **NORMAL)
    decoder = train(folder, "decoder", autoencoder=taken, view="from_latent()", prediction="v",
                    network="tests.low_image_network()")  # fmt: skip
    return {"vae": vae, "latent": latent, "decoder": decoder}


def together(runs, mode, where, *more, names=("latent", "decoder")):
    stages = ",".join(str(runs[n]) for n in names)
    return main(mode, f"--config.stages={stages}", f"--workdir={where}", "--trust", *more)


@pytest.mark.slow
def test_bits_are_the_latents_and_the_images_given_them(runs, tmp_path):
    done = together(runs, "eval", tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "eval" / "2.json").read_text())["result"]
    latent, image = found["stages"]
    assert found["bits_per_dim"] == pytest.approx(latent["bits_per_dim"] + image["bits_per_dim"])
    own = json.loads((runs["latent"] / "eval" / "2.json").read_text())["result"]["latent"]
    assert latent["bits_per_dim"] == pytest.approx(own["in_z_0"]["bits_per_dim"], rel=1e-5)
    assert latent["breakdown"]["reconstruction"]["bits_per_dim"] == 0.0
    alone = json.loads((runs["decoder"] / "eval" / "2.json").read_text())["model"]
    assert alone["given"] == "class and the latent"


@pytest.mark.slow
def test_one_pair_of_runs_in_every_mode(runs, tmp_path):
    asked = {
        "sample": (), "compress": ("--config.compress.limit=3", "--config.compress.timesteps=4"),
        "decompress": ("--config.compress.verify",),
        "eval": ("--config.eval.likelihood=ode(steps=2)", "--config.eval.limit=3"),
        "report": (),
    }  # fmt: skip
    for mode, more in asked.items():
        done = together(runs, mode, tmp_path, *more)
        assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "samples" / "2.npz") as f:
        assert f["image"].shape == (3, 4, 4, 1) and f["image"].dtype == np.uint8
    assert (tmp_path / "samples" / "2_levels.png").exists()


def test_latents_are_translated_into_the_units_of_the_reader():
    """y of one run and of the other mean the same numbers of the autoencoder, `y scale + shift`."""
    rng = np.random.default_rng(0)
    mine, theirs = (
        {"standard": {"scale": rng.uniform(0.5, 2.0, 3), "shift": rng.normal(size=3)}}
        for _ in range(2)
    )
    scale, shift = latent_decoder._between(mine, theirs)
    y = rng.normal(size=(5, 3))
    told = in_own_units({"units": {"scale": scale, "shift": shift}}, y)
    raw = [
        v * p["standard"]["scale"] + p["standard"]["shift"] for v, p in ((told, mine), (y, theirs))
    ]
    np.testing.assert_allclose(*raw, rtol=1e-12)


@pytest.mark.slow
def test_a_reader_is_of_the_noise_that_its_latents_come_with(runs):
    """That of a model of the same checkpoint; other noise is refused, with what would do."""
    decoder, latent = (open_run(runs[n], trust=True) for n in ("decoder", "latent"))
    told = latent_decoder.in_units_of((latent, decoder), (latent.params, decoder.params))[1][
        "units"
    ]
    assert float(told["gamma"]) == pytest.approx(-5.0, abs=1e-3)
    np.testing.assert_allclose(told["scale"], 1.0, rtol=1e-4)
    np.testing.assert_allclose(told["shift"], 0.0, atol=1e-4)
    vae = open_run(runs["vae"], trust=True)
    with pytest.raises(
        ConfigError, match=r"trained with -5.00: train it with view='from_latent\(g"
    ):
        latent_decoder.in_units_of((vae, decoder), (vae.params, decoder.params))


@pytest.mark.slow
def test_weights_of_the_autoencoder_stay_and_go_on_bit_for_bit(runs, tmp_path):
    decoder, latent = (open_run(runs[n], trust=True).params for n in ("decoder", "latent"))
    jax.tree.map(np.testing.assert_array_equal, decoder["autoencoder"], latent["autoencoder"])
    saved = runs["decoder"].parent / "decoder.json"
    for steps in (1, 2):
        done = main(f"--config={saved}", f"--workdir={tmp_path / 'run'}",
                    f"--config.steps={steps}", "--trust")  # fmt: skip
        assert done.returncode == 0, done.stderr
    again = open_run(tmp_path / "run", trust=True).params
    jax.tree.map(np.testing.assert_array_equal, again, decoder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "mode", "more", "says"),
    [
        (("decoder", "latent"), "eval", (), "not the levels of one cascade"),
        (("decoder", "decoder"), "eval", (), "give a run of latents of whole images"),
        (("vae", "decoder"), "eval", (), "trained on the same data"),
        (("latent", "decoder"), "edit", (), "editing takes a run of latents on its own"),
        (("latent", "decoder"), "sample", ("--config.sample.low_gamma=-1.0",), "no stage has"),
        (("latent", "decoder"), "eval", ("--config.eval.likelihood=ode(k=2)",), "use k=1"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(runs, tmp_path, names, mode, more, says):
    done = together(runs, mode, tmp_path, *more, names=names)
    assert done.returncode == 2
    assert says in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"autoencoder": "pixels()"}, "the latents of a trained autoencoder"),
        ({"autoencoder": CONV}, "the latents of a trained autoencoder"),
        ({"network": "standard_normal()"}, "network standard_normal.* does not accept"),
    ],
)
def test_settings_that_cannot_read_latents(tmp_path, changes, says):
    taken = CONV.replace("conv(", "conv(checkpoint='x', sha256='0', ")
    settings = {"view": "from_latent()", "autoencoder": taken, "network": "vdm_unet()", **changes}
    with pytest.raises(ConfigError, match=says) as raised:
        tiny.experiment(tmp_path, **settings).model  # noqa: B018
    assert "\n" not in str(raised.value)

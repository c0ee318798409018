"""Guidance from the start of a run to its end: calls, steps, edges and laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closed_form import MIXTURE, Gaussian, build, law
from gaussian_edits import Classes
from guided import batch, guide, same

from diffusion_jax import registry
from diffusion_jax.model import Model
from diffusion_jax.runtime.sharding import make_mesh
from diffusion_jax.sampling import generate, integrate
from diffusion_jax.sampling.guidance.base import Context
from diffusion_jax.sampling.method import Method

pytestmark = pytest.mark.usefixtures("float64")
KEY = jax.random.key(0)


def test_interval_inside_a_run_saves_the_calls():
    """Guided steps call the network with twice the batch, the others with the batch."""
    sizes = []

    def denoiser(z, gamma, cond):
        jax.debug.callback(lambda n=z.shape[0]: sizes.append(n))
        return MIXTURE.conditional(z, gamma, cond)

    z, cond = batch()
    denoise = guide("interval(cfg(w=3.0), lo=-1.0, hi=2.0)", denoiser=denoiser)
    gammas = np.array([4.0, 2.0, 0.0, -1.0, -3.0])
    jax.block_until_ready(
        integrate(lambda z, g: denoise(z, g, cond), build("ddim()"), gammas, z, KEY)
    )
    jax.effects_barrier()
    assert sorted(sizes) == [3, 3, 6, 6]


def test_cfgpp_is_a_ddim_step_with_a_growing_weight():
    z, cond = batch()
    for gammas in ([4.0, 3.0], [0.0, -2.5]):
        lam, h = 0.4, (gammas[0] - gammas[1]) / 2
        step = lambda denoise, gammas=gammas: integrate(
            lambda z, g: denoise(z, g, cond), build("ddim()"), np.array(gammas), z, KEY
        )
        w = lam / (1.0 - np.exp(-h))
        same(step(guide(f"cfgpp(lam={lam})")), step(guide(f"cfg(w={w})")))
    same(guide("cfgpp(lam=0.0)")(z, jnp.asarray(0.5), cond), MIXTURE.denoise(z, jnp.asarray(0.5)))


def test_multistep_history_survives_the_edge_of_an_interval():
    """Against the flow, run piece by piece: one step of lower order at each edge, no more."""
    z, cond = batch()
    lo, hi = -2.0, 2.0

    def run(spec, sampler, gammas, z):
        denoise = guide(spec)
        return integrate(lambda z, g: denoise(z, g, cond), build(sampler), gammas, z, KEY)

    true = z
    for spec, top, bottom in [("none()", 4, hi), ("cfg(w=3.0)", hi, lo), ("none()", lo, -6)]:
        true = run(spec, "rk4()", np.linspace(top, bottom, 65), true)
    errors = []
    for steps in (40, 160):
        found = run(f"interval(cfg(w=3.0), {lo}, {hi})", "dpmpp_2m()",
                    np.linspace(4, -6, steps + 1), z)  # fmt: skip
        errors.append(np.abs(found - true).max())
    assert errors[1] < 0.45 * errors[0], errors
    assert errors[1] < 0.005, errors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "limit", "steps", "tol"),
    [("heun()", 1 / 16, 400, 1e-4), ("dpmpp_2m(eta=1.0)", 7 / 64, 50, 6e-3)],
)
def test_guided_gaussians_follow_their_own_flow(monkeypatch, sampler, limit, steps, tol):
    """Neither an ODE nor an SDE solver draws from the tilted law, whose variance is 1/7.

    Unconditional variance 1, conditional 1/4, w = 2. The guided score is linear: along the ODE,
    `(z / alpha)^2` goes as `(1 + rho^2)^(1-w) (1/4 + rho^2)^w`.
    """
    wide, narrow = (Gaussian(np.zeros(1), np.eye(1) * v) for v in (1.0, 0.25))

    class Guided:
        mean = np.zeros(1)

        def denoise(self, z, gamma, constant):
            def model(z, gamma, cond):
                one = jnp.tile(constant, (z.shape[0] // constant.shape[0], 1))
                each = [data.denoise(z, gamma, one) for data in (narrow, wide)]
                told = (cond["label"] == 0)[:, None]
                return jax.tree.map(lambda a, b: jnp.where(told, a, b), *each)

            context = Context(null=lambda cond: {"label": cond["label"] + 1})
            guided = registry.build("guidance", "cfg(w=2.0)")(model, context)
            return guided(z, gamma, {"label": jnp.zeros(z.shape[0], int)})

    gammas = np.linspace(14.0, -14.0, steps + 1)
    if sampler == "heun()":  # deterministic and linear: one number says it all
        denoise = lambda z, gamma: Guided().denoise(z, gamma, jnp.zeros((1, 1)))
        end = integrate(denoise, build(sampler), gammas, jnp.ones((1, 1)), KEY)
        variance = float(end[0, 0]) ** 2
    else:
        start = np.zeros(1), np.eye(1)
        variance = law(monkeypatch, Guided(), sampler, gammas, start=start)[1].item()
    assert variance == pytest.approx(limit, abs=tol)
    assert abs(variance - 1 / 7) > 0.03


@pytest.mark.parametrize("guidance", ["none()", "cfg(w=1.0)"])
def test_each_image_is_drawn_of_its_own_class(guidance):
    """With exact predictions of a labelled mixture, images lie about the mean of their class."""
    ends = {"gamma_min": -12.0, "gamma_max": 9.0}
    schedule = registry.build("schedules", "linear()", **ends)
    model = Model(Classes(), schedule, registry.build("decoders", "gaussian()"), "x", 3)
    method = Method(
        guidance=registry.build("guidance", guidance),
        sampler=build("ddim()"),
        gammas=np.linspace(9.0, -12.0, 31),
        final=registry.build("final_steps", "identity()"),
    )
    mesh, labels = make_mesh(jax.devices()[:1]), np.arange(30, dtype=np.int32) % 3
    run = generate.compile_sampler(model, method, mesh)
    params = {"network": {}, "schedule": {}}
    x = generate.generate(params, run, (1, 2, 1), labels, 30, 12, 0, mesh, quiet=True)
    off = x.reshape(30, 2) - MIXTURE.means[labels]  # deviations are 0.2, means 1.2 apart at least
    assert np.abs(off).max() < 0.9
    assert np.abs(off.mean(0)).max() < 4 * 0.2 / np.sqrt(30)

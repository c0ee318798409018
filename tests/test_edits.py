"""Edits on Gaussian images, where what they should give is known in closed form."""

import itertools
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closed_form import MIXTURE

from diffusion_jax import registry
from diffusion_jax.edits._fill import keep
from diffusion_jax.edits._pairs import slerp
from diffusion_jax.edits._windows import Border, tiling
from diffusion_jax.edits.base import Brush, Canvas, Inputs
from diffusion_jax.edits.widen import windowed
from diffusion_jax.encoders.identity import Identity
from diffusion_jax.errors import ConfigError
from diffusion_jax.evaluation.generate import Method
from diffusion_jax.guidance.base import Context
from diffusion_jax.inversion import invert
from diffusion_jax.model import Model
from diffusion_jax.types import Pred, alpha, expand, sigma

pytestmark = pytest.mark.usefixtures("float64")
KEY = jax.random.key(0)
ENDS = (-12.0, 9.0)


@dataclass(frozen=True)
class Network:
    """`E[eps | z]` for images ~ N(mean, cov), pixels in reading order."""

    cov: tuple
    mean: float = 0.0

    def apply(self, variables, z, gamma, cond, keys=None):
        cov = jnp.asarray(self.cov)
        g = expand(gamma, z.reshape(len(z), -1))
        a, s = (f(g).ravel()[:1] for f in (alpha, sigma))  # one gamma for the batch
        off = z.reshape(len(z), -1) - a * self.mean
        total = a[0] ** 2 * cov + s[0] ** 2 * jnp.eye(len(cov))
        return (s * jnp.linalg.solve(total, off.T).T).reshape(z.shape)


@dataclass(frozen=True)
class Classes:
    """`E[x | z]` for the two pixels of a labelled mixture."""

    def apply(self, variables, z, gamma, cond, keys=None):
        return MIXTURE.conditional(z.reshape(-1, 2), gamma, cond).x.reshape(z.shape)


def brush(network, gammas, sampler="dpmpp_2m()", prediction="eps", classes=0, encoder=None):
    model = Model(
        network=network,
        schedule=registry.build("schedules", "linear()", gamma_min=ENDS[0], gamma_max=ENDS[1]),
        decoder=registry.build("decoders", "gaussian()"),
        prediction=prediction,
        num_classes=classes,
        encoder=encoder or Identity(),
    )
    method = Method(
        guidance=registry.build("guidance", "none()"),
        sampler=registry.build("samplers", sampler),
        gammas=gammas,
        final=registry.build("finals", "identity()"),
    )
    return Brush(model, {"network": {}, "schedule": {}}, method, Context())


def grid(steps):
    return np.linspace(ENDS[1], ENDS[0], steps + 1)


def edited(spec, network, images, mask=None, steps=40, each=1, cond=None, **options):
    """What an edit makes of images `[N, H, W, 1]`."""
    edit = registry.build("edits", spec) if isinstance(spec, str) else spec
    masks = None if mask is None else np.broadcast_to(mask, (len(images), *mask.shape))
    layout = edit.lay_out(Inputs(np.asarray(images), masks, cond or {}, each))
    tool = brush(network, edit.plan(grid(steps)), **options)
    edit.check(tool.model, tool.method)
    tool = replace(tool, shared=layout.shared)
    canvas = jax.tree.map(jnp.asarray, layout.canvas)
    return np.asarray(jax.jit(lambda c, k: edit.paint(tool, c, k))(canvas, KEY))


# Two pixels of correlation 0.8; the first is known.
PAIR = Network(((1.0, 0.8), (0.8, 1.0)))
MASK = np.array([0.0, 1.0]).reshape(1, 2, 1)
KNOWN = 1.5


def mean_error(monkeypatch, spec, **options):
    """Error of the unknown pixel's mean: steps are affine, so it is that of a run without noise."""
    with monkeypatch.context() as m:
        m.setattr(jax.random, "normal", lambda key, shape, dtype=float: jnp.zeros(shape, dtype))
        end = edited(spec, PAIR, np.array([KNOWN, 9.0]).reshape(1, 1, 2, 1), MASK, **options)
    return abs(end[0, 0, 1, 0] - 0.8 * KNOWN)


def test_replacement_is_biased_whatever_the_number_of_steps(monkeypatch):
    errors = [mean_error(monkeypatch, "replace()", sampler="ancestral()", steps=n)
              for n in (50, 200)]  # fmt: skip
    assert min(errors) > 0.2
    assert errors[1] == pytest.approx(errors[0], rel=0.2)


def test_repaint_errs_as_one_over_its_repeats(monkeypatch):
    error = lambda r: mean_error(
        monkeypatch, f"repaint(resamplings={r})", sampler="ancestral()", steps=50
    )
    one, ten, forty = error(1), error(10), error(40)
    assert ten < one / 3
    assert forty == pytest.approx(ten / 4, rel=0.35)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["dpmpp_2m()", "dpmpp_2m(eta=1.0)"])
def test_exact_measurement_gives_the_posterior(monkeypatch, sampler):
    spec = "measure(method='exact', noise=0.01)"
    assert mean_error(monkeypatch, spec, sampler=sampler, steps=200) < 0.02
    images = np.full((5000, 1, 2, 1), KNOWN)
    end = edited(spec, PAIR, images, MASK, sampler=sampler, steps=60)
    assert end[:, 0, 1, 0].var() == pytest.approx(1.0 - 0.8**2, abs=0.035)


@dataclass(frozen=True)
class Mixing:
    """An encoder in which every pixel sees the others."""

    mean_coefficient: float = 0.0

    def __call__(self, params, x, gamma, cond, keys):
        return x + x.sum((1, 2, 3), keepdims=True), jnp.zeros_like(x)


@pytest.mark.slow
def test_what_is_under_the_mask_is_never_seen():
    a, b = (np.array([KNOWN, hidden]).reshape(1, 1, 2, 1) for hidden in (0.0, 50.0))
    for spec in ("replace()", "measure(method='dps')", "outpaint(right=1)"):
        mask = None if "outpaint" in spec else MASK
        ends = [edited(spec, PAIR, x, mask, steps=5, encoder=Mixing()) for x in (a, b)]
        np.testing.assert_array_equal(*ends)


@pytest.mark.slow
@pytest.mark.parametrize("start", [-2.0, 3.0])
@pytest.mark.parametrize("sampler", ["rk4()", "dpmpp_2m(eta=1.0)"])
def test_sdedit_has_the_law_of_its_start(sampler, start):
    """Data N(m, v), source x_0: the flow scales what enters, the SDE draws from its posterior."""
    m, v, x_0 = 0.4, 0.3, -1.0
    end = edited(f"sdedit(start={start})", Network(((v,),), m), np.full((40000, 1, 1, 1), x_0),
                 sampler=sampler, steps=120)  # fmt: skip
    a2, s2 = 1.0 / (1.0 + np.exp(start)), 1.0 / (1.0 + np.exp(-start))
    total = a2 * v + s2
    if sampler == "rk4()":
        mean, var = m + np.sqrt(v * a2 / total) * (x_0 - m), v * s2 / total
    else:
        mean = m + a2 * v / total * (x_0 - m)
        var = v * s2 / total + a2 * v**2 * s2 / total**2
    assert end.mean() == pytest.approx(mean, abs=0.015)
    assert end.var() == pytest.approx(var, abs=0.012)


@pytest.mark.slow
def test_blending_keeps_the_source_and_starts_from_it():
    """With everything masked it is SDEdit; with a start near the data nothing moves."""
    x = np.random.default_rng(0).normal(size=(3, 1, 2, 1))
    every = np.ones((1, 2, 1))
    same = [edited("blend(start=1.0)", PAIR, x, every), edited("sdedit(start=1.0)", PAIR, x)]
    np.testing.assert_allclose(*same, atol=1e-12)
    np.testing.assert_allclose(edited("blend(start=-11.0)", PAIR, x, MASK), x, atol=0.03)
    far = edited("blend(start=8.0)", PAIR, x, MASK)
    np.testing.assert_allclose(far[..., 0, 0], x[..., 0, 0], atol=0.03)
    assert np.abs(far[..., 1, 0] - x[..., 1, 0]).max() > 0.1


@pytest.mark.slow
def test_inversion_finds_the_way_back_at_the_order_of_its_solver():
    x = np.random.default_rng(0).normal(size=(2, 2))
    denoise = MIXTURE.denoise

    def there(solver, steps):
        gammas = np.linspace(-6.0, 4.0, steps + 1)
        return invert(denoise, registry.build("samplers", solver), gammas, jnp.asarray(x))

    true = there("rk4()", 400)
    for solver, order in (("ddim()", 1), ("heun()", 2), ("rk4()", 4)):
        coarse, fine = (np.abs(there(solver, n) - true).max() for n in (40, 80))
        assert np.log2(coarse / fine) == pytest.approx(order, abs=0.45)
    with pytest.raises(ConfigError, match="deterministic"):
        there("ancestral()", 4)
    with pytest.raises(ConfigError, match="ascending"):
        invert(denoise, registry.build("samplers", "heun()"), np.array([1.0, 0.0]), jnp.asarray(x))


def test_interpolation_ends_at_its_inputs_whatever_their_classes():
    x = np.array([[-0.9, 0.6], [1.2, 0.8], [0.3, -0.2], [0.4, -0.4]]).reshape(4, 1, 2, 1)
    end = edited("interpolate(frames=5)", Classes(), x, steps=150, sampler="heun()",
                 prediction="x", classes=3, cond={"label": np.array([0, 2, 1, 3])})  # fmt: skip
    end = end.reshape(2, 5, 1, 2, 1)
    np.testing.assert_allclose(end[:, 0], x[::2], atol=3e-3)
    np.testing.assert_allclose(end[:, -1], x[1::2], atol=3e-3)


def test_interpolation_of_white_data_is_on_the_sphere():
    """For N(0, v I) the flow only scales: frames are the arc between the images themselves."""
    x = np.array([[2.0, 0.0], [0.0, 2.0]]).reshape(2, 1, 2, 1)
    end = edited("interpolate(frames=3)", Network(((0.5, 0.0), (0.0, 0.5))), x, steps=150)
    np.testing.assert_allclose(end[1].ravel(), [2**0.5, 2**0.5], atol=2e-3)


def test_slerp_ends_exactly_and_survives_parallel_vectors():
    a, b = jax.random.normal(KEY, (2, 4, 3, 3, 1))
    between = jax.jit(slerp)
    np.testing.assert_allclose(between(a, b, jnp.zeros(4)), a, atol=1e-12)
    np.testing.assert_allclose(between(a, b, jnp.ones(4)), b, atol=1e-12)
    np.testing.assert_allclose(between(a, 3.0 * a, jnp.full(4, 0.5)), 2.0 * a, atol=1e-12)


def test_noise_is_shared_along_a_line_and_only_there():
    x = np.full((2, 1, 2, 1), 0.7)  # from an image to itself
    end = edited("interpolate_noise(frames=4)", PAIR, x, each=2).reshape(2, 4, 2)
    np.testing.assert_allclose(end, end[:, :1] + np.zeros((2, 4, 2)), atol=1e-9)
    assert np.abs(end[0] - end[1]).min() > 1e-3


@pytest.mark.parametrize(
    ("canvas", "window", "sides", "stride"),
    [
        ((8, 16), (8, 8), (0, 8, 0, 0), 0),
        ((6, 9), (4, 4), (2, 3, 1, 1), 3),
        ((7, 7), (4, 5), (2, 0, 0, 3), 1),
    ],
)  # fmt: skip
def test_windows_cover_the_canvas_from_the_source_outwards(canvas, window, sides, stride):
    left, right, top, bottom = sides
    tiles = tiling("widen", canvas, window, Border(left, right, top, bottom), stride)
    assert tiles.corners[0] == (top, left)
    seen = np.zeros(canvas, bool)
    for k, (y, x) in enumerate(tiles.corners):
        assert 0 <= y <= canvas[0] - window[0] and 0 <= x <= canvas[1] - window[1]
        part = seen[y : y + window[0], x : x + window[1]]
        assert k == 0 or part.any(), "a window that shares nothing with those before"
        part[:] = True
    assert seen.all()
    # What is cut out and averaged is what it was.
    a = jax.random.normal(KEY, (3, *canvas, 2))
    back = jax.jit(lambda a: tiles.average(tiles.cut(a)))(a)
    np.testing.assert_allclose(back, a, atol=1e-12)


def test_a_windowed_denoiser_of_independent_pixels_is_the_wide_one():
    tiles = tiling("widen", (2, 7), (2, 3), Border(2, 2, 0, 0), 0)
    z, gamma = jax.random.normal(KEY, (4, 2, 7, 1)), jnp.asarray(0.3)

    def denoise(z, gamma, cond):
        eps = Network(tuple(map(tuple, 0.2 * np.eye(z[0].size))), 0.5).apply({}, z, gamma, cond)
        g = expand(gamma, z)
        return Pred((z - sigma(g) * eps) / alpha(g), eps)

    wide = windowed(denoise, tiles, (), 0)(z, gamma, {})
    true = denoise(z, gamma, {})
    np.testing.assert_allclose(wide.x, true.x, atol=1e-12)
    np.testing.assert_allclose(wide.eps, true.eps, atol=1e-12)
    each = windowed(denoise, tiles, (), 0)(z, jnp.full(4, gamma), {})
    np.testing.assert_allclose(each.x, true.x, atol=1e-12)


def test_windows_have_their_own_labels():
    tiles = tiling("widen", (1, 4), (1, 2), Border(0, 2, 0, 0), 1)
    saw = lambda z, gamma, cond: Pred(*[z * 0.0 + cond["label"].reshape(-1, 1, 1, 1)] * 2)
    wide = windowed(saw, tiles, (7, -1, 3), 10)
    x = wide(jnp.zeros((2, 1, 4, 1)), jnp.asarray(0.0), {"label": jnp.array([1, 2])}).x
    np.testing.assert_allclose(x[0].ravel(), [7.0, 8.5, 6.5, 3.0])
    np.testing.assert_allclose(x[1], x[0])


def ar1(n, rho=0.7):
    return rho ** np.abs(np.subtract.outer(np.arange(n), np.arange(n)))


@pytest.mark.slow
def test_extending_a_markov_process_gives_its_law():
    """Sources from the process, windows of four with two in common: the canvas is the process."""
    network = Network(tuple(map(tuple, ar1(4))))
    x = np.random.default_rng(0).multivariate_normal(np.zeros(4), ar1(4), 6000)
    end = edited("extend(left=2, right=2, inner=measure(method='exact', noise=0.01))", network,
                 x.reshape(-1, 1, 4, 1), sampler="dpmpp_2m(eta=1.0)", steps=60)  # fmt: skip
    np.testing.assert_allclose(end[:, 0, 2:6, 0], x, atol=1e-12)
    np.testing.assert_allclose(np.cov(end.reshape(-1, 8).T), ar1(8), atol=0.07)


@pytest.mark.slow
def test_widening_keeps_the_law_of_independent_pixels():
    network = Network(tuple(map(tuple, 0.3 * np.eye(4))), 0.5)
    x = np.full((20000, 1, 4, 1), 0.1)
    end = edited("widen(right=4)", network, x, steps=60).reshape(-1, 8)
    np.testing.assert_allclose(end[:, :4], 0.1, atol=0.02)
    np.testing.assert_allclose(end[:, 4:].mean(0), 0.5, atol=0.02)
    np.testing.assert_allclose(np.cov(end[:, 4:].T), 0.3 * np.eye(4), atol=0.015)


@dataclass(frozen=True)
class Squared:
    """The encoder `x_gamma = alpha^2 x`: a fresh DiffEnc's."""

    mean_coefficient: float = 1.0

    def __call__(self, params, x, gamma, cond, keys):
        a2 = alpha(expand(gamma, x)) ** 2
        return a2 * x, -a2 * (1.0 - a2) * x


def test_with_an_encoder_the_encoded_source_is_noised():
    x, eps = jax.random.normal(KEY, (2, 3, 1, 2, 1))
    tool = brush(PAIR, np.array([1.0, -5.0]), encoder=Squared())
    a = 1.0 / np.sqrt(1.0 + np.e)
    expected = a**3 * x + np.sqrt(1.0 - a**2) * eps
    np.testing.assert_allclose(tool.noised(x, {}, eps), expected, atol=1e-12)
    # The hook holds known pixels at alpha * alpha^2 x (no noise here), at every gamma.
    canvas = Canvas(x, jnp.broadcast_to(MASK, x.shape), {}, {})
    for gamma in (-4.0, 0.0, 4.0):
        with pytest.MonkeyPatch.context() as m:
            m.setattr(jax.random, "normal", lambda key, shape, dtype=float: jnp.zeros(shape, dtype))
            held = keep(tool, x, canvas)(jnp.full_like(x, 9.0), jnp.asarray(gamma), KEY)
        a = 1.0 / np.sqrt(1.0 + np.exp(gamma))
        np.testing.assert_allclose(held[..., 0, 0], a**3 * x[..., 0, 0], atol=1e-12)
        np.testing.assert_array_equal(held[..., 1, 0], 9.0)


@pytest.mark.parametrize(
    "spec", ["repaint()", "blend(resamplings=3)", "outpaint(left=1, inner=repaint())"]
)
def test_going_up_with_an_encoder_is_refused(spec):
    edit = registry.build("edits", spec)
    tool = brush(PAIR, edit.plan(grid(4)), encoder=Squared())
    with pytest.raises(ConfigError, match="encoder"):
        edit.check(tool.model, tool.method)


IMAGE = np.zeros((1, 4, 4, 1), np.uint8)
FILLS = ("replace()", "repaint()", "measure()")
FREE = ("sdedit()", "interpolate()", "interpolate_noise()")
BORDERS = ("outpaint(left=1)", "widen(left=1)", "extend(top=1)")
HALF = np.repeat([0.0, 1.0], 2).reshape(1, 4, 1, 1) * np.ones((1, 4, 4, 1))
LABEL = {"label": np.zeros(1, np.int32)}


@pytest.mark.parametrize(
    ("spec", "changes", "says"),
    [
        *[(s, {"mask": None}, "needs a mask") for s in (*FILLS, "blend()")],
        *[(s, {"mask": 0 * HALF}, "mask is empty") for s in (*FILLS, "blend()")],
        *[(s, {"mask": 0 * HALF + 1}, "covers the whole") for s in FILLS],
        *[(s, {}, "takes no mask") for s in (*FREE, *BORDERS)],
        ("outpaint(left=2, right=2)", {"mask": None}, "covers the whole 4x4"),
        ("interpolate()", {"mask": None}, "not pairs"),
        ("interpolate()", {"mask": None, "each": 2}, "would be equal"),
        ("measure()", {"images": np.zeros((2, 4, 4, 1)), "mask": np.concatenate([HALF, 1 - HALF])},
         "same mask"),
        ("widen(right=4, stride=4)", {"mask": None}, "stride=4"),
        ("widen(right=4, labels=(1, 2))", {"mask": None, "cond": LABEL}, "2 labels for 3 windows"),
        ("extend(right=4, labels=(1, 2, 3))", {"mask": None}, "unconditional"),
        ("extend(right=4, inner=sdedit())", {"mask": None}, "sdedit takes no mask"),
        ("measure(method='exact')", {"images": np.zeros((1, 32, 32, 1)),
                                       "mask": np.arange(1024).reshape(1, 32, 32, 1) % 2},
         "512 .*pigdm"),
    ],
)  # fmt: skip
def test_inputs_that_make_no_sense_are_refused(spec, changes, says):
    given = Inputs(IMAGE, HALF, {}, 1)._replace(**changes)
    with pytest.raises(ConfigError, match=says):
        registry.build("edits", spec).lay_out(given)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("outpaint()", "at least one must be positive"),
        ("widen(left=-1, right=2)", "none negative"),
        ("measure(method='best')", "exact, pigdm, dps"),
        ("measure(noise=0.0)", "positive"),
        ("interpolate(frames=1)", "at least 2"),
        ("interpolate(solver='ancestral()')", "deterministic"),
    ],
)
def test_settings_are_checked(spec, says):
    with pytest.raises(ConfigError, match=says):
        registry.build("edits", spec)


def test_plans_and_methods_are_checked():
    for start, spec in itertools.product(
        (9.5, -12.0, -13.0), ("sdedit", "blend", "interpolate_noise")
    ):
        with pytest.raises(ConfigError, match="outside this model's gammas"):
            registry.build("edits", f"{spec}(start={start})").plan(grid(4))
    lower = registry.build("edits", "sdedit(start=1.0)").plan(np.array([4.0, 2.0, 0.0, -3.0]))
    np.testing.assert_array_equal(lower, [1.0, 0.0, -3.0])
    edit = registry.build("edits", "interpolate()")
    for options, says in (
        ({"sampler": "ancestral()"}, "draws noise"),
        ({"gammas": np.array([3.0, 1.0, 2.0])}, "goes up"),
    ):
        tool = brush(PAIR, **({"gammas": grid(4)} | options))
        with pytest.raises(ConfigError, match=says):
            edit.check(tool.model, tool.method)
    tool = brush(PAIR, grid(4), classes=3)
    for spec in ("widen(right=1, labels=(0, 3))", "extend(right=1, labels=(0, -2))"):
        with pytest.raises(ConfigError, match=r"classes 0 \.\. 2"):
            registry.build("edits", spec).check(tool.model, tool.method)

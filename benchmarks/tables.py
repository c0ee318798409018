"""The tables of `benchmarks.bits`, by work and name."""

from typing import Any

from benchmarks.variants import Part, Table, Variant, Work
from diffusion_jax import registry


def _networks(specs: dict[str, str]) -> Table:
    return Table({name: Variant({"network": spec}) for name, spec in specs.items()})


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
_VDM = {"prediction": "eps", "proposal": "uniform()", "lr_decay": "constant", "clip": 0.0,
        "optimizer": "adamw(b2=0.99, weight_decay=0.01)",
        "network": "vdm_unet(width=32, depth=2, embed=64)"}  # fmt: skip
_OURS = {"network": "unet(width=32, mults=(1, 1, 2), blocks=1, attention=(7,), dropout=0.0)",
         "optimizer": "muon(weight_decay=0.01)"}  # fmt: skip
# Our recipe, a small version of Kingma et al.'s, and ours with one of their settings at a time.
# Their learning rate, 2e-4, is for millions of steps; here it is chosen on held-out images.
_RECIPE = Table(
    {
        "ours": Variant(_OURS),
        "VDM": Variant(_VDM, lrs=(5e-4, 1e-3, 2e-3)),
        **{f"its {name}": Variant(_OURS | {name: v}) for name, v in _VDM.items() if name != "clip"},
        "v": Variant(_OURS | {"prediction": "v"}),
    }
)


def _schedules(mulan: str, encoder: str) -> Table:
    """Learned schedules and encoders. Times are uniform in each schedule's own t."""
    own = {"proposal": "uniform()", "prediction": "v"}
    rows = {
        "linear": {"schedule": "linear()"},
        "learned ends": {},
        "least variance": {"schedule": "learned_mlp()"},
        "learned shape": {"schedule": "learned_mlp()", "minimize_variance": "off"},
        "linear, histogram": {"schedule": "linear()", "proposal": "histogram()"},
        "MuLAN": {"schedule": mulan},
        "DiffEnc": {"encoder": encoder},
    }
    return Table({name: Variant(own | row) for name, row in rows.items()})


def _latents(
    file: str, autoencoder: str, frechet: bool = True, network: str = "", **settings: Any
) -> Table:
    """Pixels, an autoencoder alone, with a prior, and both trained jointly; variants of `file`.

    `network`, if given, replaces the prior's, and `settings` those of all rows but the first.
    """
    prior = settings | ({"network": network} if network else {})

    def alone(share: float) -> Part:
        return Part(share, f"{file}:vae", settings | {"autoencoder": f"conv({autoencoder})"})

    def then(stage: str, more: str = "") -> Variant:
        taken = f"conv({autoencoder}, checkpoint='{{0}}'{more})"
        return Variant(
            parts=(alone(0.5), Part(0.5, f"{file}:{stage}", prior | {"autoencoder": taken}))
        )

    joint = Part(1.0, f"{file}:joint", prior | {"autoencoder": f"conv({autoencoder})"})
    rows = {
        "pixels": Variant(),
        "vae": Variant(parts=(alone(1.0),)),
        "vae, prior": then("prior"),
        "joint": Variant(parts=(joint,)),
        "vae, joint": then("joint", ", train=True"),
    }
    return Table(rows, frechet=frechet)


def _cascade(pyramid: str, stages: int, networks: dict[int, str]) -> Variant:
    """A cascade whose stages divide the budget in proportion to their number of values.

    `networks` maps the number of halvings to the network of that stage; the default is the work's.
    """

    def stage(view: str, share: float, halved: int) -> Part:
        network = {"network": networks[halved]} if halved in networks else {}
        return Part(share, settings={"view": view, **network})

    down = stages - 1
    first = stage(f"low({pyramid}(), level={down})", 0.25**down, down)
    others = (stage(f"high({pyramid}(), level={n})", 3 * 0.25**n, n) for n in range(down, 0, -1))
    return Variant(parts=(first, *others), together=True)


def _stages(networks: dict[int, str], pyramid: str = "subsample") -> Table:
    """One stage (no cascade), two stages and three."""
    more = {f"{n} stages": _cascade(pyramid, n, networks) for n in (2, 3)}
    return Table({"1 stage": Variant(), **more})


def _pyramids(networks: dict[int, str]) -> Table:
    """Two stages with each pyramid."""
    names = registry.available("pyramids")
    return Table({"none": Variant(), **{n: _cascade(n, 2, networks) for n in names}})


# For MNIST: networks of 14x14 and 7x7 images.
_HALVED = {1: "unet(width=16, mults=(1, 2), blocks=1, attention=(7,), dropout=0.0)",
           2: "vdm_unet(width=32, depth=2, embed=64)"}  # fmt: skip

WORK = {
    "digits": Work(
        "digits",
        {"valid_draws": 16},
        {
            "networks": _networks({
                "vdm_unet": "vdm_unet(width=32, depth=2, embed=64)",
                "unet": "unet(width=32, mults=(1, 2), blocks=2, attention=(4,))",
                "dit": "dit(width=128, depth=6, heads=4, patch=2, dropout=0.05)",
                "uvit": "uvit(width=128, depth=6, heads=4, patch=2, dropout=0.05)",
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
            "schedules": _schedules("mulan(latent=8, features=128)", "diffenc(width=32)"),
            "latents": _latents("digits_latent", "widths=(32, 64), channels=4, head=categorical()"),
            "stages": _stages({}),
            "pyramids": _pyramids({}),
        },
    ),
    "mnist": Work(
        "mnist_3h",
        {"batch": 32, "valid_draws": 2, "eval.limit": 1000, "lr_decay": "cooldown(0.4)",
         "network": "unet(width=16, mults=(1, 2, 4), blocks=1, attention=(7,), dropout=0.0)",
         "optimizer": "adamw(b2=0.99, weight_decay=0.01)"},
        {
            # `levels` has 256 outputs per pixel: too many for a convolution over them.
            "networks": _networks({
                "vdm_unet": "vdm_unet(width=32, depth=2, embed=64)",
                "unet": "unet(width=16, mults=(1, 2, 4), blocks=1, attention=(7,), dropout=0.0)",
                "dit": "dit(width=96, depth=4, heads=3, patch=4)",
                "uvit": "uvit(width=96, depth=4, heads=3, patch=4, conv=False)",
            }),
            "weights": _networks({
                "vdm_unet": "vdm_unet(width=32, depth=2, embed=64)",
                "unet": "unet(width=18, mults=(1, 2, 2), blocks=1, attention=(7,), dropout=0.0)",
                "dit": "dit(width=48, depth=4, heads=2, patch=4)",
                "uvit": "uvit(width=48, depth=4, heads=2, patch=4, conv=False)",
            }),
            "optimizers": _OPTIMIZERS,
            "averages": _AVERAGES,
            "recipe": _RECIPE,
            "schedules": _schedules(
                "mulan(latent=8, features=128)", "diffenc(kind='unet', blocks=1, width=16)"
            ),
            "latents": _latents(
                "mnist_latent",
                "widths=(32, 64, 64), channels=4, head=logistic(mixtures=3)",
            ),
            "stages": _stages(_HALVED),
            "pyramids": _pyramids(_HALVED),
        },
    ),
    "cifar10": Work(
        "cifar10",
        {"network": "vdm_unet(width=32, depth=2, embed=64)", "batch": 32, "lr": 2e-3,
         "lr_decay": "cosine", "clip": 1.0, "ema": (0.99,), "data": "cifar10(holdout=1000)",
         "valid_draws": 2, "eval.draws": 4, "eval.limit": 1000},
        {
            "latents": _latents(
                "cifar10_latent",
                "widths=(32, 64, 64), channels=8, head=logistic(mixtures=5)",
                frechet=False,
                network="dit(width=96, depth=4, heads=3, patch=1, skip=False, fourier=False)",
                batch=32, lr=1e-3, lr_decay="cosine", ema=(0.99,),
            ),
            "stages": _stages({}, "haar"),
            "pyramids": _pyramids({}),
        },
    ),
}  # fmt: skip

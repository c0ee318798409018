"""A job small enough to train in a test: random 4x4 images, a network that compiles at once."""

from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from diffusion_jax import config as config_lib
from diffusion_jax.experiment import Experiment


def write_images(path: Path, n: int = 64, levels: int = 5) -> Path:
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", n), ("test", 13)):
        label = rng.integers(0, 3, count)
        image = (label[:, None, None, None] + rng.integers(0, 3, (count, 4, 4, 1))).astype(np.uint8)
        arrays |= {f"{part}_image": image, f"{part}_label": label}
    np.savez(path, **arrays)
    return path


def captioned(folder: Path) -> str:
    """Data with classes in random order, and captions that name them."""
    path, rng, arrays = folder / "images.npz", np.random.default_rng(0), {}
    for part, count in (("train", 24), ("test", 11)):
        label = rng.integers(0, 3, count)
        arrays |= {
            f"{part}_image": rng.integers(0, 5, (count, 4, 4, 1), np.uint8),
            f"{part}_label": label,
            f"{part}_text": np.asarray(["a red", "a blue", "a green"])[label],
        }
    np.savez(path, **arrays)
    return f"npz(path={str(path)!r}, levels=5, num_classes=3, holdout=8)"


def config(folder: Path, **changes):
    path = folder / "images.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_images(path)
    c = config_lib.base()
    c.data = f"npz(path={str(path)!r}, levels=5, num_classes=3, holdout=8)"
    c.conditional = True
    c.gamma_min, c.gamma_max = -5.0, 4.0
    c.network = "mlp(width=16, depth=1, embed=8)"
    c.batch = 16
    c.steps = 6
    c.lr, c.warmup = 1e-3, 2
    c.ema = (0.9, 0.99)
    c.report = False  # has tests of its own, and takes seconds
    c.log_every, c.eval_every, c.save_every, c.sample_every = 2, 4, 2, 0
    c.eval.draws, c.eval.batch, c.eval.timesteps = 2, 8, (4,)
    c.sample.num, c.sample.batch, c.sample.steps = 6, 8, 3
    c.guidance = "cfg(w=2.0)"
    c.update(changes)
    return c


def experiment(folder: Path, name: str = "run", **changes) -> Experiment:
    return Experiment(config(folder, **changes), (folder / name).absolute())


def settings_only(folder: Path, name: str, **changes) -> str:
    """The path of a run of which nothing is there but its settings."""
    (folder / name).mkdir(parents=True)
    (folder / name / "config.json").write_text(config(folder, **changes).to_json())
    return str(folder / name)


def saved_arrays(folder: Path) -> list[np.ndarray]:
    """Every array of one checkpoint, in order: weights, optimiser state, averages."""
    found = []
    with ocp.PyTreeCheckpointer() as reader:
        for name in ("train", "ema"):
            tree = reader.metadata(folder / name).item_metadata.tree
            how = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
            args = ocp.args.PyTreeRestore(restore_args=how)
            found += jax.tree.leaves(reader.restore(folder / name, args=args))
    return [np.asarray(a) for a in found]

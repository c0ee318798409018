"""Training data that are streamed: the same batches as from the device, read by who needs them."""

import dataclasses
import json
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from conftest import REPO
from PIL import Image

from diffusion_jax import registry
from diffusion_jax.cli.modes import train
from diffusion_jax.data import base as data_base
from diffusion_jax.data.base import Split
from diffusion_jax.data.captions import Captions
from diffusion_jax.errors import ConfigError, DataError, WorkdirError
from diffusion_jax.runtime.sharding import batched, local_rows, make_mesh, put_rows
from diffusion_jax.training.compile import compile_steps, fresh_meter
from diffusion_jax.training.feed import Clock, Feeder, Order
from diffusion_jax.training.loop import Timetable


def plan(**changes):
    given = {"steps": 23, "batch": 16, "seed": 3, "per_dispatch": 4, "log_every": 10,
             "eval_every": 0, "save_every": 15, "sample_every": 0, "resident_bytes": 0}  # fmt: skip
    return Timetable(**{**given, **changes})


def feeder(split, p, ahead=2, devices=8):
    order = Order(p.batch, p.seed, p.skip, ahead, p.dispatch)
    return Feeder(split, order, make_mesh(jax.devices()[:devices]), p.resident_bytes)


def numbered(n=50):
    """Image i holds i everywhere, and so does its label."""
    image = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 2, 2, 1))
    return Split("numbered", image, np.arange(n, dtype=np.int32), 256, n)


def fed(feed, p):
    """The labels of every step of a run, `[steps, batch]`."""
    out, step = [], 0
    while n := p.dispatch(step):
        data, index = feed(step, n)
        label, image = np.asarray(data["label"]), np.asarray(data["image"])
        if feed.resident:
            label, image = label[np.asarray(index)], image[np.asarray(index)]
            image = image.reshape(*image.shape[:-1], *feed.resident)
        np.testing.assert_array_equal(image[..., 0, 0, 0], label)
        out.append(label.reshape(n, p.batch))
        step += n
        # What comes next is being read, and nothing else.
        assert feed.resident or next(iter(feed._coming), None) == (
            (step, p.dispatch(step)) if p.dispatch(step) else None
        )
        assert len(feed._coming) <= 5
    feed.close()
    return np.concatenate(out)


@pytest.mark.parametrize("ahead", [1, 5])
def test_streamed_batches_are_those_of_the_resident_set(ahead):
    p = plan(skip=2)
    wanted = np.stack([data_base.indices(s + 2, 16, 50, 3) for s in range(23)])
    np.testing.assert_array_equal(fed(feeder(numbered(), p, ahead), p), wanted)
    resident = plan(skip=2, resident_bytes=10**6)
    np.testing.assert_array_equal(fed(feeder(numbered(), resident), resident), wanted)


class Sum(NamedTuple):
    """A state that adds up what it is told."""

    step: jax.Array
    total: jax.Array


def test_texts_on_the_devices_are_a_table_of_distinct_ones():
    """A step reads from it what it is handed where batches are streamed."""
    n = 50
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 9, (5, 3, 2)).astype(np.float16)
    index = rng.integers(-1, 5, (n, 2)).astype(np.int32)
    captions = Captions(tuple("abcde"), index, ids=ids)
    split = dataclasses.replace(numbered(n), captions=captions)
    zero = jnp.zeros(())

    def update(state, batch, given):
        total = state.total + batch["text"].astype(float).sum((1, 2, 3))
        return Sum(state.step + 1, total), {"loss": zero, "grad_norm": zero}

    task = SimpleNamespace(metrics=("loss", "grad_norm"), update=update)
    sums = []
    for there in (split.images.nbytes + ids.nbytes, split.images.nbytes):
        p = plan(steps=2, per_dispatch=1, resident_bytes=there)
        feed = feeder(split, p, devices=1)
        assert (feed.resident is not None) == (there > split.images.nbytes)
        step = compile_steps(task, feed._mesh, feed.resident, several=False)
        state, meter = Sum(jnp.zeros((), int), jnp.zeros(p.batch)), fresh_meter(task)
        for k in range(2):
            data, which = feed(k, 1)
            assert ("text" in data) == (feed.resident is None)
            state, meter, _ = step(state, meter, data, which)
        feed.close()
        sums.append(np.asarray(state.total))
    rows = [data_base.indices(s, 16, n, 3) for s in range(2)]
    by_hand = sum((ids[index[r]].sum((2, 3)) * (index[r] >= 0)).sum(1) for r in rows)
    np.testing.assert_array_equal(sums[0], by_hand)
    np.testing.assert_array_equal(sums[0], sums[1])


def test_dispatches_end_where_something_happens():
    p, step, stops = plan(), 0, []
    while n := p.dispatch(step):
        step += n
        stops.append(step)
    assert {10, 15, 20, 23} <= set(stops) and stops[:4] == [4, 8, 9, 10]


class Slow:
    """Images that are there when the gate is open, and the rows that were asked for."""

    def __init__(self, images):
        self.images, self.shape, self.nbytes = images, images.shape, images.nbytes
        self.gate, self.asked = threading.Event(), []

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        assert self.gate.wait(60)
        self.asked.append(np.array(index))
        return self.images[index]


def test_data_are_read_ahead_and_only_idle_devices_count_as_waiting(monkeypatch):
    slow = Slow(numbered().images)
    split, p = dataclasses.replace(numbered(), images=slow), plan(steps=3, per_dispatch=1)
    feed, waited_for = feeder(split, p, ahead=2), []

    def finish(running):  # the dispatch before ends; only then do the data come
        waited_for.append(running)
        assert feed.clock.waited == 0.0
        slow.gate.set()

    monkeypatch.setattr(jax, "block_until_ready", finish)
    feed(0, 1, "the dispatch before")
    assert waited_for == ["the dispatch before"] and feed.clock.waited > 0
    for future in list(feed._coming.values()):
        future.result(60)
    assert len(slow.asked) == 3  # steps 1 and 2 have been read before they are asked for
    before = feed.clock.waited
    feed(1, 1, "step 0")
    assert feed.clock.waited == before and len(waited_for) == 1
    feed.close()


def test_the_share_of_waiting():
    clock = Clock(waited=1.0, total=4.0)
    assert clock.share() == 0.25
    assert clock.share() == 0.0  # nothing since


def test_each_process_reads_the_rows_of_its_devices_only(monkeypatch):
    """One process holds devices 0, 1, 6 and 7 of eight: rows 0..3 and 12..15 of sixteen."""
    mesh = make_mesh(jax.devices()[:8])
    every = batched(mesh).addressable_devices_indices_map((16,))
    some = {
        d: s for d, s in every.items() if mesh.devices.ravel().tolist().index(d) in (0, 1, 6, 7)
    }
    partial = SimpleNamespace(addressable_devices_indices_map=lambda shape: some)
    which = local_rows(partial, (16, 3))
    np.testing.assert_array_equal(which, [0, 1, 2, 3, 12, 13, 14, 15])
    # Placing asks for the rows of those devices, which are found among the eight that were read.
    images, asked = np.arange(16) * 10, []

    def fake(shape, sharding, part):
        asked.extend((s, part((slice(None), *s))) for s in some.values())
        return shape

    monkeypatch.setattr(jax, "make_array_from_callback", fake)
    assert put_rows(images[None, which], which, 16, None, axis=1) == (1, 16)
    for index, got in asked:
        np.testing.assert_array_equal(got[0], images[index])


def write_folder(folder, bad=()):
    """Pictures for `folder(...)` with classes, and some that are damaged."""
    rng = np.random.default_rng(0)
    for part, n in (("train", 48), ("valid", 8), ("test", 9)):
        for i in range(n):
            path = folder / part / "abc"[i % 3] / f"{i:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.uint8(80 * (i % 3)) + rng.integers(0, 40, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
    for name in bad:
        (folder / name).write_bytes(b"damaged")
    return f"folder(path={str(folder)!r}, size=4, channels=1)"


def losses(experiment):
    lines = (experiment.workdir / "metrics.jsonl").read_text().splitlines()
    return [r for r in map(json.loads, lines) if "train/loss" in r]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    import os

    folder = tmp_path_factory.mktemp("pictures")
    before = os.environ.get("DIFFUSION_JAX_CACHE")
    os.environ["DIFFUSION_JAX_CACHE"] = str(folder / "cache")
    spec = write_folder(folder / "x", bad=("train/a/03.png", "test/b/01.png"))
    yield {"data": spec, "resident_mib": 0, "eval_every": 0, "log_every": 3, "save_every": 3,
           "data_workers": 2, "sample": {"num": 0}, "optimizer": "sgd(momentum=0.9)"}  # fmt: skip
    os.environ.pop("DIFFUSION_JAX_CACHE")
    if before is not None:
        os.environ["DIFFUSION_JAX_CACHE"] = before


@pytest.fixture(scope="module")
def whole(pictures, tmp_path_factory):
    """A run over the folder in one piece, with all images on the device."""
    experiment = tiny.experiment(
        tmp_path_factory.mktemp("whole"), **{**pictures, "resident_mib": 1}
    )
    train.run(experiment)
    return experiment


@pytest.mark.slow
def test_a_streamed_run_resumes_bit_for_bit_and_counts_what_is_damaged(
    whole, pictures, tmp_path, capfd
):
    """And it is the run that has all on the device, with the damaged one replaced by the same."""
    from checkpoint_copies import assert_identical, weights

    train.run(tiny.experiment(tmp_path, **pictures, steps=3))
    err = capfd.readouterr()
    assert err.err.count("03.png: ") == 1 and "1 damaged images were skipped" in err.out
    one_more = Path(registry.parse(pictures["data"]).kwargs["path"]) / "train" / "a" / "99.png"
    one_more.write_bytes(b"not looked at")
    with pytest.raises(WorkdirError, match="images were 48, and are 49 now"):
        train.run(tiny.experiment(tmp_path, **pictures))
    one_more.unlink()
    again = tiny.experiment(tmp_path, **{**pictures, "data_workers": 1, "data_ahead": 4})
    train.run(again)
    straight = tiny.experiment(tmp_path, "straight", **pictures)
    train.run(straight)
    assert_identical(weights(again, 6), weights(straight, 6))
    # With all on the device it is another program: up to rounding, of which Adam would make steps.
    for a, b in zip(weights(again, 6), weights(whole, 6), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
    rows = losses(again)
    assert [r["step"] for r in rows] == [3, 6]
    assert all(0 <= r["train/input_wait"] <= 1 for r in rows)
    assert rows[-1]["train/skipped_images"] == 1
    assert [r["train/input_wait"] for r in losses(whole)] == [0.0, 0.0]
    report = json.loads((again.workdir / "eval" / "6.json").read_text())
    assert report["result"]["images"] == 8  # nine, without the damaged one


@pytest.mark.slow
def test_two_processes_train_on_the_same_batches(whole, pictures, tmp_path):
    (tmp_path / "config.py").write_text(
        f"import sys\nsys.path.insert(0, {str(REPO / 'tests')!r})\nfrom pathlib import Path\n"
        f"import tiny\n\ndef get_config():\n"
        f"    return tiny.config(Path({str(tmp_path)!r}), **{pictures!r})\n"
    )
    done = subprocess.run(
        [sys.executable, "launch/local.py", "-n", "2", "--devices", "4", "--",
         sys.executable, "-m", "diffusion_jax.main", f"--config={tmp_path}/config.py",
         f"--workdir={tmp_path}/run"],
        cwd=REPO, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    two, one = losses(SimpleNamespace(workdir=tmp_path / "run")), losses(whole)
    assert [r["step"] for r in two] == [r["step"] for r in one]
    for a, b in zip(two, one, strict=True):
        np.testing.assert_allclose(a["train/loss"], b["train/loss"], rtol=1e-5)
        np.testing.assert_allclose(a["train/grad_norm"], b["train/grad_norm"], rtol=1e-4)
    both = [json.loads((w / "eval" / "6.json").read_text())["result"]["bits_per_dim"]
            for w in (tmp_path / "run", whole.workdir)]  # fmt: skip
    np.testing.assert_allclose(*both, rtol=1e-5)


def test_settings_that_cannot_stream_are_refused(tmp_path):
    for field, value in (("data_ahead", 0), ("data_workers", -1)):
        with pytest.raises(ConfigError, match=f"{field}={value} must be at least"):
            train.run(tiny.experiment(tmp_path, **{field: value}))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image"):
        train.run(tiny.experiment(tmp_path, data=f"folder({str(tmp_path / 'empty')!r}, size=4)"))
    assert not (tmp_path / "run").exists()

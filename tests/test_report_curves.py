"""What the page reads and draws: metric lines, times over restarts, the moving picture."""

import json

import numpy as np
from PIL import Image

from diffusion_jax.cli.report import curves
from diffusion_jax.runtime import image_grids
from diffusion_jax.sampling import trajectory


def lines(path, *rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return curves.read_curves(path)


def test_times_add_up_over_starts_and_repeated_steps_count_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    found = lines(
        path,
        {"step": 10, "seconds": 5.0, "train/loss": 3.0},
        {"step": 20, "seconds": 9.0, "train/loss": 2.0, "train/prior": 0.1},
        {"step": 30, "seconds": 14.0, "train/loss": 9.0},
        # Killed, and started again from step 10.
        {"step": 20, "seconds": 4.0, "train/loss": 2.1},
        {"step": 25, "seconds": 6.0, "train/loss": 1.5},
    )
    loss = found.get("train/loss")
    np.testing.assert_array_equal(loss.step, [10, 20, 25])
    np.testing.assert_array_equal(loss.value, [3.0, 2.1, 1.5])
    np.testing.assert_array_equal(loss.seconds, [5.0, 18.0, 20.0])
    assert loss.timed and found.seconds == 20.0 and found.last_step == 25
    old = lines(path, {"step": 1, "train/loss": 1.0}, {"step": 2, "train/loss": 0.5})
    assert old.seconds is None and not old.get("train/loss").timed
    path.write_text('{"step": 1, "a": 1.0}\n{"step": 2, "a"')  # being written
    np.testing.assert_array_equal(curves.read_curves(path).get("a").step, [1])
    path.write_text('{"step": 1, "a"\n{"step": 2, "a": 1.0}\n')
    found = curves.read_curves(path)
    np.testing.assert_array_equal(found.get("a").step, [2])
    assert found.left_out == 1


def test_lines_that_are_no_metrics_are_counted_and_spoil_no_others(tmp_path):
    path = tmp_path / "metrics.jsonl"
    bad = ['{"step": 2, "a"', '{"step": 3{"step": 4, "a": 4.0}', "[1]", "7", "\0\0", '{"a": 1.0}',
           '{"step": null}', '{"step": 5, "a": [1]}', '{"step": NaN}', '{"step": Infinity}',
           ""]  # fmt: skip
    rows = ['{"step": 1, "a": 1.0}', *bad, '{"step": 6, "a": 6.0}']
    path.write_bytes("\n".join(rows).encode() + b'\n\xff\xfe\n{"step": 7, "a": 7.0}\n')
    found = curves.read_curves(path)
    np.testing.assert_array_equal(found.get("a").step, [1, 6, 7])
    np.testing.assert_array_equal(found.get("a").value, [1.0, 6.0, 7.0])
    assert found.left_out == len(bad) + 1


def test_a_movie_of_small_images_is_lossless(tmp_path):
    rng = np.random.default_rng(0)
    latents, guesses = rng.integers(0, 5, (2, 4, 3, 6, 6, 3)).astype(np.uint8)
    found = trajectory.Trajectory(np.linspace(3.0, -3.0, 4), latents, guesses, 5)
    frames = trajectory.movie(found)
    trajectory.save_webp(tmp_path / "a.webp", frames)
    with Image.open(tmp_path / "a.webp") as moving:
        assert moving.n_frames == 4 and moving.info["loop"] == 0
        for i, frame in enumerate(frames):
            moving.seek(i)
            np.testing.assert_array_equal(np.asarray(moving.convert("RGB")), frame)
    strip = trajectory.strip(found, columns=2, examples=1)
    picked = [latents[0, 0], latents[-1, 0], guesses[0, 0], guesses[-1, 0]]
    np.testing.assert_array_equal(strip, image_grids.grid(np.stack(picked), 5, columns=2))

"""Examples of any shape through every mode: what is trained on pictures is not the only thing."""

import json

import numpy as np
import pytest
from command import config_file, main, refused
from PIL import Image

from diffusion_jax.cli import user_images
from diffusion_jax.data.media.video import VIDEO, film
from diffusion_jax.errors import DataError

TOYS = "toys(glyphs=2, size=6, frames=3, velocities=((0, 1), (1, 0)))"


class Commands:
    """One tiny run, and command lines about it."""

    def __init__(self, folder, data, **changes):
        c = {"data": data, "guidance": "none()", "conditional": False, "gamma_min": -6.0,
             "eval_every": 0, "save_every": 4, "steps": 4, **changes}  # fmt: skip
        self.file, self.workdir = config_file(folder, **c), folder / "run"
        self.again()

    def again(self, *args):
        done = main(f"--config={self.file}", f"--workdir={self.workdir}",
                    "--config.eval.limit=8", *args)  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, message, *args):
        refused(main(f"--config={self.file}", f"--workdir={self.workdir}", *args), message)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return Commands(tmp_path_factory.mktemp("videos"), TOYS)


@pytest.mark.slow
def test_a_run_of_videos_through_every_mode(videos):
    assert "the data have" in videos.again("--mode=eval")
    videos.again("--mode=eval", "--config.eval.likelihood=ode(steps=2, trace='hutchinson')",
                 "--config.eval.limit=2")  # fmt: skip
    videos.again("--mode=sample")
    with Image.open(next(videos.workdir.glob("samples/*.gif"))) as shown:
        assert shown.n_frames > 1
    videos.again("--mode=inspect")
    videos.again("--mode=progressive", "--config.progressive.steps=2")
    videos.again("--mode=ood", f"--config.ood.against=noise({TOYS})")
    videos.again("--mode=quality", "--config.quality.metrics=('coverage',)")
    videos.again("--mode=compress", "--config.compress.timesteps=4", "--config.compress.limit=3",
                 "--config.compress.verify=True", "--config.compress.compare=True")  # fmt: skip
    videos.again("--mode=decompress")
    videos.again("--mode=report")
    page = (videos.workdir / "report.html").read_text()
    assert "data:image/gif;base64" in page


@pytest.mark.slow
@pytest.mark.parametrize("edit", ["outpaint(after=1)", "extend(after=2)", "outpaint(before=1)"])
def test_frames_are_painted_and_those_given_are_kept(videos, edit):
    before = set(videos.workdir.glob("edits/*"))
    videos.again("--mode=edit", f"--config.edit.method={edit}", "--config.edit.image=split:test",
                 "--config.edit.pick=(0, 1)")  # fmt: skip
    (folder,) = set(videos.workdir.glob("edits/*")) - before
    with np.load(folder / "results.npz") as found:
        kept = found["mask"] == 0
        assert kept.any() and not kept.all()
        np.testing.assert_array_equal(
            np.where(kept, found["image"], 0), np.where(kept, found["source"], 0)
        )
        assert found["image"].shape[1] == (5 if "extend" in edit else 3)
    assert (folder / "0000.gif").exists()
    assert json.loads((folder / "record.json").read_text())["edit"]["method"] == edit


@pytest.mark.slow
def test_what_videos_are_refused_says_why(videos):
    videos.refused("takes images", "--config.network=vdm_unet()", "--workdir=/nowhere/x")
    videos.refused("before=0, after=1 are frames|time:", "--mode=edit",
                   "--config.edit.image=split:test", "--config.edit.mask=time:2:9")  # fmt: skip
    videos.refused("writes pictures", "--mode=decompress", "--config.compress.png=True",
                   "--config.compress.input=absent.djz")  # fmt: skip


SEQUENCES = {
    "signals": {"data": "signals(levels=4, length=6, size=40)"},
    "letters": {
        "data": "letters(alphabet='abcd', length=6, size=40)",
        "autoencoder": "embedding(dims=4)", "prediction": "levels", "gamma_min": -4.0,
        "network": "sequence(width=8, depth=1, heads=2, embed=8)",
    },
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", SEQUENCES)
def test_sequences_through_every_mode(tmp_path, name):
    run = Commands(tmp_path, **SEQUENCES[name])
    assert "the data have" in run.again("--mode=eval")
    run.again("--mode=sample")
    assert len(list(run.workdir.glob("samples/*.txt"))) == (name == "letters")
    run.again("--mode=inspect")
    run.again("--mode=progressive", "--config.progressive.steps=2")
    run.again("--mode=quality", "--config.quality.metrics=('coverage',)")
    out = run.again("--mode=compress", "--config.compress.timesteps=4", "--config.compress.limit=3",
                    "--config.compress.verify=True", "--config.compress.compare=True")  # fmt: skip
    assert "xz" in out and ("AR(1)" in out or "Kneser-Ney" in out)
    run.again("--mode=decompress")
    run.again("--mode=edit", "--config.edit.method=replace()", "--config.edit.mask=time:2:4",
              "--config.edit.image=split:test", "--config.edit.pick=(0, 1)")  # fmt: skip
    (folder,) = run.workdir.glob("edits/*")
    with np.load(folder / "results.npz") as found:
        same = (found["image"] == found["source"])[:, 0, :, 0]
        assert same[:, [0, 1, 4, 5]].all()
    if name == "signals":
        run.again("--mode=edit", "--config.edit.method=extend(right=3)",
                  "--config.edit.image=split:test", "--config.edit.pick=(0,)")  # fmt: skip
    run.again("--mode=report")


def test_a_film_is_read_in_the_levels_of_the_model(tmp_path):
    video = np.random.default_rng(0).integers(0, 2, (4, 6, 5, 1)).astype(np.uint8)
    (tmp_path / "a.gif").write_bytes(film(video * 255, "gif"))
    found, labels = user_images.read_images(str(tmp_path / "a.gif"), (3, 6, 5, 1), 2, VIDEO)
    np.testing.assert_array_equal(found, video[None, :3])
    assert labels is None
    with pytest.raises(DataError, match="has 4 frames, fewer than 5"):
        user_images.read_images(str(tmp_path / "a.gif"), (5, 6, 5, 1), 2, VIDEO)
    np.savez(tmp_path / "a.npz", image=video)
    again, _ = user_images.read_images(str(tmp_path / "a.npz"), (4, 6, 5, 1), 2, VIDEO)
    np.testing.assert_array_equal(again[0], video)


def test_masks_of_frames(tmp_path):
    shape = (4, 3, 2, 1)
    mask = user_images.read_mask("time:1:3", shape, VIDEO)
    assert mask.shape == (1, *shape)
    np.testing.assert_array_equal(mask[0].mean((1, 2, 3)), [0, 1, 1, 0])
    ends = user_images.read_mask("time:0:1,3:4", shape, VIDEO)
    np.testing.assert_array_equal(ends[0].mean((1, 2, 3)), [1, 0, 0, 1])
    for bad in ("time:2:9", "time:2", "time:3:1"):
        with pytest.raises(DataError, match="time:START:STOP with 0 <= START < STOP <= 4"):
            user_images.read_mask(bad, shape, VIDEO)
    with pytest.raises(DataError, match="has no time axis"):
        user_images.read_mask("time:1:3", (3, 2, 1))
    picture = np.zeros((3, 2), np.uint8)
    picture[1] = 255
    Image.fromarray(picture).save(tmp_path / "m.png")
    every = user_images.read_mask(str(tmp_path / "m.png"), shape, VIDEO)
    np.testing.assert_array_equal(every, np.broadcast_to(picture[..., None] / 255, (1, *shape)))

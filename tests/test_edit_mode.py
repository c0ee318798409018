"""`--mode=edit` from files to files: every edit, what is kept, and one line for each mistake."""

import json

import jax
import numpy as np
import pytest
import tiny
from command import main, refused
from PIL import Image

from diffusion_jax import registry, saved_config
from diffusion_jax.cli import user_images
from diffusion_jax.cli.modes import edit
from diffusion_jax.cli.report import collect, sections_measured
from diffusion_jax.errors import UserError
from diffusion_jax.experiment import prepare_workdir
from diffusion_jax.training import checkpoint, state
from diffusion_jax.training.tasks.diffusion import make_recipe

# What an edit cannot do without; a new one needs no entry unless it is such.
ARGUMENTS = {"outpaint": "left=1", "widen": "right=2, labels=(0, -1)", "extend": "bottom=2"}
MASKED = ("replace", "repaint", "posterior", "blend")
PAIRS = ("interpolate", "interpolate_noise")
SEEN = ("vary", "between", "textdiff")  # of a decoder that is told what a CLIP sees: test_unclip


ENCODER = "diffenc(blocks=1, width=8)"


def start(folder, **changes):
    """A run with a checkpoint of step 0: nothing here depends on quality."""
    new = tiny.experiment(folder, **changes)
    with prepare_workdir(new):
        pass
    recipe = make_recipe(new)
    params = new.model.init(jax.random.key(0), new.source.shape)
    checkpoints = checkpoint.Checkpoints(new.workdir)
    checkpoints.save(
        state.init(params, recipe.optimizer, tuple(new.config.ema), recipe.proposal.init()),
        {"config": saved_config.to_dict(new.config)}, {},
    )  # fmt: skip
    checkpoints.close()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run, and another with an encoder in `encoded/`; images and masks."""
    folder = tmp_path_factory.mktemp("edit")
    start(folder)
    start(folder / "encoded", encoder=ENCODER)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 5, (2, 4, 4, 1)).astype(np.uint8)
    np.savez(folder / "two.npz", image=image, label=[0, 2])
    Image.fromarray(image[0, :, :, 0] * 63).save(folder / "one.png")
    half = np.zeros((4, 4), np.uint8)
    half[:, 2:] = 255
    Image.fromarray(half).save(folder / "half.png")
    Image.fromarray(0 * half).save(folder / "none.png")
    Image.fromarray(0 * half + 255).save(folder / "all.png")
    Image.fromarray(np.zeros((8, 3), np.uint8)).save(folder / "narrow.png")
    Image.fromarray(np.zeros((8, 6), np.uint8)).save(folder / "large.png")
    (folder / "text.png").write_text("not a picture")
    np.savez(folder / "text_labels.npz", image=image, label=[0, 3])
    np.savez(folder / "bright.npz", image=image + 3)
    np.savez(folder / "floats.npz", image=image / 4.0)
    np.savez(folder / "colour.npz", image=np.repeat(image, 3, -1))
    np.savez(folder / "other.npz", a=image, b=image)
    np.savez(folder / "three.npz", mask=np.repeat(half[None], 3, 0))
    return folder, image, half


def experiment(folder, **changes):
    out = tiny.experiment(folder)
    with out.config.unlocked():
        for key, value in changes.items():
            *path, last = key.split("__")
            target = out.config
            for p in path:
                target = target[p]
            target[last] = value
    return out


def run(folder, name, where="", **changes):
    spec = f"{name}({ARGUMENTS.get(name, '')})"
    wanted = {"edit__method": spec, "edit__image": str(folder / "two.npz"), "sampler": "ddim()",
              "sample__steps": 2}  # fmt: skip
    if name in MASKED:
        wanted["edit__mask"] = str(folder / "half.png")
    edit.run(experiment(folder / where, **(wanted | changes)))
    made = (folder / where / "run/edits").glob(f"0_{name}_*")
    newest = max(made, key=lambda p: p.stat().st_mtime)
    with np.load(newest / "results.npz") as found:
        return newest, dict(found)


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["", ENCODER], ids=["", "diffenc"])
@pytest.mark.parametrize("name", [n for n in registry.available("edits") if n not in SEEN])
def test_contract(trained, name, encoder):
    """Every edit runs on files, writes pictures of its results and keeps what is not painted."""
    folder, image, half = trained
    each = 1 if name == "interpolate" else 3
    changes = {"where": "encoded", "encoder": ENCODER} if encoder else {}
    out, found = run(folder, name, edit__each=each, **changes)
    results, mask = found["image"], found["mask"]
    assert results.dtype == np.uint8 and results.max() < 5
    assert mask.shape == (*results.shape[:3], 1) == (*found["source"].shape[:3], 1)
    kept = np.broadcast_to(mask == 0.0, results.shape)
    np.testing.assert_array_equal(results[kept], found["source"][kept])
    if name in MASKED:
        np.testing.assert_array_equal(mask[:, :, :, 0], np.repeat([half / 255.0], 6, 0))
    if name in ("outpaint", "widen", "extend"):
        assert 0 < kept.mean() < 1
    if name in ("widen", "extend"):
        assert sorted(results.shape[1:3]) == [4, 6]
        np.testing.assert_array_equal(results[::3, :4, :4], image)
    pairs = name in PAIRS
    assert len(results) == (9 * each if pairs else 2 * each)
    np.testing.assert_array_equal(found["label"][0], 0)
    for i, result in enumerate(results):
        picture = np.asarray(Image.open(out / f"{i:04d}.png"))
        np.testing.assert_array_equal(picture[..., 0], np.round(result[..., 0] * 63.75))
    assert (out / "sheet.png").is_file()
    assert json.loads((out / "record.json").read_text())["edit"]["method"].startswith(name)


@pytest.mark.slow
def test_the_command_line_and_nothing_overwritten(trained):
    folder, image, _ = trained
    command = ("--mode=edit", f"--workdir={folder}/run", "--config.edit.method=replace()",
               f"--config.edit.image={folder}/one.png,{folder}/two.npz",
               f"--config.edit.mask={folder}/half.png", "--config.sample.labels=(1,)",
               "--config.sampler=dpmpp_2m()", "--config.edit.pick=(0, 2)")  # fmt: skip
    outs = []
    for _ in range(2):
        done = main(*command)
        assert done.returncode == 0, done.stderr
        assert "2 results" in done.stdout
        outs.append(done.stdout.split()[-1])
    assert outs[1] == outs[0] + "_2"
    assert sections_measured.edits(collect.read(folder / "run")).body.count("replace()") >= 2
    a, b = (dict(np.load(f"{o}/results.npz")) for o in outs)
    np.testing.assert_array_equal(a["image"], b["image"])
    # The picture's 0 .. 255 went to the nearest level; pick took the second of the npz.
    np.testing.assert_array_equal(a["source"], image)
    np.testing.assert_array_equal(a["label"], [1, 1])
    refused(main(*command[:2], "--config.edit.image=absent.png"), "no file .*absent.png")


MISTAKES = [
    ({"edit__image": ""}, "edit.image is needed"),
    ({"edit__image": "absent.png"}, "no file .*absent.png"),
    ({"edit__image": "absent.npz"}, "cannot read .*absent.npz"),
    ({"edit__image": "text.png"}, "cannot read .*text.png.* as a picture"),
    ({"edit__image": "narrow.png"}, "narrow.png.* is 3x8, smaller than 4x4"),
    ({"edit__image": "colour.npz"}, "3 channels; this model needs 1"),
    ({"edit__image": "bright.npz"}, "value 7; this model has levels 0 .. 4"),
    ({"edit__image": "floats.npz"}, "integers in 0 .. 4, not float64"),
    ({"edit__image": "other.npz"}, "needs an array 'image'"),
    ({"edit__image": "text_labels.npz"}, "label 3 is out of range"),
    ({"edit__image": "split:tset"}, "the splits are train, valid, test"),
    ({"edit__pick": (2,)}, "no image 2; there are 2"),
    ({"edit__each": 0}, "edit.each=0"),
    ({"edit__mask": ""}, "needs a mask"),
    ({"edit__mask": "large.png"}, "large.png is 6x8, two.npz is 4x4: a mask must have the size"),
    ({"edit__image": "large.png", "edit__mask": "narrow.png"}, "is 3x8, large.png is 6x8"),
    ({"edit__mask": "none.png"}, "mask is empty"),
    ({"edit__mask": "all.png"}, "covers the whole image"),
    ({"edit__mask": "three.npz"}, "3 masks for 2 images"),
    ({"edit__mask": "text.png"}, "cannot read .*text.png"),
    ({"edit__method": "blur()"}, "unknown edit 'blur'"),
    ({"edit__method": "repaint(jumps=1)"}, "jumps"),
    ({"sample__labels": (7,)}, "7 is out of range"),
    ({"schedule": "mulan()"}, "one gamma per pixel"),
    ({"edit__method": "repaint()", "plan": "churn()"}, "descending grid"),
    ({"edit__method": "blend(start=99.0)"}, "outside this model's gammas"),
    ({"sample__batch": 0}, "sample.batch=0"),
]


@pytest.mark.parametrize(("changes", "says"), MISTAKES, ids=lambda v: str(v)[:50])
def test_mistakes_are_one_line(trained, changes, says, monkeypatch):
    folder, _, _ = trained
    monkeypatch.chdir(folder)
    good = {"edit__method": "replace()", "edit__image": "two.npz", "edit__mask": "half.png"}
    with pytest.raises(UserError, match=says) as e:
        edit.run(experiment(folder, **(good | changes)))
    assert "\n" not in str(e.value)


def test_pictures_are_converted_to_the_nearest_level(tmp_path):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    path = tmp_path / "grey.png"
    Image.fromarray(grey).save(path)
    read, labels = user_images.read_images(str(path), (16, 16, 1), 17)
    assert labels is None
    off = read[0, :, :, 0] * (255 / 16) - grey.astype(float)
    assert np.abs(off).max() <= 255 / 32  # half a level
    np.testing.assert_array_equal(user_images.read_images(str(path), (16, 16, 3), 256)[0][0],
                                  np.repeat(grey[..., None], 3, -1))  # fmt: skip
    # Sixteen bits; and colour to grey with the weights of ITU-R 601.
    Image.fromarray(grey.astype(np.uint16) * 257).save(path)
    np.testing.assert_array_equal(
        user_images.read_images(str(path), (16, 16, 1), 256)[0][0, :, :, 0], grey
    )
    Image.fromarray(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)).save(path)
    luma = user_images.read_images(str(path), (1, 3, 1), 256)[0].ravel()
    np.testing.assert_allclose(luma, 255 * np.array([0.299, 0.587, 0.114]), atol=1.0)


def test_masks_of_every_kind(tmp_path):
    path, wanted = tmp_path / "mask.npz", np.array([[0.0, 1.0], [1.0, 0.0]])
    kinds = [wanted > 0, wanted, wanted.astype(np.uint8), (255 * wanted).astype(np.uint8),
             wanted[..., None], wanted[None], wanted[None, ..., None]]  # fmt: skip
    for mask in kinds:
        np.savez(path, mask=mask)
        np.testing.assert_array_equal(
            user_images.read_mask(str(path), (2, 2, 1))[0, :, :, 0], wanted
        )
    for bad, says in (
        (wanted - 1.0, "in \\[0, 1\\]"), (wanted * np.nan, "in \\[0, 1\\]"),
        (wanted[0], "one value per pixel"), (wanted.astype(str), "numbers"),
        (np.zeros((2, 2, 3)), "pixels high"),
    ):  # fmt: skip
        np.savez(path, mask=bad)
        with pytest.raises(UserError, match=says):
            user_images.read_mask(str(path), (2, 2, 1))

"""The weights that come with the package: they are what their cards say."""

import hashlib
from pathlib import Path

import pytest

import diffusion_jax as dj
from diffusion_jax.experiment import exported

FOLDERS = sorted(p.parent for p in (Path(__file__).parents[1] / "pretrained").glob("*/card.json"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_the_card_is_whole_and_of_this_file(folder):
    card, data = exported.card(folder), (folder / "weights.npz").read_bytes()
    assert card["bytes"] == len(data) <= 5 * 2**20
    assert card["sha256"] == hashlib.sha256(data).hexdigest()
    assert card["licence"] and card["command"].startswith("djax train --config=")
    assert card["core_seconds"] > 0
    assert card["figure"]["images"] == 10_000 and card["figure"]["split"] == "test"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_the_first_images_have_the_bits_that_the_card_says(folder, prepared):
    said = exported.card(folder)["figure"]["first"]
    run = dj.open_run(folder, data_dir=str(prepared))
    found = run.bits_per_dim("test", limit=said["images"])
    assert len(found.per_image) == said["images"] == 64
    assert found.value == pytest.approx(said["bits_per_dim"], abs=1e-3)

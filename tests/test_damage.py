"""What happens to a checkpoint, and what a run does then; docs/reference/damage.md is its table."""

import errno
import gc
import json
import logging
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from diffusion_jax.errors import CheckpointError, DataError, UserError, WorkdirError
from diffusion_jax.experiment import prepare_workdir
from diffusion_jax.runtime.sharding import make_mesh, replicated
from diffusion_jax.runtime.storage import files_below
from diffusion_jax.training import integrity, lock, restore, state as state_lib
from diffusion_jax.training.checkpoint import Checkpoints

WHOLE = replicated(make_mesh(jax.devices(), "data=-1"))


def state(step):
    params = jax.device_put({"w": jnp.arange(12.0).reshape(3, 4) + step, "b": jnp.ones(3)}, WHOLE)
    made = state_lib.init(params, optax.adam(1e-3), (0.9,))
    return made.replace(step=jnp.full((), step, jnp.int32))


NOTES = ("_CHECKPOINT_METADATA", "commit_success.txt")  # of orbax for itself, written last
LIKE = restore.template(state(0), WHOLE)


def save(workdir, *steps):
    checkpoints = Checkpoints(workdir)
    for step in steps:
        checkpoints.save(state(step), {"config": {}}, {})
    checkpoints.close()


def read(workdir, set_aside=True):
    checkpoints = Checkpoints(workdir)
    try:
        return checkpoints.restore(LIKE, set_aside)
    finally:
        checkpoints.close()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    save(folder, 1, 2)
    return folder


@pytest.fixture
def copied(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "run")
    return tmp_path / "run"


def flip(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


DAMAGES = {
    "flipped": flip,
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "emptied": lambda path: path.write_bytes(b""),
    "removed": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


def newest(workdir):
    return workdir / "checkpoints" / "2"


def test_a_checkpoint_has_its_sums_before_it_has_its_name(tmp_path, monkeypatch):
    seen, seal = [], integrity.seal

    def watched(folder):
        seen.append((folder.name, (folder.parent / "1").exists()))
        seal(folder)

    monkeypatch.setattr(integrity, "seal", watched)
    save(tmp_path, 1)
    ((name, there),) = seen
    assert name != "1" and not there
    assert integrity.verify(tmp_path / "checkpoints" / "1")


@pytest.mark.parametrize("name", ["25% of it", "a%20b#1", "\u00e9 & ;"])
def test_checkpoints_are_kept_in_folders_of_any_name(tmp_path, name):
    """No path is read as an address, in which % and # mean something."""
    save(tmp_path / name, 1)
    assert integrity.verify(tmp_path / name / "checkpoints" / "1")


def test_every_damage_to_every_file_is_named(copied):
    folder = newest(copied)
    for name in files_below(folder):
        if name in NOTES:
            continue
        for damage in DAMAGES.values():
            whole = (folder / name).read_bytes()
            if damage is DAMAGES["removed"] and name == integrity.NAME:
                continue
            damage(folder / name)
            named = "." if name == integrity.NAME else name.replace(".", r"\.")
            with pytest.raises(integrity.Damaged, match=named):
                integrity.verify(folder)
            if (folder / name).is_dir():
                (folder / name).rmdir()
            (folder / name).write_bytes(whole)
    assert integrity.verify(folder)


# Reads that were in flight when orbax gave up complain while they are collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", ["train/manifest.ocdbt", "meta/metadata", "train/_METADATA"])
@pytest.mark.parametrize("sealed", [True, False])
def test_the_one_before_is_used_and_the_damaged_one_kept(copied, caplog, name, sealed):
    folder = newest(copied)
    if not sealed:
        (folder / integrity.NAME).unlink()
    DAMAGES["emptied"](folder / name)
    with caplog.at_level(logging.WARNING):
        found = read(copied)
    assert ("has no checksums" in caplog.text) != sealed
    assert "checkpoints/2 is damaged" in caplog.text and (name in caplog.text or not sealed)
    assert int(found.step) == 1 and np.array_equal(found.params["w"], state(1).params["w"])
    assert sorted(p.name for p in folder.parent.iterdir()) == ["1", "damaged-2"]


def test_what_has_no_sums_is_not_trusted_in_silence(copied, caplog):
    (newest(copied) / integrity.NAME).unlink()
    assert int(read(copied).step) == 2
    assert "checkpoints/2 has no checksums" in caplog.text


@pytest.mark.parametrize("damage", ["emptied", "removed"])
def test_the_notes_of_orbax_for_itself_are_not_needed(copied, damage):
    for name in NOTES:
        DAMAGES[damage](newest(copied) / name)
    assert int(read(copied).step) == 2


def test_the_same_step_may_be_damaged_again(copied):
    for _ in range(3):
        DAMAGES["cut"](newest(copied) / "meta" / "metadata")
        assert int(read(copied).step) == 1
        save(copied, 2)
    names = {p.name for p in newest(copied).parent.iterdir()}
    assert names == {"1", "2", "damaged-2", "damaged-2-2", "damaged-2-3"}


def test_a_run_whose_checkpoints_are_all_damaged_never_starts_at_zero(copied):
    for step in "12":
        DAMAGES["emptied"](copied / "checkpoints" / step / "meta" / "metadata")
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"none of the .*damaged-1, damaged-2"):
            read(copied)
    with pytest.raises(CheckpointError, match=r"none of the .*damaged-1, damaged-2"):
        restore.locate(copied)  # other modes


TROUBLE = {
    "disk": OSError(errno.EIO, "Input/output error"),
    "permission": PermissionError(errno.EACCES, "Permission denied"),
    "memory": RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate"),
    "host memory": MemoryError(),
}


@pytest.mark.parametrize("kind", TROUBLE)
@pytest.mark.parametrize("sealed", [True, False])
def test_trouble_is_not_damage(copied, monkeypatch, kind, sealed):
    if not sealed:
        (newest(copied) / integrity.NAME).unlink()

    def fail(*_, **__):
        raise TROUBLE[kind]

    where = (Checkpoints, "_read") if "memory" in kind else (integrity, "_digest")
    if kind == "disk" and not sealed:
        pytest.skip("without sums it is the reader that says whether files are sound")
    monkeypatch.setattr(*where, fail)
    with pytest.raises(CheckpointError, match=r"cannot read checkpoint .*were left in place") as e:
        read(copied)
    assert not isinstance(e.value, integrity.Damaged)
    with pytest.raises(CheckpointError, match=r"cannot read checkpoint .*were left in place"):
        restore.restore_newest(copied, lambda folder: fail())
    assert sorted(p.name for p in newest(copied).parent.iterdir()) == ["1", "2"]


def test_a_mistake_elsewhere_is_told_in_its_own_words(copied):
    def no_data(folder):
        raise DataError("cannot read the folder pets")

    with pytest.raises(DataError, match=r"^cannot read the folder pets$"):
        restore.restore_newest(copied, no_data)
    assert sorted(p.name for p in newest(copied).parent.iterdir()) == ["1", "2"]


def test_weights_that_are_not_finite_are_refused(tmp_path):
    broken = state(1)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(
        broken.replace(ema={"0.9": {**broken.params, "b": jnp.full(3, jnp.nan)}}), {}, {}
    )
    checkpoints.close()
    folder = tmp_path / "checkpoints" / "1"
    with pytest.raises(CheckpointError, match="are not finite"):
        restore.read_weights(folder, LIKE.params, "0.9", WHOLE)
    assert restore.read_weights(folder, LIKE.params, "params", WHOLE)["b"].tolist() == [1, 1, 1]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of what it leaves
def test_a_checkpoint_that_cannot_be_found_again_is_no_checkpoint(tmp_path):
    """Orbax takes such a path for a pattern, and leaves out half of its work without a word."""
    with pytest.raises(CheckpointError, match="could not save a checkpoint"):
        save(tmp_path / "a[1]", 1)
    gc.collect()
    assert not (tmp_path / "a[1]" / "checkpoints" / "1").exists()


@pytest.mark.parametrize("name", ["a[1]", "a\\b", "a*b"])
def test_folders_that_orbax_takes_for_patterns_are_refused(tmp_path, name):
    refused = pytest.raises(WorkdirError, match="choose another --workdir")
    with refused, prepare_workdir(tiny.experiment(tmp_path, name)):
        pass
    assert not (tmp_path / name).exists()


def test_a_refused_process_changes_nothing(tmp_path):
    with prepare_workdir(tiny.experiment(tmp_path)):
        refused = pytest.raises(WorkdirError, match="is being written by process")
        with refused, prepare_workdir(tiny.experiment(tmp_path, log_every=7)):
            pass
    assert json.loads((tmp_path / "run" / "config.json").read_text())["log_every"] == 2


def test_a_deleted_lock_is_noticed(tmp_path):
    with lock.only_writer(tmp_path) as first:
        first()
        (tmp_path / ".lock").unlink()
        with pytest.raises(WorkdirError, match=r"deleted \.lock"):
            first()
        with lock.only_writer(tmp_path) as second:
            second()
            with pytest.raises(WorkdirError, match="taken over by process"):
                first()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("cut", "cannot read the configuration"),
        ("emptied", "cannot read the configuration"),
        ("removed", "has checkpoints but no config.json"),
        ("a folder", "cannot read the configuration"),
    ],
)
def test_a_configuration_that_is_damaged_is_not_made_anew(tmp_path, damage, says):
    experiment = tiny.experiment(tmp_path)
    with prepare_workdir(experiment):
        (experiment.workdir / "checkpoints").mkdir()
    DAMAGES[damage](experiment.workdir / "config.json")
    with pytest.raises(UserError, match=says), prepare_workdir(experiment):
        pass


def test_a_workdir_that_is_a_file_or_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("text")
    for where in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(WorkdirError, match="cannot write to"), lock.only_writer(where):
            pass
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").write_text("text")
    with pytest.raises(CheckpointError, match="cannot open"):
        Checkpoints(tmp_path / "run")

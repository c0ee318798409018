"""Nothing that was measured is overwritten, and what cannot be written is said at once."""

import importlib
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tiny
from command import config_file, main, refused

from diffusion_jax import registry
from diffusion_jax.cli.modes import _codec_files, _records, edit, sample
from diffusion_jax.cli.report import (
    collect,
    sections_likelihood,
    sections_trained,
)
from diffusion_jax.errors import WorkdirError
from diffusion_jax.experiment.workdir import check_writable

MODES = {m: importlib.import_module(f"diffusion_jax.cli.modes.{m}")
         for m in registry.available("modes")}  # fmt: skip
WRITES = [(m, folder) for m, mode in MODES.items() for folder in getattr(mode, "WRITES", ())]


def bound(value, draws):
    part = {"bits_per_dim": value, "standard_error": 0.1}
    more = {"breakdown": {"prior": part}, "images": 9, "draws_per_image": draws}
    return {"result": {**part, **more, "bound_by_timesteps": {"infinity": part}}}


def test_another_report_lies_beside_the_first_and_the_same_is_one(tmp_path, capsys):
    path = tmp_path / "eval" / "6.json"
    path.parent.mkdir()
    beside = lambda p: p.with_suffix(".npz").write_bytes(p.stem.encode())
    made = [
        _records.publish(path, report, "2.5 bits/dim", beside, " and .npz")
        for report in (bound(2.5, 2), bound(2.4, 4), bound(2.4, 4), bound(2.5, 2), bound(2.3, 8))
    ]
    assert [p.name for p in made] == ["6.json", "6_2.json", "6_2.json", "6.json", "6_3.json"]
    assert json.loads(path.read_text()) == bound(2.5, 2)
    assert path.with_name("6_2.npz").read_bytes() == b"6_2"
    assert capsys.readouterr().out.startswith("2.5 bits/dim\n  written to ")
    run = collect.read(tmp_path)
    assert sections_trained.newest_bound(run).name == "eval/6.json"  # the first stays
    config = {"eval": {"limit": 0, "draws": 2}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for name, measured in (("6", {"limit": 64, "draws": 2}), ("6_2", config["eval"])):
        file = path.with_name(f"{name}.json")
        told = {"model": {"config": {"eval": measured}}}
        file.write_text(json.dumps(json.loads(file.read_text()) | told))
    own = collect.read(tmp_path)  # unless it is not what the run's settings say
    assert sections_trained.newest_bound(own).name == "eval/6_2.json"
    listed = sections_likelihood.likelihood(run).body
    assert all(f"eval/{name}.json" in listed for name in ("6", "6_2", "6_3"))


def test_a_figure_is_printed_before_it_is_written(tmp_path, capsys):
    def full(path):
        raise OSError(28, "No space left on device")

    (tmp_path / "eval").mkdir()
    with pytest.raises(OSError, match="No space"):
        _records.publish(tmp_path / "eval/6.json", {}, "2.5 bits/dim", full)
    assert capsys.readouterr().out == "2.5 bits/dim\n"
    assert not (tmp_path / "eval/6.json").exists()  # the JSON says that all is there


def test_two_at_once_choose_different_names(tmp_path, monkeypatch):
    def measure(draws):
        def beside(path):
            time.sleep(0.1)  # for the others to choose a name
            path.with_suffix(".npz").write_text(str(draws))

        report = bound(2.5, draws)
        return _records.publish(tmp_path / "eval/6.json", report, "2.5 bits/dim", beside)

    with ThreadPoolExecutor(3) as pool:
        made = dict(enumerate(pool.map(measure, range(3))))
        folders = [*pool.map(lambda _: edit._new_folder(tmp_path / "edits/6_inpaint"), range(3))]
    assert len({*made.values()}) == 3
    for draws, path in made.items():
        assert json.loads(path.read_text()) == bound(2.5, draws)
        assert path.with_suffix(".npz").read_text() == str(draws)
    assert len({*folders}) == 3
    assert len([*(tmp_path / "eval").iterdir()]) == 6  # the lock itself is gone
    # A folder that appears between the look and the making.
    monkeypatch.setattr(type(tmp_path), "exists", lambda path: False)
    assert edit._new_folder(tmp_path / "edits/6_inpaint").name == "6_inpaint_4"


def test_samples_drawn_otherwise_are_others(tmp_path):
    path, extra = tmp_path / "6.npz", {"method": '{"seed": 0}', "label": np.arange(3)}
    np.savez(path, image=np.zeros(3), **extra)
    assert sample._is_of(extra, path)
    assert not sample._is_of({**extra, "method": '{"seed": 1}'}, path)
    assert not sample._is_of({**extra, "label": np.arange(4)}, path)
    path.write_bytes(b"PK broken")
    assert not sample._is_of(extra, path)  # nor is what cannot be read overwritten


def test_pictures_of_another_report_are_not_the_first_ones(tmp_path):
    folder = tmp_path / "inspect"
    folder.mkdir()
    for name in ("6", "6_2"):
        (folder / f"{name}.json").write_text("{}")
        for picture in ("", "_loss"):
            (folder / f"{name}{picture}.png").write_bytes(b"x")
    first, second = collect.read(tmp_path).inspect
    assert [*first.pictures] == ["6.png", "6_loss.png"]
    assert [*second.pictures] == ["6_2.png", "6_2_loss.png"]
    assert collect.first_of_newest((first, second)) is first


@pytest.mark.parametrize(("mode", "folder"), WRITES)
def test_a_file_in_the_way_is_found_before_anything_is_computed(
    tmp_path, monkeypatch, mode, folder
):
    monkeypatch.setattr(MODES[mode], "run", None)  # it is not reached
    config, run = config_file(tmp_path), tmp_path / "run"
    (run / folder).parent.mkdir(exist_ok=True)
    (run / folder).write_text("in the way")
    done = main(mode, f"--config={config}", f"--workdir={run}")
    refused(done, f"cannot write to {run / folder}: .*is a file")


def test_a_file_in_the_way_of_an_export_is_found_as_early(tmp_path):
    config, there = config_file(tmp_path), tmp_path / "there"
    there.write_text("in the way")
    done = main("export", f"--config={config}", f"--workdir={tmp_path / 'run'}",
                f"--config.export.output={there}")  # fmt: skip
    refused(done, f"cannot write to {there}: .*is a file; name .*--config.export.output$")
    run = tiny.experiment(tmp_path)
    run.config.compress.output = str(there / "x.djz")
    with pytest.raises(WorkdirError, match=r"name another file with --config\.compress\.output$"):
        _codec_files.output_path(run)


def test_a_link_to_what_is_not_there_is_no_folder_to_write_to(tmp_path):
    (tmp_path / "samples").symlink_to(tmp_path / "unmounted" / "disk")
    for folder in ("samples", "samples/further"):
        with pytest.raises(
            WorkdirError, match=r"is a link to .*unmounted/disk, which does not exist; use"
        ):
            check_writable(tmp_path / folder)
    (tmp_path / "unmounted" / "disk").mkdir(parents=True)
    check_writable(tmp_path / "samples" / "further")


def test_every_mode_that_writes_says_where():
    named = {"export", "decompress"}  # the user names the place
    assert {m for m, _ in WRITES} == {*MODES} - named - {"list", "verify"}


def test_a_full_disk_is_found_and_nothing_is_left(tmp_path, monkeypatch):
    check_writable(tmp_path / "run" / "eval")
    assert not any(tmp_path.iterdir())

    def full(path, data):
        os.close(os.open(path, os.O_CREAT))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(tmp_path), "write_bytes", full)
    with pytest.raises(WorkdirError, match=r"cannot write to .*/eval: .*No space left"):
        check_writable(tmp_path / "run" / "eval")
    assert not any(tmp_path.iterdir())

"""Configurations as they are saved, and as users write them."""

import importlib.util
import json
from types import SimpleNamespace

import pytest
import tiny
from command import config_file, main, refused

from diffusion_jax import config_fields, experiment, saved_config
from diffusion_jax.cli import arguments
from diffusion_jax.config import base
from diffusion_jax.errors import ConfigError
from diffusion_jax.experiment import prepare_workdir


def test_a_saved_configuration_is_read_as_it_was(tmp_path):
    c = tiny.config(tmp_path, ema=(0.5, 0.9), clip=0.25)
    (tmp_path / "config.json").write_text(json.dumps(saved_config.to_dict(c)))
    assert saved_config.read(tmp_path / "config.json").to_dict() == c.to_dict()


def test_foreign_keys_are_left_out_and_named(tmp_path, capsys):
    values = saved_config.to_dict(tiny.config(tmp_path, lr=0.5))
    values |= {"wandb": {"project": "x"}, "notes": "mine"}
    values["sample"] |= {"colour": 3}
    found = saved_config.from_dict(values)
    assert found.lr == 0.5 and found.sample.num == 6 and "wandb" not in found
    assert (
        "unknown fields of the saved configuration are ignored: notes, sample.colour, wandb.project"
        in capsys.readouterr().err
    )
    config_fields.check_fields(found)


def test_a_run_with_a_foreign_key_is_resumed(tmp_path):
    run = tiny.experiment(tmp_path)
    run.workdir.mkdir()
    values = saved_config.to_dict(run.config) | {"wandb": {"project": "x"}}
    (run.workdir / "config.json").write_text(json.dumps(values))
    with prepare_workdir(run):  # it would raise WorkdirError
        pass


def test_a_foreign_key_is_named_once_by_a_command(tmp_path, capsys):
    """ml_collections loads the file named by --config as a module of its own."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(saved_config.to_dict(tiny.config(tmp_path)) | {"once": 1}))
    spec = importlib.util.spec_from_file_location("another", saved_config.__file__)
    another = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(another)
    another.get_config(str(path))
    saved_config.read(path)
    assert (
        capsys.readouterr().err.count("unknown fields of the saved configuration are ignored: once")
        == 1
    )


def test_texts_and_whether_they_were_hidden_give_weights_their_meaning():
    def differences(old, new):
        both = (base(), base())
        for c, changes in zip(both, (old, new), strict=True):
            c.update(changes)
        return [line.partition(":")[0] for line in saved_config.other_meaning(*both)]

    words = {"text": "words(known=('a', 'b'))"}
    assert differences(words, {"text": "words(known=('b', 'a'))"}) == ["text"]
    assert differences(words, {"text": "bytes()"}) == differences(words, {}) == ["text"]
    assert not differences({"text": "bytes()"}, {"text": "bytes(length=80)"})
    for told, given in (("text", "bytes()"), ("embedding", "clip(checkpoint='a', sha256='0')")):
        hidden = f"{told}_dropout"
        pair = ({told: given, hidden: share} for share in (0.0, 0.1))
        assert differences(*pair) == [f"{hidden} > 0"]
        assert not differences({hidden: 0.0}, {hidden: 0.1})  # nobody is told
    moved = ({"text": f"minilm(path={p!r}, digest='0123')"} for p in ("/a", "/b"))
    assert not differences(*moved)
    other = ({"text": f"minilm(path='/a', digest={d!r})"} for d in ("0123", "4567"))
    assert differences(*other) == ["text"]


def test_settings_that_were_added_since_have_their_defaults():
    values = saved_config.to_dict(base())
    del values["spike"], values["sample"]["preview"]
    assert saved_config.from_dict(values).to_dict() == base().to_dict()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("c.learning_rate = 1.0", "no field learning_rate"),
        ("c.sample.stepz = 1.0", "no field sample.stepz .did you mean 'sample.steps'"),
        ("c.extra = type(c)({'lr_decay': 1})", "no field extra.lr_decay"),
        ("del c.mesh", "lacks mesh; start it from diffusion_jax.config.base"),
        ("c.lr = 'fast'", "lr"),
    ],
)
def test_a_file_with_other_fields_is_refused_before_anything_is_written(tmp_path, line, message):
    path = config_file(tmp_path)
    path.write_text(path.read_text().replace("return", "c =") + f"    {line}\n    return c\n")
    refused(main(f"--config={path}", f"--workdir={tmp_path}/run"), message)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["[]", "{", '{"sample": 3}', '{"lr": "fast"}'])
def test_what_is_no_configuration_is_one_line(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError):
        saved_config.read(tmp_path / "config.json")


def test_a_published_checkpoint_says_what_its_weights_mean(tmp_path, monkeypatch):
    own = {"prediction": "v", "network": "vdm_unet(width=16, depth=1)", "gamma_max": 3.0}
    monkeypatch.setattr(
        experiment.weights, "published", lambda name: (name, SimpleNamespace(overrides=own))
    )
    c = tiny.config(tmp_path, prediction="eps", network="vdm_unet(width=16, depth=1, scan=True)")
    for field, value in (("prediction", "'eps'"), ("gamma_max", "4.0")):
        with pytest.raises(ConfigError, match=f"{field}={value}: vdm:x has {field}=.*leave it out"):
            experiment.open_experiment(c, tmp_path, "vdm:x", ["lr", field])
    found = experiment.open_experiment(c, tmp_path, "vdm:x", ["network"]).config
    assert (found.prediction, found.gamma_max) == ("v", 3.0)
    assert "scan=True" in found.network  # how it is run is free


def test_how_a_plugin_is_written_makes_no_other_run():
    old, new = base(), base()
    new.schedule, new.guidance = "learned_linear", "cfg(w=9)"
    new.network = "vdm_unet(scan=True)"
    assert not saved_config.differences(old, new) and not saved_config.other_meaning(old, new)
    new.network = "vdm_unet(smallest_group=1)"
    (line,) = saved_config.other_meaning(old, new)
    assert line == "network: 'vdm_unet()' -> 'vdm_unet(smallest_group=1)'"
    assert saved_config.differences(old, new) == [line]


def test_a_run_in_a_bucket_or_in_the_home_folder_has_a_configuration_too(tmp_path, monkeypatch):
    first = tiny.experiment(tmp_path, "first", lr=3e-4)
    with prepare_workdir(first):
        pass
    monkeypatch.setenv("HOME", str(tmp_path))
    there = lambda name: tmp_path / str(name).removeprefix("gs://bucket/")
    for name in ("gs://bucket/first", "~/first", "~/first/config.json"):
        with monkeypatch.context() as bucket:
            if name.startswith("gs:"):
                bucket.setattr(arguments, "place", there)
            argv = arguments.with_config(["", f"--config={name}", "--workdir=w"], "train")
        path = argv[1].partition(":")[2]
        assert saved_config.get_config(path).lr == 3e-4
    (tmp_path / "own.py").write_text("")
    argv = arguments.with_config(["", "--config=~/own.py:smoke", "--workdir=w"], "train")
    assert argv[1] == f"--config={tmp_path / 'own.py'}:smoke"
    monkeypatch.setattr(arguments, "place", there)
    monkeypatch.setattr(arguments, "missing", lambda name: f"there is no folder {name}")
    with pytest.raises(ConfigError, match="--config: there is no folder gs://bucket/absent; name"):
        arguments.with_config(["", "--config=gs://bucket/absent", "--workdir=w"], "train")


def test_the_configuration_of_a_run_starts_another(tmp_path):
    """Named by the run's folder or by its file, with changes; a file that is none is one line."""
    first = tiny.experiment(tmp_path, "first", lr=3e-4)
    with prepare_workdir(first):
        pass
    for n, name in enumerate((first.workdir, first.workdir / "config.json")):
        argv = arguments.with_config(["", f"--config={name}", f"--workdir={tmp_path}/{n}"], "train")
        path = argv[1].partition(":")[2]
        assert saved_config.get_config(path).lr == 3e-4
    args = (f"--config={first.workdir}/config.json", f"--workdir={tmp_path}/other")
    refused(main(*args, "--config.sampler=heunn()"), "did you mean 'heun'")
    (tmp_path / "list.json").write_text("[1, 2]")
    for name, says in (("list.json", "not a JSON object"), ("none.json", "none.json")):
        refused(main(f"--config={tmp_path}/{name}", f"--workdir={tmp_path}/other"), says)
    assert not (tmp_path / "other").exists()


def test_every_name_of_elsewhere_leads_to_a_field():
    for name, ours in config_fields._ELSEWHERE.items():
        with pytest.raises(ConfigError, match=f"did you mean '{ours}'"):
            config_fields.check_field(name)
        config_fields.check_field(ours)

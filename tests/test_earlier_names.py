"""What was saved or typed by an earlier name is read, built and compared as what it is today."""

import importlib
import inspect

import pytest
import tiny

from diffusion_jax import earlier_names, registry, saved_config, testing

PLUGINS = [(k, old, new) for k, names in earlier_names._PLUGINS.items()
           for old, new in names.items()]  # fmt: skip


@pytest.mark.parametrize(("old", "new"), earlier_names.KINDS.items())
def test_an_earlier_kind_is_the_one_of_today(old, new):
    assert old not in registry.FOLDERS
    assert registry.folder(old) == registry.folder(new)


@pytest.mark.parametrize(("kind", "old", "new"), PLUGINS)
def test_an_earlier_plugin_is_the_one_of_today(kind, old, new):
    names = registry.available(kind)
    assert new in names and old not in names
    assert earlier_names.rewritten(kind, old) == new
    nested = f"{old}(inner={old}(a=1), path='{old}(1)', {old}=2, {old}s(), my.{old}())"
    said = earlier_names.rewritten(kind, nested)
    assert said == f"{new}(inner={new}(a=1), path='{old}(1)', {old}=2, {old}s(), my.{old}())"


def test_plugins_are_built_by_their_earlier_names():
    for kind, old, new in (
        ("augment", "untold(flip())", "hidden(flip())"),
        ("guidance", "interval(clip(told()), 0.0, 1.0)",
         "interval(clip_denoised(distilled()), 0.0, 1.0)"),
        ("network", "sequence(told=True)", "sequence(self_conditioning=True)"),
    ):  # fmt: skip
        assert registry.build(kind, old) == registry.build(kind, new)
    registry.check("models", "mlp()")
    testing.check("finals", "decode()")


def test_a_saved_configuration_has_todays_names_and_is_the_same_run(tmp_path):
    new = tiny.config(
        tmp_path, augment="hidden(flip())", data="class_captions(digits())",
        network="sequence(width=8, self_conditioning=True)", guidance="clip_denoised(cfg(w=2.0))",
    )  # fmt: skip
    old = saved_config.to_dict(new) | {
        "augment": "untold(flip())", "data": "named(digits())", "guidance": "clip(cfg(w=2.0))",
        "network": "sequence(width=8, told=True)",
    }  # fmt: skip
    read = saved_config.from_dict(old)
    assert saved_config.to_dict(read) == saved_config.to_dict(new)
    read.update(old)  # as a file of the user's still says
    assert not saved_config.differences(read, new) and not saved_config.other_meaning(read, new)


def module(kind, name):
    return importlib.import_module(f"diffusion_jax.{registry.FOLDERS[kind]}.{name}")


CHANGED = [
    (k, name, d) for k, of in earlier_names.DEFAULTS.items() for name, ds in of.items() for d in ds
]


@pytest.mark.parametrize(("setting", "name", "default"), CHANGED)
def test_a_default_that_changed_is_that_of_today(setting, name, default):
    kinds = ("guides", "tasks") if setting == "task" else (setting,)
    kind = next(k for k in kinds if name in registry.available(k))
    taken = [*inspect.signature(module(kind, name).make).parameters.values()]
    assert taken[default.position].name == default.name
    assert taken[default.position].default == default.today != default.earlier


def test_a_guidance_in_a_task_is_no_guide_of_the_same_name():
    task = "distill(teacher='x', guidance=classifier(checkpoint='y'))"
    assert (
        earlier_names.said("task", task) == earlier_names.said("task", task, earlier=True) == task
    )


def test_what_is_saved_says_defaults_that_changed_and_what_does_not_is_from_before(tmp_path):
    path = "'a clip(x)'"
    task = f"guide(clip(width=8), against={path})"
    new = tiny.config(tmp_path, task=task, guidance="clip_guidance('runs/x', inner=cfg(w=0.0))")
    saved = saved_config.to_dict(new)
    assert saved["task"] == f"guide(clip(width=8, places=4, groups=8), against={path})"
    again = saved_config.from_dict(saved)
    assert again.task == saved["task"] and "form='bank'" in again.guidance
    assert not saved_config.differences(again, new)
    old = saved_config.from_dict({**saved, "task": task, "guidance": "similarity('runs/x')"})
    assert old.task == f"guide(clip(width=8, places=1, groups=32), against={path})"
    assert old.guidance == "clip_guidance('runs/x', form='true')"
    (changed,) = saved_config.differences(old, new)  # a run of today is another
    assert "places=1" in changed and "places=4" in changed
    assert saved_config.other_meaning(old, new)
    said = "clip_guidance('runs/x', None, 1.0, None, 'logit')"
    assert earlier_names.said("guidance", said, earlier=True) == said


def test_an_earlier_name_has_its_earlier_default():
    assert registry.build("guidance", "similarity('runs/x')").form == "true"
    assert registry.build("guidance", "clip_guidance('runs/x')").form == "bank"

"""What was saved or typed by an earlier name is read, built and compared as what it is today."""

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

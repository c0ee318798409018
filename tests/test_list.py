"""What `--mode=list` prints is what there is."""

import inspect
import re

import pytest
from command import main, program, refused

from diffusion_jax import registry


def test_every_kind_has_a_folder_of_plugins_and_a_line():
    for kind in registry.FOLDERS:
        line, plugins = registry.describe(kind)
        assert line and plugins, kind


@pytest.mark.parametrize("kind", ["guidance", "samplers", "schedules", "backbones", "edits"])
def test_the_description_agrees_with_what_imports(kind):
    _, found = registry.describe(kind)
    assert tuple(p.name for p in found) == registry.available(kind)
    for p in found:
        module = registry._find(kind, p.name)
        signature = inspect.signature(module.make)
        assert [a.partition("=")[0] for a in p.arguments] == list(signature.parameters)
        for text, parameter in zip(p.arguments, signature.parameters.values(), strict=True):
            assert ("=" in text) == (parameter.default is not inspect.Parameter.empty)
        assert p.line and module.__doc__.startswith(p.line)


def test_list_needs_nothing_and_prints_plain_lines_into_a_pipe():
    done = program("--mode=list")
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert all(len(r) == 3 and r[2] for r in rows)
    assert ["guidance", "cfg(w=1.5, negative='')"] in [r[:2] for r in rows]
    assert ["modes", "--mode=list"] in [r[:2] for r in rows]
    assert "\x1b" not in done.stdout
    only = main("--mode=list", "--config.list.kind=samplers")
    assert {line.split("\t")[0] for line in only.stdout.splitlines()} == {"samplers"}
    assert main("list", "--config.list.kind=sampler").stdout == only.stdout
    refused(main("--mode=list", "--config.list.kind=samplars"), "did you mean 'samplers'?")


@pytest.mark.parametrize("field", ["schedule", "network", "encoder", "data", "guidance", "final"])
def test_a_kind_answers_to_the_name_of_its_setting(field):
    assert registry.kind_called(field) in registry.FOLDERS
    assert registry.available(field)


@pytest.fixture
def shown(monkeypatch, capsys):
    """What a terminal of 80 columns shows, without its colours."""
    from diffusion_jax.cli.modes import list as mode

    for name, value in (("FORCE_COLOR", "1"), ("TTY_COMPATIBLE", "1"), ("COLUMNS", "80")):
        monkeypatch.setenv(name, value)

    def show(kind):
        mode.run(kind)
        text = capsys.readouterr().out
        assert "\x1b[" in text and "\t" not in text
        return re.sub(r"\x1b\[[0-9;]*m", "", text)

    return show


def test_all_kinds_fit_a_terminal(shown):
    text = shown("")
    # A line for a kind, or a little more: some names are many.
    assert (
        text.count("\n") <= 1.5 * len(registry.FOLDERS) and max(map(len, text.splitlines())) <= 80
    )
    words = set(re.findall(r"\w+", text))
    for kind in registry.FOLDERS:
        assert {kind, *registry.available(kind)} <= words


def test_one_kind_on_a_terminal_has_the_arguments(shown):
    text = shown("grid")
    assert "karras(rho=7.0)" in text and max(map(len, text.splitlines())) <= 80

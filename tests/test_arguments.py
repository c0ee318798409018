"""The command line before it is parsed: names, old flags, modes and settings they would ignore."""

import subprocess
import sys

import pytest
from command import main, refused
from conftest import REPO

import diffusion_jax
from diffusion_jax import config_fields, registry
from diffusion_jax.cli import arguments
from diffusion_jax.config import base
from diffusion_jax.config_groups import GROUPS
from diffusion_jax.errors import ConfigError

MODES = registry.available("modes")


def test_every_mode_says_which_settings_it_reads():
    known = {*base(), *GROUPS, *config_fields.flat(base().to_dict())}
    for mode in MODES:
        assert {*arguments.reads(mode)} <= known, mode
    fields = [name for names in GROUPS.values() for name in names]
    assert {*fields} <= {*base()} and len({*fields}) == len(fields)


@pytest.mark.parametrize(
    ("mode", "field", "users"),
    [
        ("sample", "edit.image", "edit"),
        ("sample", "steps", "train"),
        ("ood", "class_dropout", "train"),
        ("eval", "compare.a", "compare"),
        ("train", "compress.output", "compress, decompress, verify"),
        ("eval", "guidance", "audit, edit, quality, report, sample, train"),
    ],
)
def test_settings_of_other_modes_are_refused(mode, field, users):
    with pytest.raises(ConfigError, match=f"{mode} ignores --config.{field}, .* for {users};"):
        arguments.check_settings(mode, [field])


def test_what_runs_have_of_their_own_is_not_taken_by_a_comparison():
    arguments.check_settings("compare", ["compare.a", "eval.draws", "data_dir", "mesh"])
    for field in ("prediction", "dtype"):
        with pytest.raises(ConfigError, match=f"compare ignores --config.{field}: its runs"):
            arguments.check_settings("compare", [field])


def test_settings_that_are_read_are_not():
    arguments.check_settings("sample", ["sample.num", "guidance", "dtype", "eval.weights"])
    arguments.check_settings("decompress", ["compress.output", "data_dir"])
    arguments.check_settings("ood", ["ood.against", "eval.draws"])


def test_old_flags_are_settings_now(capsys):
    argv = ["x", "--mode=ood", "--against", "noise(digits())", "--verify", "--a=r", "--config.lr=1"]
    assert arguments.renamed(argv) == [
        "x", "--mode=ood", "--config.ood.against=noise(digits())", "--config.compress.verify=True",
        "--config.compare.a=r", "--config.lr=1",
    ]  # fmt: skip
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and "--against is now --config.ood.against" in lines[0]


def test_an_unknown_mode_names_the_nearest():
    assert arguments.check_mode(["x"]) == "train"
    with pytest.raises(ConfigError, match=r"mode 'smaple' .did you mean 'sample'"):
        arguments.check_mode(["x", "--mode", "smaple"])


def test_the_first_word_is_the_mode(capsys):
    assert arguments.with_mode(["x", "eval", "--workdir=w"]) == ["x", "--mode=eval", "--workdir=w"]
    assert arguments.with_mode(["x", "--mode=eval"]) == ["x", "--mode=eval"]
    with pytest.raises(ConfigError, match="two modes are given: eval and train"):
        arguments.with_mode(["x", "eval", "--mode=train"])
    refused(main("smaple"), "did you mean 'sample'")
    assert main("help").stdout == main("--help").stdout == arguments.help_page()
    assert main("--version").stdout.startswith(f"diffusion_jax {diffusion_jax.__version__} (jax ")


@pytest.mark.parametrize("flag", ["workdir", "checkpoint", "config.compare.a"])
def test_a_folder_without_a_run_is_named(flag, tmp_path):
    mode = "compare" if "." in flag else "eval"
    refused(main(mode, f"--{flag}={tmp_path}"), f"--{flag}: there is no run in {tmp_path}")
    gone = tmp_path / "gone"
    refused(main(mode, f"--{flag}={gone}"), f"--{flag}: there is no folder {gone}")


@pytest.mark.parametrize(
    ("name", "yes"),
    [("vdm:ckpt", True), ("diffenc_nt:x", True), ("gs://b/run", False), ("runs/a:b", False)],
)
def test_only_known_prefixes_are_published_checkpoints(name, yes):
    assert arguments.published(name) == yes


def test_packaged_configurations_are_found_from_anywhere(tmp_path, monkeypatch):
    own = REPO / "configs" / "digits.py"
    for name in ("digits", "digits.py", "configs/digits.py"):
        monkeypatch.chdir(tmp_path)
        assert arguments.config_path(name).samefile(own)
    (tmp_path / "digits").write_text("")  # a file of the user's own comes first
    assert arguments.config_path("digits").resolve() == (tmp_path / "digits").resolve()
    with pytest.raises(ConfigError, match=r"no file mnits .did you mean 'mnist'"):
        arguments.config_path("mnits")
    argv = arguments.with_config(["x", "--config", "mnist:smoke", "--workdir=w"], "train")
    assert argv == ["x", f"--config={REPO / 'configs' / 'mnist.py'}:smoke", "--workdir=w"]
    argv = arguments.with_config(["x", "--workdir", "config", "--config=mnist"], "train")
    assert argv == ["x", "--workdir", "config", f"--config={REPO / 'configs' / 'mnist.py'}"]


@pytest.mark.parametrize(
    ("arguments_", "on"),
    [(["--trust"], True), (["-trust"], True), (["--trust=True"], True), (["--trust=t"], True),
     (["--trust=1"], True), (["--trust=false"], False), (["--notrust"], False),
     (["--workdir", "trust"], False), ([], False)],
)  # fmt: skip
def test_a_switch_may_have_a_value(arguments_, on):
    assert arguments.switched_on(["djax", *arguments_], "trust") == on


def test_help_fits_a_screen_and_has_every_mode():
    lines = arguments.help_page().splitlines()
    assert 24 <= len(lines) <= 40 and max(map(len, lines)) <= 100
    starts = {line.split()[0] for line in lines if line.startswith("    ") and line.strip()}
    assert {*MODES} <= starts
    flags = {line.split()[0] for line in lines if line.startswith("  --")}
    assert {"--config", "--workdir", "--checkpoint", "--trust"} <= flags
    assert arguments.asks_for_help(["x", "-h"]) and not arguments.asks_for_help(["x", "--mode=h"])


def test_a_list_may_be_cut_short():
    command = f"{sys.executable} -m diffusion_jax --mode=list | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, cwd=REPO)
    assert done.returncode == 0 and not done.stderr

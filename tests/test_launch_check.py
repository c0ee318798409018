"""The trainer's arguments are looked at here, before a slice is paid for."""

import subprocess

from launch import check


def test_the_real_trainer_names_a_misspelt_setting():
    said = check.problem(["--config=configs/digits.py", "--config.sample.stepz=3"])
    assert "stepz" in said and "steps" in said and "\n" not in said


def test_an_answer_that_does_not_come_is_a_problem(monkeypatch):
    def late(argv, **how):
        raise subprocess.TimeoutExpired(argv, how["timeout"])

    monkeypatch.setattr(check.subprocess, "run", late)
    assert "not checked within 7 s" in check.problem(["--config=digits"], seconds=7.0)


def test_the_last_line_counts_where_the_program_broke_down(monkeypatch):
    broken = subprocess.CompletedProcess([], 1, "", "Traceback ...\nImportError: no such thing\n")
    monkeypatch.setattr(check.subprocess, "run", lambda *_, **__: broken)
    assert check.problem(["--config=digits"]) == "ImportError: no such thing"

"""The benchmark of students: its rows, what is not made again, and its table."""

import json

import pytest

from benchmarks import students
from diffusion_jax import registry
from diffusion_jax.errors import ConfigError


@pytest.mark.parametrize("method", students.METHODS)
def test_every_row_is_a_task_that_can_be_built(method, tmp_path):
    (tmp_path / "inspect").mkdir()
    (tmp_path / "inspect" / "10.json").write_text("{}")
    rows = students.tasks(str(tmp_path), [4, 1], [method], [*students.EDGES])
    assert len(rows) == 2 * len(students.EDGES)
    assert f"1 call, {method}, equal in dp" in rows and f"4 calls, {method}, equal in time" in rows
    for name, task in rows.items():
        built = registry.build("tasks", task)
        assert built.teacher == str(tmp_path)
        method_of = registry.build("distillation", built.method)
        assert method_of.steps == int(name.split()[0])
        assert ("10.json" in str(built.edges)) == name.endswith("dp")


def test_dp_needs_a_curve(tmp_path):
    with pytest.raises(SystemExit, match="--mode=inspect"):
        students.tasks(str(tmp_path), [4], ["segments"], ["dp"])


def test_a_finished_student_is_not_trained_again_and_another_is_refused(tmp_path, monkeypatch):
    made = []

    def run(experiment):
        made.append(experiment)
        experiment.workdir.mkdir()
        (experiment.workdir / "config.json").write_text(experiment.config.to_json())
        if len(made) == 1:
            raise KeyboardInterrupt
        lines = [{"step": 20, "train/loss": 0.1}, {"step": 20, "test/agreement": 0.25}]
        text = "\n".join(map(json.dumps, lines))
        (experiment.workdir / "metrics.jsonl").write_text(text)

    monkeypatch.setattr(students.train_mode, "run", run)
    monkeypatch.setattr(students, "open_experiment", lambda c, folder: Run(c, folder))
    task = "distill(teacher='runs/x', method=segments(steps=4, inner=4))"

    def once(steps=20):
        return students.train("digits_student", task, steps, 3, "", tmp_path / "row")

    with pytest.raises(KeyboardInterrupt):
        once()
    (tmp_path / "row" / "config.json").unlink()
    (tmp_path / "row").rmdir()
    assert [once(), once()] == [0.25, 0.25] and len(made) == 2
    assert made[-1].config.seed == 3 and made[-1].config.steps == 20
    with pytest.raises(ConfigError, match=r"has a run with steps=20; name another --out"):
        once(40)


class Run:
    """What is trained."""

    def __init__(self, config, workdir):
        self.config, self.workdir = config, workdir


def test_the_table_has_means_with_errors():
    text = students.show({"a": [1.0, 2.0, 3.0], "b": [0.5]})
    assert "| a | 2.000 +- 0.577 | 3 |" in text and "| b | 0.500 | 1 |" in text

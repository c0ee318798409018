"""Who may still write a run, what is closed when it ends badly, what several hosts do in step."""

from contextlib import contextmanager
from types import SimpleNamespace

import jax
import pytest
import tiny
from test_training_integrity import counting

from diffusion_jax.cli.modes import report, train
from diffusion_jax.data import base
from diffusion_jax.errors import CheckpointError, ConfigError, NonFiniteError, WorkdirError
from diffusion_jax.likelihood import bound_variance
from diffusion_jax.runtime import distributed
from diffusion_jax.training import lock
from diffusion_jax.training.checkpoint import Checkpoints
from diffusion_jax.training.cleanup import closing


def test_a_run_that_was_taken_over_is_not_finished_by_the_older(tmp_path, monkeypatch):
    experiment, found = counting(tmp_path)
    experiment.config.steps = 1
    experiment.config.seed = next(s for s in range(99) if 7 not in base.indices(0, 8, 64, s))
    train.run(experiment)
    assert found.total > 0
    found.total = None
    gone = []

    @contextmanager
    def overtaken(workdir):
        def check():
            gone.append(workdir)
            raise WorkdirError("taken over")

        yield check

    monkeypatch.setattr(lock, "only_writer", overtaken)
    with pytest.raises(WorkdirError, match="taken over"):
        train.run(experiment)
    assert gone == [experiment.workdir] and found.total is None


class Door:
    """Something to close, that cannot always be closed."""

    def __init__(self, problem=None):
        self.problem, self.closed = problem, 0

    def close(self):
        self.closed += 1
        if self.problem is not None:
            raise self.problem


def test_everything_is_closed_and_the_first_error_is_the_one_that_is_seen(caplog):
    outer, inner = Door(), Door(CheckpointError("disk full"))
    with pytest.raises(NonFiniteError, match="at step 3"), closing(outer), closing(inner):
        raise NonFiniteError("bad at step 3", 3)
    assert (outer.closed, inner.closed) == (1, 1)
    assert "Door could not be closed either: disk full" in caplog.text
    outer = Door()
    with pytest.raises(CheckpointError, match="disk full"), closing(outer), closing(inner):
        pass
    assert (outer.closed, inner.closed) == (1, 2)


def test_checkpoints_are_closed_if_the_writer_cannot_be_opened(tmp_path, monkeypatch):
    experiment, _ = counting(tmp_path)
    closed, close = [], Checkpoints.close
    monkeypatch.setattr(Checkpoints, "close", lambda self: (close(self), closed.append(self)))

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(train, "Writer", full)
    with pytest.raises(OSError, match="no space left"):
        train.run(experiment)
    assert len(closed) == 1


@pytest.mark.parametrize("rank", [0, 1])
def test_hosts_look_again_only_after_a_damaged_checkpoint_was_moved(tmp_path, monkeypatch, rank):
    """Seen from either host, with the other one late."""
    (tmp_path / "4").mkdir()
    events = []
    checkpoints = object.__new__(Checkpoints)
    checkpoints._folder = tmp_path
    checkpoints._manager = SimpleNamespace(
        reload=lambda: events.append(sorted(p.name for p in tmp_path.iterdir()))
    )

    def meet(where):
        events.append(sorted(p.name for p in tmp_path.iterdir()))
        if rank and len(events) == 2:  # the other host is done only when it comes here
            (tmp_path / "4").rename(tmp_path / "damaged-4")

    monkeypatch.setattr(jax, "process_index", lambda: rank)
    monkeypatch.setattr(distributed, "meet", meet)
    checkpoints._set_aside(4)
    # Nothing is moved before all have met: the late one may still be reading.
    assert events == [["4"], ["4"] if rank else ["damaged-4"], ["damaged-4"]]


def test_a_report_is_made_by_one_process(tmp_path, monkeypatch):
    experiment = tiny.experiment(tmp_path, report=True)
    experiment.workdir.mkdir(parents=True)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ConfigError, match="one process"):
        report.run(experiment)
    assert not list(experiment.workdir.iterdir())


@pytest.mark.parametrize("processes", [1, 2])
def test_hosts_do_not_wait_for_an_animation(tmp_path, monkeypatch, processes):
    experiment = tiny.experiment(tmp_path)
    made = []
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    monkeypatch.setattr(report, "_animate", lambda *_: made.append("animation"))
    monkeypatch.setattr(bound_variance, "curve", lambda *_: made.append("curve") or {})
    report.illustrate(experiment, {}, {"step": 6})
    assert made == (["curve", "animation"] if processes == 1 else ["curve"])

"""The processor time a run has used."""

import time

from diffusion_jax.runtime import cores
from diffusion_jax.training import processor_time as cost_module
from diffusion_jax.training.processor_time import Cost


def test_starts_add_up(monkeypatch):
    now = iter([100.0, 130.5, 7.0, 9.0])
    monkeypatch.setattr(cores, "used", lambda: next(now))
    first = Cost(since=cores.used())()
    assert first == {"core_seconds": 30.5}
    assert Cost(first["core_seconds"], cores.used())() == {"core_seconds": 32.5}


def test_every_process_counts(monkeypatch):
    monkeypatch.setattr(cost_module, "total", lambda mine: mine + 40.0)  # another's
    assert Cost(1.0, cores.used())()["core_seconds"] >= 41.0


def test_it_is_the_processor_that_counts_not_the_clock():
    before = cores.used()
    time.sleep(0.05)
    asleep = cores.used() - before
    end = time.process_time() + 0.05
    while time.process_time() < end:
        sum(range(1000))
    assert cores.used() - before - asleep >= 0.03
    assert asleep <= 0.03

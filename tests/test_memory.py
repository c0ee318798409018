"""What does not fit is refused before it is allocated."""

import jax
import jax.numpy as jnp
import pytest
import tiny
from test_training_integrity import counting

from diffusion_jax import saved_config
from diffusion_jax.cli.modes import train
from diffusion_jax.errors import ConfigError, WorkdirError
from diffusion_jax.experiment import assembly, prepare_workdir
from diffusion_jax.experiment.measures import bits_per_dim
from diffusion_jax.experiment.sampling import run_sampler
from diffusion_jax.runtime import memory
from diffusion_jax.runtime.sharding import gathered


def test_a_program_that_does_not_fit_is_compiled_and_never_run():
    run = jax.jit(lambda x: jnp.sum(jnp.exp(x[:, None] + x[None]) @ jnp.sin(x[:, None] - x[None])))
    device, x = jax.devices()[0], jax.ShapeDtypeStruct((2**21,), jnp.float32)
    with pytest.raises(ConfigError, match=r"this needs [\d,.]+ GiB on each device.*: buy more$"):
        memory.check_program(run.lower(x), device, "this", "buy more")
    memory.check_program(run.lower(jnp.ones(8)), device, "this", "buy more")


def test_compiling_to_look_costs_nothing_more():
    seen = []
    run = jax.jit(lambda x: jnp.cos(x) @ x)
    memory.check_program(run.lower(jnp.ones((9, 9))), jax.devices()[0], "this", "buy more")
    jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: seen.append(name))
    run(jnp.ones((9, 9))).block_until_ready()
    assert not [name for name in seen if name.endswith("backend_compile_duration")]


def test_a_batch_that_takes_the_machine_is_refused_before_anything_is_written(tmp_path):
    experiment = tiny.experiment(tmp_path, batch=2**40)
    with pytest.raises(ConfigError, match=r"a batch of \d+ needs .* lower --config.batch"):
        train.run(experiment)
    assert not experiment.workdir.exists()


def test_a_step_that_does_not_fit_is_refused_and_named_and_less_may_be_asked_for(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(memory, "of_device", lambda device: 500)
    with pytest.raises(ConfigError, match=r"a training step needs .*lower --config.batch, .*"):
        train.run(counting(tmp_path)[0])
    assert not (tmp_path / "run" / "checkpoints" / "2").exists()
    other = tiny.experiment(tmp_path)  # another batch
    with prepare_workdir(other):
        assert saved_config.read(other.workdir / "config.json").batch == 16
    (other.workdir / "checkpoints" / "2").mkdir()
    other.config.batch = 8
    with pytest.raises(WorkdirError, match="another configuration"), prepare_workdir(other):
        pass


def test_evaluation_and_samples_that_do_not_fit_are_refused(tmp_path, monkeypatch):
    experiment = tiny.experiment(tmp_path)
    init = experiment.model.init
    params = gathered(experiment.mesh, init(jax.random.key(0), experiment.source.shape))
    monkeypatch.setattr(memory, "of_device", lambda device: 500)
    with pytest.raises(ConfigError, match=r"8 images at once, needs .*lower --config.eval.batch"):
        bits_per_dim.bound(experiment, params)
    with pytest.raises(ConfigError, match=r"sampling needs .*lower --config.sample.batch"):
        run_sampler.compiled(experiment, params)(seed=0)


def test_the_limit_of_a_container_counts(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text(f"{2**30}\n")
    monkeypatch.setattr(memory, "_LIMIT", tmp_path / "memory.max")
    assert memory.of_device(jax.devices("cpu")[0]) == 2**30 // jax.local_device_count("cpu")


def test_attention_that_training_cannot_hold_is_refused_before_anything_is_written(
    tmp_path, monkeypatch
):
    network = "dit(width=8, depth=1, heads=2, patch=1)"
    experiment = tiny.experiment(tmp_path, network=network, batch=64)
    # Of the whole batch; two images would fit.
    needed = 4 * 16**2 * 2 * 64 // experiment.mesh.devices.size
    monkeypatch.setattr(assembly, "of_device", lambda device: needed - 1)
    with pytest.raises(ConfigError, match="dit: attention among 16 tokens needs"):
        train.run(experiment)
    assert not experiment.workdir.exists()
    monkeypatch.setattr(assembly, "of_device", lambda device: needed)
    assembly.check_call(tiny.experiment(tmp_path, network=network, batch=64))

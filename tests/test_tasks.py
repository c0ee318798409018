"""Tasks of one's own: weights that are given, several groups of weights, runs from before."""

import hashlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from jax.sharding import PartitionSpec

from diffusion_jax import registry, saved_config
from diffusion_jax.cli.modes import train
from diffusion_jax.errors import WorkdirError
from diffusion_jax.runtime.sharding import batched, make_mesh, placed, replicated
from diffusion_jax.training import restore
from diffusion_jax.training.compile import compile_steps, fresh_meter
from diffusion_jax.training.state import State
from diffusion_jax.training.tasks.base import Given, Plugin, Task

RATES = {"student": optax.sgd(0.1), "critic": optax.adam(0.01)}


class Duel:
    """A student that follows a teacher it is given, and a critic with an optimiser of its own."""

    name, unit, note = "duel", "squares", ""
    metrics = ("loss", "grad_norm")
    holds, figure = "student", "nothing"

    def __init__(self, split, teacher):
        self.split, self.teacher, self.end, self.traces = split, teacher, None, 0

    def open(self, setting, handed):
        return self

    def shapes(self, setting):
        return jax.eval_shape(self.initial).params

    def function(self, setting):
        return lambda params: params

    def initial(self):
        student = {"w": jnp.ones(self.teacher.shape)}
        params = {"student": student, "critic": {"b": jnp.zeros(2)}}
        opt = {k: rule.init(params[k]) for k, rule in RATES.items()}
        return State(jnp.zeros((), jnp.int32), params, {"0.9": student}, opt)

    def given(self):
        return Given({"w": self.teacher}, {"teacher": "runs/teacher"})

    def load(self):
        return self.split, None

    def ready(self, state, train):
        return state, train

    def update(self, state, batch, given):
        self.traces += 1
        seen = batch["image"].astype(jnp.float32).mean()

        def loss(params):
            gap = jnp.square(params["student"]["w"] - given["w"]).sum()
            return gap + jnp.square(params["critic"]["b"] - seen).sum()

        value, grads = jax.value_and_grad(loss)(state.params)
        params, opt = {}, {}
        for k, rule in RATES.items():
            moves, opt[k] = rule.update(grads[k], state.opt_state[k], state.params[k])
            params[k] = optax.apply_updates(state.params[k], moves)
        ema = {"0.9": optax.incremental_update(params["student"], state.ema["0.9"], 0.1)}
        after = State(state.step + 1, params, ema, opt)
        return after, {"loss": value, "grad_norm": optax.tree.norm(grads)}

    def validate(self, state, valid):
        return {}

    def sample(self, writer, state, step):
        pass

    def finish(self, writer, state):
        self.end = jax.tree.map(np.asarray, state)


def duel(folder, name, teacher=2.0, devices=8, **changes):
    experiment = tiny.experiment(
        folder, name, steps=6, save_every=3, log_every=1, eval_every=0, ema=(0.9,), **changes
    )
    task = Duel(experiment.source.split("train"), jnp.full((3, 4), teacher))
    experiment.__dict__.update(task=task, mesh=make_mesh(jax.devices()[:devices]))
    return experiment, task


def test_a_task_of_ones_own_keeps_the_contract(tmp_path):
    _, task = duel(tmp_path, "run")
    assert isinstance(task, Task) and isinstance(task, Plugin)
    for spec in ("diffusion()", "guide(classifier())"):
        assert isinstance(registry.build("tasks", spec), Plugin)


def test_given_weights_and_two_optimisers(tmp_path):
    """The student has a closed form: each step of SGD takes a fifth of the way to the teacher."""
    experiment, task = duel(tmp_path, "run")
    train.run(experiment)
    np.testing.assert_allclose(task.end.params["student"]["w"], 2.0 - 0.8**6, rtol=1e-6)
    assert int(task.end.opt_state["critic"][0].count) == 6
    folder = experiment.workdir / "checkpoints" / "6"
    saved = restore.read_meta(folder)["given"]
    digest = hashlib.sha256(b"['w'] float32 (3, 4)\n" + np.full((3, 4), 2.0, np.float32).tobytes())
    assert saved == {"paths": {"teacher": "runs/teacher"}, "sha256": digest.hexdigest()}
    # Stopped half-way and resumed, and on one device: bit for bit the same.
    for name, devices in (("stopped", 8), ("one", 1)):
        half, _ = duel(tmp_path, name, devices=devices)
        half.config.steps = 3
        train.run(half)
        whole, again = duel(tmp_path, name, devices=devices)
        train.run(whole)
        for a, b in zip(jax.tree.leaves(task.end), jax.tree.leaves(again.end), strict=True):
            np.testing.assert_allclose(a, b, rtol=0 if devices == 8 else 1e-6)


def test_the_teacher_must_stay_the_same(tmp_path):
    experiment, _ = duel(tmp_path, "run")
    experiment.config.steps = 3
    train.run(experiment)
    changed, _ = duel(tmp_path, "run", teacher=3.0)
    with pytest.raises(WorkdirError, match="with other frozen weights"):
        train.run(changed)


def test_given_weights_lie_as_weights_do_and_change_without_a_new_program():
    """Sharded over `fsdp`, as arguments of one compiled step."""
    mesh = make_mesh(jax.devices(), "data=2,fsdp=4")
    teachers = [jnp.full((64, 32), w) for w in (2.0, 3.0)]
    task = Duel(None, teachers[0])
    where = placed(mesh, {"w": teachers[0]})
    assert where["w"].spec == PartitionSpec("fsdp", None)
    step = compile_steps(task, mesh, None, False, placed(mesh, jax.eval_shape(task.initial)))
    batch = {"image": jax.device_put(np.zeros((8, 4, 4, 1), np.uint8), batched(mesh))}
    index = jax.device_put(np.arange(8, dtype=np.int32), batched(mesh))
    for teacher, w in zip(teachers, (1.2, 1.4), strict=True):
        state = jax.device_put(task.initial(), placed(mesh, jax.eval_shape(task.initial)))
        meter = jax.device_put(fresh_meter(task), replicated(mesh))
        after, *_ = step(state, meter, batch, index, jax.device_put({"w": teacher}, where))
        np.testing.assert_allclose(after.params["student"]["w"], w, rtol=1e-6)
        assert after.params["student"]["w"].sharding.spec == PartitionSpec("fsdp", None)
    assert task.traces == 1


def test_a_configuration_from_before_tasks_is_read(tmp_path):
    old = saved_config.to_dict(tiny.config(tmp_path))
    del old["task"]
    for scorer, against, task in (
        ("", "", "diffusion()"),
        ("classifier(width=16)", "", "guide(classifier(width=16, groups=32))"),
        ("captions()", "", "guide(clip(places=1, groups=32))"),
        ("discriminator", "runs/x", "guide(discriminator(groups=32), against='runs/x')"),
    ):
        path = tmp_path / "config.json"
        path.write_text(json.dumps(old | {"scorer": scorer, "against": against}))
        assert saved_config.read(path).task == task
        assert isinstance(registry.build("tasks", task), Plugin)

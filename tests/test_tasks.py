"""Tasks of one's own: weights that are given, several groups of weights, runs from before."""

import hashlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from diffusion_jax import registry, saved_config
from diffusion_jax.cli.modes import train
from diffusion_jax.errors import WorkdirError
from diffusion_jax.runtime.sharding import make_mesh
from diffusion_jax.training import restore
from diffusion_jax.training.state import State
from diffusion_jax.training.tasks.base import Given, Plugin, Task

RATES = {"student": optax.sgd(0.1), "critic": optax.adam(0.01)}


class Duel:
    """A student that follows a teacher it is given, and a critic with an optimiser of its own."""

    name, unit, note = "duel", "squares", ""
    metrics = ("loss", "grad_norm")
    holds, figure = "student", "nothing"

    def __init__(self, split, teacher):
        self.split, self.teacher, self.end = split, teacher, None

    def open(self, setting, handed):
        return self

    def shapes(self, setting):
        return jax.eval_shape(self.initial).params

    def function(self, setting):
        return lambda params: params

    def initial(self):
        params = {"student": {"w": jnp.ones((3, 4))}, "critic": {"b": jnp.zeros(2)}}
        opt = {k: rule.init(params[k]) for k, rule in RATES.items()}
        return State(jnp.zeros((), jnp.int32), params, {"0.9": {"w": jnp.ones((3, 4))}}, opt)

    def given(self):
        return Given({"w": self.teacher}, {"teacher": "runs/teacher"})

    def load(self):
        return self.split, None

    def update(self, state, batch, given):
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


def test_the_teacher_is_an_argument_of_the_program_and_must_stay_the_same(tmp_path):
    experiment, task = duel(tmp_path, "run")
    experiment.config.steps = 3
    train.run(experiment)
    changed, _ = duel(tmp_path, "run", teacher=3.0)
    with pytest.raises(WorkdirError, match="beside other weights"):
        train.run(changed)
    batch = {"image": jnp.zeros((2, 4, 4, 1), jnp.uint8), "label": jnp.zeros(2, jnp.int32)}
    traced = []

    def update(state, batch, given):
        traced.append(given)
        return task.update(state, batch, given)[0]

    step = jax.jit(update)
    low, high = (step(task.initial(), batch, {"w": jnp.full((3, 4), w)}) for w in (2.0, 3.0))
    assert len(traced) == 1  # two teachers, one program
    assert (high.params["student"]["w"] > low.params["student"]["w"]).all()


def test_a_configuration_from_before_tasks_is_read(tmp_path):
    old = saved_config.to_dict(tiny.config(tmp_path))
    del old["task"]
    for scorer, against, task in (
        ("", "", "diffusion()"),
        ("classifier(width=16)", "", "guide(classifier(width=16))"),
        ("captions()", "", "guide(clip())"),
        ("discriminator", "runs/x", "guide(discriminator(), against='runs/x')"),
    ):
        path = tmp_path / "config.json"
        path.write_text(json.dumps(old | {"scorer": scorer, "against": against}))
        assert saved_config.read(path).task == task
        assert isinstance(registry.build("tasks", task), Plugin)

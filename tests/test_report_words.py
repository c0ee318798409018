"""What a report calls data and figures, and which commands it advises."""

import shlex

import pytest
from html_page import check_page

from diffusion_jax import registry, saved_config
from diffusion_jax.cli.report import page, sections_guide, sections_measured, sections_trained
from diffusion_jax.cli.report.collect import Record, RunFiles
from diffusion_jax.cli.report.curves import Curves

MANY = ", ".join(["0.125"] * 64)
PRIOR = f"embeddings('runs/clip', digits(), mean=({MANY}), std=({MANY}))"


def run(**changes):
    return RunFiles("run", changes.pop("config", {"data": "digits()"}), Curves(), **changes)


def of(shape, medium="image"):
    return (Record("eval/6.json", {"data": {"shape": shape, "medium": medium}}),)


@pytest.mark.parametrize(
    ("data", "files"),
    [
        ("digits()", {"evals": of([8, 8, 1])}),
        ("gradients(height=4, width=8)", {"evals": of([4, 8, 1])}),
        ("moving(digits(), frames=4)", {"data": {"medium": "video"}}),
    ],
)
def test_other_data_that_are_advised_can_be_made_of_the_run_s(data, files):
    found = sections_measured.ood(run(config={"data": data}, **files))
    (asked,) = (a for a in shlex.split(found.command) if "against" in a)
    spec = asked.partition("=")[2]
    turns = registry.parse(spec).kwargs.get("turns", 1)
    assert spec.startswith(f"rotated({data}")
    shape = (files.get("evals") or of([4, 8, 8, 1]))[0].data["data"]["shape"]
    assert turns == 2 or shape[-3] == shape[-2]


@pytest.mark.parametrize("medium", ["text", "signal", "vector"])
def test_what_cannot_be_turned_is_not_advised(medium):
    for files in ({"data": {"medium": medium}}, {"evals": of([1, 8, 1], medium)}):
        assert "rotated" not in sections_measured.ood(run(**files)).command


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("digits()", "digits()"),
        ("npz(path='x.npz',  levels=5)", "npz(path='x.npz',  levels=5)"),
        (PRIOR, "embeddings('runs/clip', digits())"),
        (f"named({PRIOR}, sha256='{'ab' * 32}')",
         "named(embeddings('runs/clip', digits()), sha256='abababab..')"),
        ("a cascade", "a cascade"),
    ],
)  # fmt: skip
def test_headings_leave_out_long_lists(value, shown):
    assert saved_config.brief(value) == shown


def test_the_title_of_a_report_is_short():
    config = {"data": PRIOR, "task": f"distill('runs/a', edges=({MANY}))"}
    text = page.render(run(config=config), {}, "runs/a")
    assert check_page(text)
    title = text[text.index("<title>") : text.index("</title>")]
    assert "run: embeddings(&#39;runs/clip&#39;, digits())" in title and "0.125" not in title


@pytest.mark.parametrize(
    ("name", "of_test"),
    [("600", True), ("600_2", True), ("600_valid", False), ("600_valid_2", False)],
)
def test_figures_are_called_by_the_split_they_are_of(name, of_test):
    split = "digits/test" if of_test else "digits/valid"
    data = {"mean": {"accuracy": 0.5}, "data": {"name": split}, "loss_by_gamma": {
        "gamma": [0.0], "mean": [1.0], "accuracy": [0.5]}}  # fmt: skip
    data["mean"]["loss"] = 1.0
    found = run(evals=(Record(f"eval/{name}.json", data),))
    assert sections_guide.scores(found).title == ("On the test set" if of_test else f"On {split}")
    tiles = str(sections_trained.headline(found))
    assert ("test accuracy" in tiles) is of_test and (f"accuracy, {split}" in tiles) is not of_test

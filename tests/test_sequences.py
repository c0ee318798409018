"""Signals and texts: laws whose entropy is known, files, what simple models of them take."""

import dataclasses
import io
import itertools

import numpy as np
import pytest

from diffusion_jax import registry, testing
from diffusion_jax.compression import other_formats, sequence_baselines
from diffusion_jax.data.datasets import _installed, _series_files
from diffusion_jax.data.datasets._markov import Chain
from diffusion_jax.data.description import describe
from diffusion_jax.data.media.signal import SIGNAL
from diffusion_jax.data.media.text import Text
from diffusion_jax.data.pictures import Damaged
from diffusion_jax.errors import DataError


def data(text):
    return registry.build("data", text)


def test_the_entropy_of_a_chain_is_that_of_all_its_sequences():
    chain = Chain(np.random.default_rng(0).dirichlet(np.ones(3), 3))
    p = []
    for row in itertools.product(range(3), repeat=4):
        steps = [chain.step[a, b] for a, b in itertools.pairwise(row)]
        p.append(chain.marginal()[row[0]] * np.prod(steps))
    assert np.isclose(sum(p), 1.0)
    assert np.isclose(-(p * np.log2(p)).sum(), chain.entropy(4))


def test_white_noise_has_log2_of_the_levels():
    assert np.isclose(data("signals(law='white', levels=16, length=10)").entropy[0], 40.0)


def test_an_autoregression_in_fine_bins_has_the_entropy_of_the_gaussian():
    levels, rho = 256, 0.8
    two, one = (data(f"signals(rho={rho}, levels={levels}, length={n})").entropy[0] for n in (2, 1))
    width = 8.0 / levels
    gaussian = 0.5 * np.log2(2 * np.pi * np.e * (1 - rho**2)) - np.log2(width)
    assert abs(two - one - gaussian) < 0.01


@pytest.mark.parametrize("text", ["signals(size=50, length=4)", "letters(size=50, length=4)"])
def test_oracles_are_data_sets(text):
    testing.check("data", text)


def test_autoregression_finds_the_rate_of_its_own_law():
    source = data("signals(rho=0.9, levels=32, length=24, size=2000)")
    train, test = (np.asarray(source.split(s).images)[:, 0] for s in ("train", "test"))
    bits = sequence_baselines.autoregression(train, test, 32, 1) / len(test)
    # Its bins are the data's own; the first sample has a Gaussian law, the data's is cut off.
    assert abs(bits - source.entropy[0]) < 0.02 * source.entropy[0]
    assert sequence_baselines.autoregression(train, test, 32, 0) / len(test) > 1.2 * bits


def test_an_ngram_finds_the_rate_of_a_markov_source():
    source = data("letters(length=12, alphabet='abcd', size=4000)")
    train, test = (np.asarray(source.split(s).images)[:, 0, :, 0] for s in ("train", "test"))
    rates = [sequence_baselines.KneserNey(train, 4, n).bits(test) / len(test) for n in (1, 2, 3)]
    assert abs(rates[1] / source.entropy[0] - 1) < 0.03
    assert rates[0] > 1.05 * rates[1] and abs(rates[2] / rates[1] - 1) < 0.03


def test_an_ngram_is_a_law():
    train = np.random.default_rng(0).integers(0, 5, (30, 7))
    model = sequence_baselines.KneserNey(train, 6, 3)
    for before in ((), (1,), (1, 2), (5, 5), (0, 1, 2, 3)):
        p = model.probabilities(before)
        assert np.isclose(p.sum(), 1.0) and p.min() > 0.0


def test_rivals_of_sequences_are_packed_and_predicted():
    source = data("letters(length=12, size=30)")
    train, test = (np.asarray(source.split(s).images)[:30] for s in ("train", "test"))
    found = other_formats.rivals(test, "text") + sequence_baselines.rivals(train, test, 8, "text")
    assert [r["format"] for r in found][:2] == ["xz", "bzip2"] and len(found) == 5
    assert all(0.0 < r["bits_per_dim_sheet"] <= r["bits_per_dim"] for r in found[:2])
    # Laws code one letter after the other: there is no file of each, nor one of all.
    assert all(r["bits_per_dim"] > 0.0 and "bits_per_dim_sheet" not in r for r in found[2:])


def wav(values, kind):
    head = kind.to_bytes(2, "little") + (1).to_bytes(2, "little") + bytes(8)
    head += (1).to_bytes(2, "little") + (8).to_bytes(2, "little")
    body = b"WAVEfmt " + len(head).to_bytes(4, "little") + head
    body += b"data" + len(values).to_bytes(4, "little") + bytes(values)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


@pytest.mark.parametrize("kind", [1, 7])
def test_an_8_bit_wav_is_taken_exactly(tmp_path, kind):
    values = np.random.default_rng(0).permutation(np.arange(256, dtype=np.uint8).repeat(2))
    (tmp_path / "a.wav").write_bytes(wav(values, kind))
    source = data(f"series({str(tmp_path / 'a.wav')!r}, length=64, test=0.25)")
    rows = [np.asarray(source.split(s).images) for s in ("train", "test")]
    assert source.shape == (1, 64, 1) and len(rows[0]) == 6 and len(rows[1]) == 2
    found = np.concatenate(rows).ravel()
    assert len(set(zip(found.tolist(), values.tolist(), strict=True))) == 256, "not a bijection"
    if kind == 1:
        np.testing.assert_array_equal(found, values)


def test_mu_law_is_ordered_by_loudness():
    codes = np.arange(256, dtype=np.uint8)
    plain = ~codes
    size = ((plain.astype(int) & 0x0F) * 2 + 33 << ((plain.astype(int) >> 4) & 7)) - 33
    value = np.where(plain & 0x80, -size, size)  # ITU-T G.711, as decoders have it
    loud = value[np.argsort(_series_files.ordered(codes))]
    assert (np.diff(loud) >= 0).all()


def test_ts_files_have_channels_labels_and_a_test_set(tmp_path):
    head = "# a comment\n@problemName x\n@classLabel true up down\n@data\n"
    (tmp_path / "x_TRAIN.ts").write_text(head + "1,2,3:0,0,1:up\n3,2,1:1,0,0:down\n")
    (tmp_path / "x_TEST.ts").write_text(head + "9,2,3:0,0,1:up\n")
    source = data(f"series({str(tmp_path / 'x_TRAIN.ts')!r}, levels=5, clip=0.0)")
    train, test = source.split("train"), source.split("test")
    assert source.shape == (1, 3, 2) and source.classes == ("down", "up")
    np.testing.assert_array_equal(train.labels, [1, 0])
    np.testing.assert_array_equal(train.images[:, 0, :, 0], [[0, 2, 4], [4, 2, 0]])
    assert test.images[0, 0, 0, 0] == 4, "beyond the range to train on: the highest level"


def test_sets_of_aeon_are_read_where_it_is_installed(tmp_path, monkeypatch):
    """What a regression is after, the last number of a line, is no part of a signal."""
    monkeypatch.setattr(_installed, "folder", lambda *args: tmp_path)
    where = tmp_path / "datasets" / "data" / "Heat"
    where.mkdir(parents=True)
    for part, rows in (("TRAIN", "1,2,3:7.5\n3,2,1:?\n"), ("TEST", "2,2,2:8\n")):
        (where / f"Heat_{part}.ts").write_text(f"@targetLabel true\n@data\n{rows}")
    source = data("aeon('Heat', levels=4, clip=0.0, holdout=0)")
    assert source.shape == (1, 3, 1) and source.num_classes == 0
    np.testing.assert_array_equal(source.split("train").images[..., 0], [[[0, 2, 3]], [[3, 2, 0]]])
    assert len(source.split("test")) == 1
    with pytest.raises(DataError, match="no data set 'Cold'; allowed: Heat"):
        data("aeon('Cold', holdout=0)")


def test_npz_signals_are_quantised_by_the_training_range(tmp_path):
    train = np.linspace(0.0, 1.0, 100).reshape(20, 5)
    np.savez(tmp_path / "s.npz", train=train, test=train[:3] * 2)
    source = data(f"series({str(tmp_path / 's.npz')!r}, levels=10, clip=0.0)")
    found = np.asarray(source.split("train").images)
    assert (np.bincount(found.ravel()) == 10).all()
    assert source.num_classes == 0


def test_levels_have_the_units_of_what_was_measured(tmp_path):
    """Each channel its own: no value is further from its level's middle than half its width."""
    rng = np.random.default_rng(0)
    train = rng.normal(size=(30, 5, 2)) * [1.0, 300.0] + [0.0, 1000.0]
    np.savez(tmp_path / "s.npz", train=train, test=train[:3])
    source = data(f"series({str(tmp_path / 's.npz')!r}, levels=20, clip=0.0)")
    found = source.split("train")
    half = np.ptp(train, axis=(0, 1)) / 40
    back = source.measured(np.asarray(found.images))
    assert back.dtype == np.float32 and back.shape == (30, 1, 5, 2)
    assert (np.abs(back[:, 0] - train) <= half * 1.001).all()
    scale = describe(source, found)["scale"]
    np.testing.assert_allclose(scale, [[train[..., c].min(), 2 * half[c]] for c in range(2)])
    # Levels that are the data have no other units; what is made of a set keeps its own.
    plain = data("signals(size=20)")
    assert "scale" not in describe(plain, plain.split("train"))
    part = data(f"half(series({str(tmp_path / 's.npz')!r}, levels=20, clip=0.0))")
    assert part.scale == source.scale
    with pytest.raises(DataError, match="2 scales for 1 channels"):
        dataclasses.replace(plain, scale=source.scale)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"1", r"allowed: \.ts, \.npz, \.wav"),
        ("a.wav", b"RIFFxxxx", "not a wav"),
        ("a.ts", b"@data\n1,2\n1\n", "equal length"),
        ("a.wav", wav([0] * 600, 3), "format 3 with 8 bits"),
        ("a.npz", b"PK", "cannot read"),
    ],
)
def test_files_that_are_no_signals_are_refused(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says):
        data(f"series({str(tmp_path / name)!r})")


@pytest.mark.parametrize("part", ["train", "test"])
def test_labels_of_one_part_only_are_refused(tmp_path, part):
    signals = np.arange(12.0).reshape(3, 4)
    lacking = {"train": "test", "test": "train"}[part]
    path = tmp_path / "a.npz"
    np.savez(path, train=signals, test=signals, **{f"{part}_label": np.arange(3)})
    with pytest.raises(DataError, match=f"has labels, but no {lacking}_label"):
        data(f"series({str(path)!r})")


def test_a_text_is_cut_into_pieces_in_order(tmp_path):
    (tmp_path / "a.txt").write_text("The  cat,\n" + "sat on THE mat. " * 20)
    source = data(f"text({str(tmp_path / 'a.txt')!r}, length=16, valid=0.1, test=0.1)")
    said = "".join(
        "".join(source.medium.said(np.asarray(source.split(s).images)))
        for s in ("train", "valid", "test")
    )
    assert said.startswith("the cat sat on the mat sat on the mat ")
    assert source.levels == 27 and source.shape == (1, 16, 1)


@pytest.mark.parametrize(
    ("how", "says"),
    [("length=500", "too few to train"), ("alphabet='abc'", "must have a space")],
)
def test_texts_that_are_refused(tmp_path, how, says):
    (tmp_path / "a.txt").write_text("a cat sat on the mat " * 20)
    with pytest.raises(DataError, match=says):
        data(f"text({str(tmp_path / 'a.txt')!r}, {how})")


def test_texts_are_written_and_read_again():
    medium, levels = Text("abc "), np.asarray([[0, 1, 3, 2]], np.uint8).reshape(1, 1, 4, 1)
    assert medium.said(levels) == ["ab c"]
    np.testing.assert_array_equal(medium.read(io.BytesIO(b"ab\nc"), (1, 4, 1), 4), levels[0])
    with pytest.raises(Damaged, match="not in the alphabet"):
        medium.read(io.BytesIO(b"abx c"), (1, 4, 1), 4)
    assert medium.stills(levels, 4).max() == 3


def test_a_plot_has_its_values_at_their_height():
    values = np.asarray([0, 3, 3, 1], np.uint8).reshape(1, 1, 4, 1)
    plot = SIGNAL.stills(values, 4)[0, :, :, 0]
    height, width = plot.shape
    at = [np.flatnonzero(plot[:, x]).mean() for x in (0, width // 3, 2 * width // 3, width - 1)]
    assert at[0] > at[3] > at[1] == at[2] == 0.0 and at[0] == height - 1
    assert SIGNAL.stills(values.repeat(2, 3), 4).shape[-1] == 3

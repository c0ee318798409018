"""The parts of the codec: the stack of bits, the bins, the file."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from diffusion_jax.compression import container
from diffusion_jax.compression.bins import Binned, Grid
from diffusion_jax.compression.pixels import Symbols
from diffusion_jax.compression.rans import Stack, whitening
from diffusion_jax.errors import CodecError

TOTAL = 1 << 32


def table(rng, symbols):
    """A random distribution with rare symbols, and the starts of its counts."""
    p = rng.dirichlet(np.full(symbols, 0.3))
    counts = 1 + np.floor(p * (TOTAL - symbols)).astype(np.uint64)
    counts[np.argmax(counts)] += np.uint64(TOTAL - int(counts.sum()))
    return counts / TOTAL, counts, np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.uint64)


def finder(counts, starts):
    def find(u, cols):
        k = np.searchsorted(starts, u, side="right") - 1
        return k, starts[k], counts[k]

    return find


@pytest.mark.parametrize(("rows", "values"), [(1, 1), (3, 50), (2, 64)])
def test_the_stack_gives_back_what_was_pushed(rows, values):
    rng = np.random.default_rng(rows)
    stack, done = Stack(rows, values, seed=7), []
    heads = stack.heads.copy()
    for step in range(40):
        p, counts, starts = table(rng, 300)
        n = rng.integers(1, rows + 1)  # the last batch may be short
        mask = whitening(3, 0, step, (n, values)) if step % 2 else None
        k = rng.choice(300, (n, values), p=p)
        stack.push(starts[k], counts[k], mask)
        done.append((k, finder(counts, starts), mask))
    again = Stack.load(values, stack.heads, stack.tail)
    for k, find, mask in reversed(done):
        np.testing.assert_array_equal(again.pop(len(k), find, mask), k)
    np.testing.assert_array_equal(again.heads, heads)
    assert again.returned(7, 0, stack.used) and not again.returned(8, 0, stack.used)
    assert len(again.tail) == 0


def test_what_was_drawn_can_be_undrawn_and_the_initial_bits_return():
    rng = np.random.default_rng(0)
    stack, done = Stack(2, 70, seed=1), []
    for step in range(30):
        _, counts, starts = table(rng, 1000)
        mask = whitening(1, 4, step, (2, 70))
        k = stack.pop(2, finder(counts, starts), mask)
        done.append((starts[k], counts[k], mask))
    assert stack.used > 100
    tail, used = stack.tail, stack.used
    again = Stack.load(70, stack.heads, tail)
    for args in reversed(done):
        again.push(*args)
    assert again.returned(1, 0, used)
    again.heads[0, 0] ^= np.uint64(1)
    assert not again.returned(1, 0, used)


def test_code_length_is_the_entropy():
    # Costs are compared with the exact probabilities, not with the counts.
    rng = np.random.default_rng(0)
    for symbols in (2, 17, 5000):
        p, counts, starts = table(rng, symbols)
        stack = Stack(4, 320, seed=0)
        before, ideal = stack.bits(), 0.0
        for _ in range(20):
            k = rng.choice(symbols, (4, 320), p=p)
            stack.push(starts[k], counts[k])
            ideal -= np.log2(p[k]).sum()
        assert stack.bits() - before == pytest.approx(ideal, abs=20 * 4 * 320 * 1e-4)


def test_a_loaded_stack_does_not_run_out_silently():
    stack = Stack.load(4, np.full((1, 1), 1 << 48, np.uint64), np.zeros(0, np.uint16))
    _, counts, starts = table(np.random.default_rng(0), 9)
    with pytest.raises(CodecError, match="end too early"):
        stack.pop(1, finder(counts, starts))


def grid(width=0.01, half=700):
    return Grid(np.float64(width), half)


@pytest.mark.parametrize("std", [0.06, 0.5, 3.0])
@pytest.mark.parametrize("mean", [0.0, 0.313, -6.9, 50.0])
def test_a_leaky_model_gives_every_bin_its_share(mean, std):
    model = Binned(np.full((1, 1401), mean), std, grid(), leak=True)
    k = np.arange(-700, 701)[None]
    start, width = model.interval(k)
    assert int(width.sum()) == TOTAL and int(width.min()) >= 1 and int(start[0, 0]) == 0
    np.testing.assert_array_equal(np.cumsum(width[0])[:-1], start[0, 1:])
    edges = (np.arange(-700, 702) - 0.5) * 0.01
    edges[[0, -1]] = -np.inf, np.inf  # what is beyond the ends belongs to them
    expected = np.diff(norm.cdf(edges, mean, std))
    np.testing.assert_allclose(width[0] / TOTAL, expected, atol=1402 / TOTAL)
    with pytest.raises(CodecError, match="outside the codec"):
        model.interval(np.full((1, 1401), 701))


@pytest.mark.parametrize("leak", [True, False])
def test_every_number_finds_its_bin(leak):
    rng = np.random.default_rng(0)
    for mean, std in ((0.2, 0.06), (-6.95, 0.5), (0.0, 2.0), (9.0, 0.3)):
        model = Binned(np.full((1, 3000), mean), std, grid(), leak)
        u = rng.integers(0, TOTAL, (1, 3000), dtype=np.uint64)
        u[0, :4] = 0, 1, TOTAL - 2, TOTAL - 1  # the ends, and the leaky tails
        u[0, 4:1400] = np.arange(1396)
        u[0, 1400:2000] = TOTAL - 1 - np.arange(600)
        k, start, width = model.find(u, slice(0, 3000))
        assert np.all((start <= u) & (u - start < width))
        found = model.interval(k)
        np.testing.assert_array_equal(found[0], start)
        np.testing.assert_array_equal(found[1], width)


def test_a_posterior_has_no_outliers_and_the_right_law():
    # A leak of one count in each of 2 million bins would put one draw in 2,000 anywhere.
    model = Binned(np.full((8, 4000), 0.25), 0.02, Grid(np.float64(0.004), 1 << 20), leak=False)
    stack, draws = Stack(8, 4000, seed=2), []
    for step in range(4):
        draws.append(stack.pop(8, model.find, whitening(2, 0, step, (8, 4000))))
    z = (np.concatenate(draws) * 0.004 - 0.25) / 0.02
    assert np.abs(z).max() < 6.4
    n = z.size
    assert abs(z.mean()) < 4 / math.sqrt(n)
    # Bins of width w add w^2 / 12 to the variance.
    assert abs(np.square(z).mean() - 1 - 0.2**2 / 12) < 4 * math.sqrt(2 / n)


def test_a_single_class_takes_no_bits():
    symbols = Symbols()
    symbols.push_labels(np.zeros(5, int), 1)
    assert symbols.empty() and symbols.bits() == 0
    np.testing.assert_array_equal(symbols.pop_labels(5, 1), np.zeros(5))


def test_pixels_and_labels_come_back():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 400, 256)) * 3
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    u = rng.uniform(size=(3, 400, 1))
    pixels = (np.exp(log_probs).cumsum(-1) < u).sum(-1).clip(0, 255)
    labels = rng.integers(0, 10, 3)
    symbols = Symbols()
    symbols.push_pixels(pixels, log_probs)
    symbols.push_labels(labels, 10)
    ideal = -np.take_along_axis(log_probs, pixels[..., None], -1).sum() / math.log(2)
    assert symbols.bits() == pytest.approx(ideal + 3 * math.log2(10), abs=40)
    again = Symbols(symbols.words())
    np.testing.assert_array_equal(again.pop_labels(3, 10), labels)
    np.testing.assert_array_equal(again.pop_pixels(log_probs), pixels)
    assert again.empty()


def groups():
    rng = np.random.default_rng(0)
    return [
        container.Group(
            rng.integers(1 << 48, 1 << 63, (2, 3), dtype=np.uint64),
            rng.integers(0, 1 << 16, 10 * i, dtype=np.uint16),
            rng.integers(0, 1 << 32, 5, dtype=np.uint32),
            used=i,
            images_crc=9,
        )
        for i in range(3)
    ]


def test_a_file_reads_back():
    header, found = container.unpack(container.pack({"groups": 3, "a": [1]}, groups()), "f")
    assert header == {"groups": 3, "a": [1]}
    for a, b in zip(found, groups(), strict=True):
        np.testing.assert_array_equal(a.heads, b.heads)
        np.testing.assert_array_equal(a.tail, b.tail)
        np.testing.assert_array_equal(a.symbols, b.symbols)
        assert (a.used, a.images_crc) == (b.used, b.images_crc)


def test_every_flipped_bit_and_every_truncation_is_refused():
    data = container.pack({"groups": 3, "a": [1]}, groups())
    for i in range(8 * len(data)):
        bad = bytearray(data)
        bad[i // 8] ^= 1 << i % 8
        with pytest.raises(CodecError, match=r"damaged|truncated|version|first bytes|after its"):
            container.unpack(bytes(bad), "f")
    for n in range(len(data)):
        with pytest.raises(CodecError, match=r"truncated|first bytes"):
            container.unpack(data[:n], "f")
    with pytest.raises(CodecError, match="1 bytes after its end"):
        container.unpack(data + b"x", "f")

"""Coding images to groups of bits and back: batches of a fixed shape share a stack in a group."""

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from diffusion_jax.compression.bits_back import ORDERS, Tally
from diffusion_jax.compression.cascade_codec import Place, Stages
from diffusion_jax.compression.container import Group
from diffusion_jax.compression.header import TIMESTEPS
from diffusion_jax.compression.latent_chain import LatentChain, make_latent_chain
from diffusion_jax.compression.model_functions import Network
from diffusion_jax.compression.pixels import Symbols
from diffusion_jax.compression.rans import Stack
from diffusion_jax.errors import CodecError, ConfigError

Report = Callable[[int], None]  # called with the number of images done


@dataclass(frozen=True)
class Coder:
    """How images are coded.

    Attributes:
        chain: the model's latents.
        order: `"bitswap"` or `"topdown"`.
        group: number of images that share a stack, a multiple of the batch size.
        seed: seed for the initial bits and for the whitening.
        classes: number of classes if labels are coded too (uniformly); 0 if they are not.
        null: the label of the null class, used if labels are not coded; None for an
            unconditional model.
        whiten: False disables whitening (benchmarks only).
        before: the chains of a cascade's earlier stages; `chain` is that of the last.
    """

    chain: LatentChain
    order: str
    group: int
    seed: int
    classes: int = 0
    null: int | None = None
    whiten: bool = True
    before: tuple[LatentChain, ...] = ()

    @property
    def chains(self) -> tuple[LatentChain, ...]:
        """The chains of all stages, low resolution first."""
        return (*self.before, self.chain)

    @property
    def values(self) -> int:
        """Number of values of a whole image."""
        return math.prod(self.chain.network.image)

    @property
    def lanes(self) -> int:
        """Values per row of the stack of latents: the most that an image or any latent has."""
        return max(self.values, *(c.network.values for c in self.chains))

    @property
    def stages(self) -> Stages:
        """The chains and how images are distributed over them."""
        return Stages(self.chains, ORDERS[self.order], self.seed if self.whiten else None)

    def groups(self, count: int) -> Iterator[range]:
        """Divides `count` images into groups.

        Yields:
            For each group, the indices at which its batches start.
        """
        for start in range(0, count, self.group):
            yield range(start, min(start + self.group, count), self.chain.network.batch)

    def batch(self, group: range, start: int) -> slice:
        """The batch of a group that starts at image `start`."""
        return slice(start, min(start + group.step, group.stop))

    def labels(self, n: int) -> np.ndarray | None:
        """Null labels for `n` images, or None for an unconditional model."""
        return None if self.null is None else np.full(n, self.null, np.int32)


@dataclass(frozen=True)
class Coded:
    """Result of encoding.

    Attributes:
        groups: the coded bits.
        bits: code length per image from the counts used, `[N]`; without labels.
        nats: the bound at the same latents per image, `[N]`.
        net_bits: total growth of the stacks, labels included.
        initial_bits: initial bits used by each group, from the random words under its stack.
        label_bits: total bits for the labels.
    """

    groups: list[Group]
    bits: np.ndarray
    nats: np.ndarray
    net_bits: float
    initial_bits: list[float]
    label_bits: float


def make(
    network: Network,
    timesteps: int,
    order: str = "auto",
    group: int = 1024,
    seed: int = 0,
    coded_labels: bool = False,
    before: Sequence[Network] = (),
    gammas: Sequence[np.ndarray] = (),
) -> Coder:
    """A coder for a model.

    Args:
        network: the model at its batch shape.
        timesteps: number of steps, T.
        order: `"auto"` uses Bit-Swap if the model allows it, else top-down.
        group: number of images that share a stack; rounded up to a multiple of the batch size.
        seed: seed for the initial bits and for the whitening.
        coded_labels: whether a class-conditional model receives the labels, which are then coded
            too; otherwise it receives the null class.
        before: the models of a cascade's earlier stages; `network` is that of the last.
        gammas: `[T + 1]` for each chain, those of `before` first; empty for equal times.

    Raises:
        ConfigError: an argument is out of range, or the model does not allow the order.
    """
    if timesteps < 1 or group < 1 or network.batch < 1:
        raise ConfigError(
            f"compress: timesteps={timesteps}, batch={network.batch} and group={group} must be "
            "positive"
        )
    if timesteps > TIMESTEPS:
        raise ConfigError(f"compress: timesteps={timesteps} must be at most {TIMESTEPS}")
    if not 0 <= seed < 1 << 63:
        raise ConfigError(f"compress: seed={seed} must be in 0 .. 2^63 - 1")
    networks = (*before, network)
    all_markov = all(n.markov for n in networks)
    if order == "auto":
        order = "bitswap" if all_markov else "topdown"
    if order not in ORDERS:
        raise ConfigError(
            f"compress: order={order!r} is not valid; allowed: auto, {', '.join(ORDERS)}"
        )
    markov = ORDERS[order].markov
    if markov and not all_markov:
        raise ConfigError(
            "compress: order='bitswap' needs a forward chain that does not depend on the image, "
            "but this model has an encoder; use 'topdown' or 'auto'"
        )
    classes = network.model.num_classes
    plans = gammas or [None] * len(networks)
    chains = [
        make_latent_chain(n, timesteps, markov, plan)
        for n, plan in zip(networks, plans, strict=True)
    ]
    return Coder(
        chain=chains[-1],
        order=order,
        group=-(-group // network.batch) * network.batch,
        seed=seed,
        classes=classes if coded_labels else 0,
        null=classes if classes else None,
        before=tuple(chains[:-1]),
    )


def encode(
    coder: Coder, images: np.ndarray, labels: np.ndarray | None, report: Report = lambda n: None
) -> Coded:
    """Encodes images.

    Args:
        coder: how to code them.
        images: uint8 `[N, ...]`.
        labels: integers `[N]`; None if they are not coded.
        report: called with the number of images done.

    Returns:
        The coded bits and their costs.
    """
    network = coder.chain.network
    groups, initial, tallies, net, label_bits, done = [], [], [], 0.0, 0.0, 0
    for number, group in enumerate(coder.groups(len(images))):
        stack = Stack(min(group.step, len(images) - group.start), coder.lanes, coder.seed, number)
        symbols = Symbols()
        for start in group:
            batch = coder.batch(group, start)
            n = batch.stop - batch.start
            cond = labels[batch] if coder.classes else coder.labels(n)
            tally = Tally(np.zeros(n), np.zeros(n))
            where = batch.start // network.batch
            coder.stages.put(images[batch], cond, Place(stack, symbols, where, tally))
            if coder.classes:
                symbols.push_labels(cond, coder.classes)
                label_bits += n * np.log2(coder.classes)
            tallies.append(tally)
            done += n
            report(done)
        part = slice(group.start, group.stop)
        crc = _checksum(images[part], labels[part] if coder.classes else None)
        groups.append(Group(stack.heads, stack.tail, symbols.words(), stack.used, crc))
        net += stack.bits() - stack.initial_bits() + symbols.bits()
        initial.append(stack.initial_bits())
    return Coded(
        groups=groups,
        bits=np.concatenate([t.bits for t in tallies]),
        nats=np.concatenate([t.nats for t in tallies]),
        net_bits=net,
        initial_bits=initial,
        label_bits=float(label_bits),
    )


def decode(
    coder: Coder, groups: list[Group], count: int, report: Report = lambda n: None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Decodes images.

    Args:
        coder: how they were coded.
        groups: the coded bits.
        count: number of images, N.
        report: called with the number of images done.

    Returns:
        Images, uint8 `[N, *shape]`, and labels, int32 `[N]`, or None if they were not coded.

    Raises:
        CodecError: the result is not what was encoded, because this machine computes other numbers.
    """
    network = coder.chain.network
    flat, labels, done = [], [], 0  # allocate as images come: a header may claim any number
    for number, (places, group) in enumerate(zip(coder.groups(count), groups, strict=True)):
        stack = Stack.load(coder.lanes, group.heads, group.tail)
        symbols = Symbols(group.symbols)
        images, classes = [], []
        for start in reversed(places):
            batch = coder.batch(places, start)
            n = batch.stop - batch.start
            cond = symbols.pop_labels(n, coder.classes) if coder.classes else coder.labels(n)
            where = batch.start // network.batch
            images.append(coder.stages.take(n, cond, Place(stack, symbols, where)))
            classes.append(cond)
            done += n
            report(done)
        flat.append(np.concatenate(images[::-1]))
        labels.append(np.concatenate(classes[::-1]) if coder.classes else None)
        if (
            not (stack.returned(coder.seed, number, group.used) and symbols.empty())
            or _checksum(flat[-1], labels[-1]) != group.images_crc
        ):
            raise CodecError(
                f"group {number + 1} of {len(groups)} does not decode to the images that were "
                "coded: the network computes other numbers here than where the file was written; "
                "decode on the same kind of machine with the same settings"
            )
    decoded = np.concatenate(flat).reshape(count, *network.image)
    return decoded, np.concatenate(labels) if coder.classes else None


def _checksum(images: np.ndarray, labels: np.ndarray | None) -> int:
    """CRC32 of a group's images, and of its labels if they are coded."""
    crc = zlib.crc32(np.ascontiguousarray(images).tobytes())
    if labels is not None:
        crc = zlib.crc32(np.ascontiguousarray(labels, dtype="<i4").tobytes(), crc)
    return crc

"""Markov chains of levels, whose entropy is known exactly."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Chain:
    """A stationary Markov chain.

    Attributes:
        step: transition matrix `[V, V]`; row i is the distribution of the level after level i.
    """

    step: np.ndarray

    def marginal(self) -> np.ndarray:
        """The stationary distribution, `[V]`."""
        size = len(self.step)
        equations = np.vstack([self.step.T - np.eye(size), np.ones(size)])
        p = np.linalg.lstsq(equations, np.append(np.zeros(size), 1.0), rcond=None)[0]
        return np.clip(p, 0.0, None) / np.clip(p, 0.0, None).sum()

    def rate(self) -> float:
        """Entropy rate: bits of a level given the previous one."""
        return float(self.marginal() @ np.asarray([bits(row) for row in self.step]))

    def entropy(self, length: int) -> float:
        """Entropy of `length` consecutive levels, in bits."""
        return bits(self.marginal()) + (length - 1) * self.rate()

    def draw(self, rng: np.random.Generator, count: int, length: int) -> np.ndarray:
        """Samples sequences, uint8 `[count, length]`."""
        first, steps = np.cumsum(self.marginal()), np.cumsum(self.step, axis=1)
        first, steps = first / first[-1], steps / steps[:, -1:]
        u, out = rng.random((count, length)), np.zeros((count, length), np.uint8)
        out[:, 0] = np.searchsorted(first, u[:, 0], side="right")
        for t in range(1, length):
            out[:, t] = (steps[out[:, t - 1]] <= u[:, t, None]).sum(axis=1)
        return out


def bits(p: np.ndarray) -> float:
    """The entropy of a distribution `[V]`, in bits."""
    positive = p[p > 0.0]
    return float(-(positive * np.log2(positive)).sum())

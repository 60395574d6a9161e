"""A small real network that learns to read drawn digits, in NumPy: the work that `aiocarbon demo` measures.

Everything is made here from a seed: the pictures (a 5 x 7 dot font, drawn at twice its size somewhere in 16 x 16
pixels, in noise) and the weights. Nothing is downloaded, and a run with the same number of steps gives the same losses
up to the rounding of the machine's matrix product.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Final

from aiocarbon.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Labels = NDArray[np.int64]

__all__ = ["EpochStats", "Trainer", "steps_for"]

SIDE: Final = 16
"""Pixels of a picture's side."""

CLASSES: Final = 10

# Rows of five dots, top to bottom, as digits were drawn on dot-matrix displays.
_FONT: Final = (
    "01110 10001 10011 10101 11001 10001 01110",
    "00100 01100 00100 00100 00100 00100 01110",
    "01110 10001 00001 00010 00100 01000 11111",
    "11111 00010 00100 00010 00001 10001 01110",
    "00010 00110 01010 10010 11111 00010 00010",
    "11111 10000 11110 00001 00001 10001 01110",
    "00110 01000 10000 11110 10001 10001 01110",
    "11111 00001 00010 00100 01000 01000 01000",
    "01110 10001 10001 01110 10001 10001 01110",
    "01110 10001 10001 01111 00001 00010 01100",
)
_ZOOM: Final = 2
_NOISE: Final = 0.6
"""Standard deviation of a pixel's noise; ink is 0.5 to 1 above paper."""

# Adam, with the moments' rates and the epsilon of its paper (Kingma and Ba, 2015, arXiv:1412.6980, algorithm 1).
_BETA1: Final = 0.9
_BETA2: Final = 0.999
_EPSILON: Final = 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochStats:
    """What an epoch of training came to.

    Attributes:
        loss: Mean cross-entropy per picture over the epoch's batches, in nats; ln 10 = 2.30 for a guess.
        accuracy: Share of the held-out pictures, which are never trained on, that are read rightly, 0..1.
        steps: Batches trained on.
    """

    loss: float
    accuracy: float
    steps: int


class _Artist:
    """Draws endlessly many pictures, no two alike: other noise, place and contrast each time."""

    def __init__(self, seed: int) -> None:
        numpy = _numpy()
        self._random = numpy.random.default_rng(seed)
        font = numpy.array([[[float(dot) for dot in row] for row in glyph.split()] for glyph in _FONT], numpy.float32)
        glyphs = font.repeat(_ZOOM, axis=1).repeat(_ZOOM, axis=2)
        _, height, width = glyphs.shape
        places = [(top, left) for top in range(SIDE - height + 1) for left in range(SIDE - width + 1)]
        self._clean = numpy.zeros((CLASSES, len(places), SIDE, SIDE), numpy.float32)
        for place, (top, left) in enumerate(places):
            self._clean[:, place, top : top + height, left : left + width] = glyphs
        self._clean = self._clean.reshape(CLASSES, len(places), SIDE * SIDE)

    def draw(self, count: int) -> tuple[Floats, Labels]:
        """Pictures of shape `(count, SIDE * SIDE)`, each of mean 0, and their digits of shape `(count,)`."""
        numpy = _numpy()
        labels: Labels = self._random.integers(0, CLASSES, count)
        places = self._random.integers(0, self._clean.shape[1], count)
        inks = self._random.uniform(0.5, 1.0, (count, 1)).astype(numpy.float32)
        noise = self._random.standard_normal((count, SIDE * SIDE), numpy.float32)
        pictures: Floats = inks * self._clean[labels, places] + numpy.float32(_NOISE) * noise
        return pictures - pictures.mean(axis=1, keepdims=True), labels


class Trainer:
    """A perceptron with one hidden layer, trained by Adam on cross-entropy.

    Args:
        steps: Batches in an epoch, at least 1; `steps_for` finds how many take so many seconds.
        batch: Pictures in a batch.
        hidden: Width of the hidden layer.
        rate: Adam's step size.
        seed: Of the pictures, the weights and the batches.

    Raises:
        UsageError: NumPy is not installed.
    """

    def __init__(self, *, steps: int, batch: int = 256, hidden: int = 512, rate: float = 3e-4, seed: int = 1) -> None:
        numpy = _numpy()
        self.steps = steps
        self.batch = batch
        self._rate = rate
        self._taken = 0
        self._artist = _Artist(seed)
        self._held_out, self._held_out_labels = _Artist(seed + 1).draw(2048)
        random = numpy.random.default_rng(seed + 2)
        inputs = SIDE * SIDE
        self._weights: list[Floats] = [
            random.standard_normal((inputs, hidden), numpy.float32) * numpy.float32((2.0 / inputs) ** 0.5),
            numpy.zeros(hidden, numpy.float32),
            random.standard_normal((hidden, CLASSES), numpy.float32) * numpy.float32((1.0 / hidden) ** 0.5),
            numpy.zeros(CLASSES, numpy.float32),
        ]
        self._means = [numpy.zeros_like(weights) for weights in self._weights]
        self._squares = [numpy.zeros_like(weights) for weights in self._weights]

    def losses(self) -> Iterator[float]:
        """Train one epoch, a batch at every `next`; the mean loss of each batch, in nats."""
        for _ in range(self.steps):
            yield self._step(*self._artist.draw(self.batch))

    def train_epoch(self, on_step: Callable[[int, int], object] = lambda done, total: None) -> EpochStats:
        """Train one epoch in one go, calling `on_step(done, total)` after each batch."""
        total = 0.0
        for done, loss in enumerate(self.losses(), 1):
            total += loss
            on_step(done, self.steps)
        return EpochStats(loss=total / self.steps, accuracy=self.accuracy(), steps=self.steps)

    def accuracy(self) -> float:
        """Share of the held-out pictures that are read rightly now, 0..1."""
        scores = self._forward(self._held_out)[1]
        return float((scores.argmax(axis=1) == self._held_out_labels).mean())

    def _forward(self, pictures: Floats) -> tuple[Floats, Floats]:
        first, first_bias, second, second_bias = self._weights
        active = (pictures @ first + first_bias).clip(min=0)
        return active, active @ second + second_bias

    def _step(self, pictures: Floats, labels: Labels) -> float:
        numpy = _numpy()
        active, scores = self._forward(pictures)
        scores -= scores.max(axis=1, keepdims=True)
        shares = numpy.exp(scores)
        shares /= shares.sum(axis=1, keepdims=True)
        rows = numpy.arange(len(labels))
        loss = -float(numpy.log(shares[rows, labels] + 1e-12).mean())
        shares[rows, labels] -= 1
        errors = shares / numpy.float32(len(labels))
        back = (errors @ self._weights[2].T) * (active > 0)
        self._adam([pictures.T @ back, back.sum(axis=0), active.T @ errors, errors.sum(axis=0)])
        return loss

    def _adam(self, gradients: list[Floats]) -> None:
        self._taken += 1
        size = self._rate * (1 - _BETA2**self._taken) ** 0.5 / (1 - _BETA1**self._taken)
        for weights, mean, square, gradient in zip(self._weights, self._means, self._squares, gradients, strict=True):
            mean += (1 - _BETA1) * (gradient - mean)
            square += (1 - _BETA2) * (gradient * gradient - square)
            weights -= size * mean / (square**0.5 + _EPSILON)


def steps_for(seconds: float, *, trials: int = 8, clock: Callable[[], float] = time.perf_counter) -> int:
    """How many batches of `Trainer`'s default size take so many seconds on this machine, at least 1.

    A network of its own is trained for the timing, so that the one that counts is left as its seed made it.

    Args:
        seconds: Wanted duration of an epoch.
        trials: Batches that are timed, after one that is not; their median counts.
        clock: Seconds that only grow.

    Raises:
        UsageError: NumPy is not installed.
    """
    batches = Trainer(steps=trials + 1).losses()
    next(batches)
    took = []
    for _ in range(trials):
        begin = clock()
        next(batches)
        took.append(clock() - begin)
    median = sorted(took)[trials // 2]
    return max(round(seconds / median), 1) if median > 0 else 1


def _numpy() -> ModuleType:
    try:
        import numpy
    except ImportError as error:
        raise UsageError("the demo's network needs NumPy: pip install 'aiocarbon[demo]'") from error
    return numpy

"""`python -m benchmarks.record_traces [NAME ...]`: train small real models under the tracker and keep their traces.

Each is trained with NumPy alone, on data made from a seed, and is cut into twenty chunks an epoch and what follows the
last step (a validation, for those that have one). What a chunk used is what the tracker says. By default it is given a
meter that models the process's own share, its CPU seconds at 10 W and its time at 5 W (both assumed), so that other
work on the machine is in no trace; `--machine` takes the meters that the machine has. The file says which.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from aiocarbon import Tracker, __version__
from aiocarbon._core.report import RunReport
from aiocarbon._core.units import UJ_PER_J, j_from_kwh, s_from_ns
from aiocarbon.meters import Basis, Device, DeviceKind, Inventory, Part, Quantity, Reading
from benchmarks.prediction_traces import TRACES
from benchmarks.result import machine

EPOCHS: Final = 30
RUNS: Final = 3
CHUNKS: Final = 20
Array = NDArray[np.float32]


@dataclass
class OwnShareMeter:
    """Models the energy of this process from its own CPU time; both powers are assumed."""

    core_w: float = 10.0
    idle_w: float = 5.0
    name: str = "own share"

    def open(self, covered: frozenset[Part] = frozenset()) -> Inventory:
        """Tell the one device."""
        device = Device(
            id="own-share",
            kind=DeviceKind.CPU,
            name=f"model: {self.core_w:g} W a CPU second of this process, {self.idle_w:g} W idle",
            quantity=Quantity.ENERGY,
            basis=Basis.MODEL,
            covers=frozenset({Part.CPU}),
            refresh_s=0.001,
        )
        return Inventory(devices=(device,))

    def read(self, device: Device) -> Reading:
        """CPU seconds and time, as joules."""
        t0_ns = time.monotonic_ns()
        joules = s_from_ns(time.process_time_ns()) * self.core_w + s_from_ns(t0_ns) * self.idle_w
        return Reading(t0_ns, time.monotonic_ns(), int(joules * UJ_PER_J))

    def close(self) -> None:
        """Give nothing back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """A training.

    Attributes:
        name: Of its file.
        about: What is trained on what.
        steps: Steps of an epoch.
        epoch: Yields after each step of an epoch.
        after: What follows the last step of each epoch; its result is a figure of how good the model is.
    """

    name: str
    about: str
    steps: int
    epoch: Callable[[int], Iterator[None]]
    after: Callable[[], float]


def _images(count: int, side: int, seed: int) -> tuple[Array, NDArray[np.int64]]:
    """Noisy patches of ten kinds."""
    rng = np.random.default_rng(seed)
    kinds = np.random.default_rng(99).normal(size=(10, side * side)).astype(np.float32)
    labels = rng.integers(0, 10, count)
    return (kinds[labels] + rng.normal(0, 2, (count, side * side))).astype(np.float32), labels


def _softmax_loss(scores: Array, labels: NDArray[np.int64]) -> Array:
    """Gradient of the cross entropy."""
    p = np.exp(scores - scores.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    p[np.arange(len(labels)), labels] -= 1
    gradient: Array = (p / len(labels)).astype(np.float32)
    return gradient


def mlp() -> Training:
    """A perceptron of two hidden layers; each epoch ends with a validation."""
    rng = np.random.default_rng(1)
    x, y = _images(38_400, 28, 2)
    held_x, held_y = _images(20_000, 28, 3)
    sizes = (784, 256, 128, 10)
    weights = [(rng.normal(0, a**-0.5, (a, b))).astype(np.float32) for a, b in pairwise(sizes)]

    def forward(batch: Array) -> list[Array]:
        layers = [batch]
        for i, w in enumerate(weights):
            out = layers[-1] @ w
            layers.append(np.maximum(out, 0) if i < 2 else out)
        return layers

    def epoch(_: int) -> Iterator[None]:
        order = rng.permutation(len(x))
        for at in range(0, len(x), 64):
            picked = order[at : at + 64]
            layers = forward(x[picked])
            grad = _softmax_loss(layers[-1], y[picked])
            for i in (2, 1, 0):
                step = layers[i].T @ grad
                grad = (grad @ weights[i].T) * (layers[i] > 0)
                weights[i] -= 0.05 * step
            yield

    def after() -> float:
        return float((forward(held_x)[-1].argmax(1) == held_y).mean())

    return Training(
        name="mlp",
        about="perceptron 784-256-128-10 on 38400 patches, validated on 20000",
        steps=600,
        epoch=epoch,
        after=after,
    )


def cnn() -> Training:
    """A convolution and a linear layer; images are unpacked when first used and kept, as data loaders do."""
    rng = np.random.default_rng(4)
    raw, y = _images(16_000, 16, 5)
    packed = [zlib.compress(np.repeat(image, 16).tobytes(), 1) for image in raw]
    cache: dict[int, Array] = {}
    kernel = rng.normal(0, 0.2, (25, 32)).astype(np.float32)
    linear = rng.normal(0, 0.02, (32 * 144, 10)).astype(np.float32)

    def image(i: int) -> Array:
        if i not in cache:
            cache[i] = np.frombuffer(zlib.decompress(packed[i]), np.float32).reshape(256, 16).mean(1)
        return cache[i]

    def patches(batch: Array) -> Array:
        views = np.lib.stride_tricks.sliding_window_view(batch.reshape(-1, 16, 16), (5, 5), (1, 2))
        return np.ascontiguousarray(views).reshape(-1, 144, 25)

    def epoch(_: int) -> Iterator[None]:
        nonlocal kernel, linear
        order = rng.permutation(len(raw))
        for at in range(0, len(raw), 20):
            picked = order[at : at + 20]
            seen = patches(np.stack([image(int(i)) for i in picked]))
            hidden = np.maximum(seen @ kernel, 0)
            flat = hidden.reshape(len(picked), -1)
            grad = _softmax_loss(flat @ linear, y[picked])
            back = (grad @ linear.T).reshape(hidden.shape) * (hidden > 0)
            linear = linear - 0.01 * (flat.T @ grad)
            kernel = kernel - np.float32(0.01) * np.tensordot(seen, back, ((0, 1), (0, 1))).astype(np.float32)
            yield

    about = "convolution 32x5x5 and linear layer on 16000 images of 16x16, unpacked in the first epoch"
    return Training(name="cnn", about=about, steps=800, epoch=epoch, after=lambda: float(np.abs(kernel).mean()))


def boosting() -> Training:
    """Gradient-boosted trees of depth three; a step is a tree."""
    rng = np.random.default_rng(6)
    x = rng.integers(0, 32, (6000, 24))
    y = np.sin(x[:, 0] / 5) * x[:, 1] + x[:, 2] * (x[:, 3] > 15) + rng.normal(0, 2, 6000)
    guess = np.full(6000, y.mean())

    def split(rows: NDArray[np.int64], rest: NDArray[np.float64], depth: int) -> None:
        best = (0.0, -1, -1)
        for feature in range(24):
            bins = x[rows, feature]
            counts = np.cumsum(np.bincount(bins, minlength=32))[:-1]
            sums = np.cumsum(np.bincount(bins, rest[rows], 32))
            others = len(rows) - counts
            with np.errstate(divide="ignore", invalid="ignore"):
                gain = sums[:-1] ** 2 / counts + (sums[-1] - sums[:-1]) ** 2 / others
            gain[(counts == 0) | (others == 0)] = -1
            if gain.max() > best[0]:
                best = (float(gain.max()), feature, int(gain.argmax()))
        _, feature, at = best
        if depth == 0 or feature < 0:
            guess[rows] += 0.1 * rest[rows].mean()
            return
        is_left = x[rows, feature] <= at
        split(rows[is_left], rest, depth - 1)
        split(rows[~is_left], rest, depth - 1)

    def epoch(_: int) -> Iterator[None]:
        for _tree in range(100):
            split(np.arange(6000), y - guess, 3)
            yield

    def after() -> float:
        return float(((y - guess) ** 2).mean())

    return Training(name="boosting", about="trees of depth 3 on 6000x24", steps=100, epoch=epoch, after=after)


def embeddings() -> Training:
    """Skip-gram with negative samples; the window grows by one word each ten epochs, as a schedule does."""
    rng = np.random.default_rng(7)
    text = rng.zipf(1.3, 160_010) % 2000
    inner = rng.normal(0, 0.1, (2000, 64)).astype(np.float32)
    outer = np.zeros((2000, 64), np.float32)

    def epoch(index: int) -> Iterator[None]:
        window = 2 + index // 10
        for at in range(0, 160_000, 500):
            centre = text[at : at + 500]
            for offset in range(1, window + 1):
                for near, truth in ((text[at + offset : at + 500 + offset], 1.0), (rng.permutation(centre), 0.0)):
                    score = 1 / (1 + np.exp(-(inner[centre] * outer[near]).sum(1)))
                    grad = (0.005 * (score - truth))[:, None].astype(np.float32)
                    step = grad * outer[near]
                    np.subtract.at(outer, near, grad * inner[centre])
                    np.subtract.at(inner, centre, step)
            yield

    about = "skip-gram of 2000 words, its window one word wider each ten epochs"
    return Training(name="embeddings", about=about, steps=320, epoch=epoch, after=lambda: float(np.abs(inner).mean()))


TRAININGS: Final = {"mlp": mlp, "cnn": cnn, "boosting": boosting, "embeddings": embeddings}


async def record(training: Training, epochs: int, meters: Any) -> dict[str, Any]:
    """Train under the tracker.

    Args:
        training: What.
        epochs: For how many epochs.
        meters: As for `Tracker`.

    Returns:
        The trace, as it is stored.
    """
    found = []
    each = training.steps // CHUNKS
    async with Tracker(epochs=epochs, location="WORLD", pue=1.0, interval_s=0.1, meters=meters) as tracker:
        last = await tracker.snapshot()
        for index in range(epochs):
            chunks = []
            for done, _ in enumerate(training.epoch(index), 1):
                tracker.step(total=training.steps)
                if done % each == 0:
                    now = await tracker.snapshot()
                    chunks.append((*_between(last, now), each))
                    last = now
            quality = training.after()
            await tracker.epoch()
            now = await tracker.snapshot()
            found.append({"chunks": chunks, "tail": _between(last, now)})
            last = now
        print(f"{training.name}: {last.duration_s:.1f} s, {last.power_w or 0:.1f} W, last figure {quality:.4g}")
    report = tracker.report()
    return {
        "model": training.about,
        "energy": f"basis {report.basis}: " + ", ".join(f"{d.name} ({d.basis})" for d in report.devices if d.counted),
        "is_modelled": str(report.basis) in {"model", "assumed"},
        "recorded_with": f"aiocarbon {__version__}, numpy {np.__version__}",
        "machine": machine(),
        "columns": {"chunks": ["seconds", "joules", "steps"], "tail": ["seconds", "joules"]},
        "epochs": found,
    }


def _between(a: RunReport, b: RunReport) -> tuple[float, float]:
    """Seconds and joules between two reports."""
    joules = j_from_kwh(b.it_energy_kwh) - j_from_kwh(a.it_energy_kwh)
    return round(b.duration_s - a.duration_s, 4), round(joules, 3)


def main(argv: Sequence[str]) -> int:
    """Record what is asked for, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.record_traces", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*TRAININGS, []], metavar="NAME", help=", ".join(TRAININGS))
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--runs", type=int, default=RUNS, help="of each model")
    parser.add_argument("--machine", action="store_true", help="the machine's own meters")
    asked = parser.parse_args(argv)
    TRACES.mkdir(exist_ok=True)
    for run in range(1, asked.runs + 1):  # one model after the other: what else the machine does changes over minutes
        for name in asked.names or TRAININGS:
            trace = asyncio.run(record(TRAININGS[name](), asked.epochs, None if asked.machine else OwnShareMeter()))
            text = json.dumps(trace, separators=(",", ":")).replace('{"chunks":[[', '\n{"chunks":[[')
            (TRACES / f"{name}-{run}.json").write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

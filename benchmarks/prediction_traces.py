"""Runs to predict: made ones of known classes, and stored ones of real trainings (`benchmarks/record_traces.py`).

A made run has 100 epochs of 20 chunks at 300 W and 60 s an epoch. Epochs differ by 3 % in time and 1 % in power, chunks
of one epoch by 5 % in time; those are the noises of the study that the estimators were chosen by.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

TRACES: Final = Path(__file__).with_name("traces")
EPOCHS: Final = 100
CHUNKS: Final = 20
STEPS: Final = 10  # in a chunk
EPOCH_S: Final = 60.0
POWER_W: Final = 300.0
TIME_NOISE: Final = 0.03
POWER_NOISE: Final = 0.01
CHUNK_NOISE: Final = 0.05


@dataclass(slots=True)
class Epoch:
    """One epoch: its chunks as (seconds, joules, steps), then what follows the last step as (class, seconds, joules).

    Attributes:
        chunks: In order.
        tail: Work after the last step; the class is empty where nobody declared one.
        expected_j: Joules of an epoch of this one's regime without noise, what is rare spread evenly; None if unknown.
    """

    chunks: list[tuple[float, float, int]]
    tail: list[tuple[str, float, float]] = field(default_factory=list)
    expected_j: float | None = None

    @property
    def duration_s(self) -> float:
        """Seconds."""
        return sum(c[0] for c in self.chunks) + sum(t[1] for t in self.tail)

    @property
    def energy_j(self) -> float:
        """Joules."""
        return sum(c[1] for c in self.chunks) + sum(t[2] for t in self.tail)


@dataclass(slots=True)
class Trace:
    """One run.

    Attributes:
        epochs: Its epochs.
        declared: How many were declared.
        has_steps: Whether the training tells its steps.
        every: Classes of work that were declared, with how many epochs lie between two pieces.
    """

    epochs: list[Epoch]
    declared: int
    has_steps: bool = True
    every: dict[str, int] = field(default_factory=dict)

    @property
    def energy_j(self) -> float:
        """Joules of the whole run."""
        return sum(epoch.energy_j for epoch in self.epochs)


Factor = Callable[[int, int], float]
"""Of an epoch and a chunk in it: what its time or power is multiplied by."""


def one(epoch: int, chunk: int) -> float:
    """Nothing changes."""
    return 1.0


def made(
    rng: random.Random, *, time: Factor = one, power: Factor = one, regime: Callable[[int], float] = lambda k: 1.0
) -> Trace:
    """A run of the usual noise.

    Args:
        rng: Where its noise comes from.
        time: Factor of a chunk's time.
        power: Factor of a chunk's power.
        regime: Expected joules of an epoch, in epochs of the steady state.
    """
    epochs = []
    for k in range(EPOCHS):
        slow, hot = 1 + rng.gauss(0, TIME_NOISE), 1 + rng.gauss(0, POWER_NOISE)
        chunks = []
        for c in range(CHUNKS):
            seconds = EPOCH_S / CHUNKS * slow * max(1 + rng.gauss(0, CHUNK_NOISE), 0.1) * time(k, c)
            chunks.append((seconds, seconds * POWER_W * hot * power(k, c), STEPS))
        epochs.append(Epoch(chunks, expected_j=EPOCH_S * POWER_W * regime(k)))
    return Trace(epochs, EPOCHS)


def _without_steps(trace: Trace) -> Trace:
    trace.has_steps = False
    return trace


def _slow_start(rng: random.Random) -> Trace:
    """First epoch +30 %: compilation and cold caches, fading over one to five chunks."""
    fade = rng.uniform(0.5, 2.0)
    weights = [math.exp(-c / fade) for c in range(CHUNKS)]
    extra = [0.3 * CHUNKS * w / sum(weights) for w in weights]
    return made(rng, time=lambda k, c: 1 + extra[c] if k == 0 else 1.0)


def _weak_start(rng: random.Random) -> Trace:
    """First epoch -30 %: the device waits in its first eight to ten chunks and draws little."""
    count = rng.randint(8, 10)
    low = 1 - 0.3 * CHUNKS / count
    return made(rng, power=lambda k, c: low if k == 0 and c < count else 1.0)


def _whole_first(factor: float) -> Callable[[random.Random], Trace]:
    return lambda rng: made(rng, time=lambda k, c: factor if k == 0 else 1.0)


def _ar1(rng: random.Random) -> Trace:
    """Neighbouring epochs resemble each other: rho 0.8, standard deviation 5 %."""
    rho, sd, value, values = 0.8, 0.05, rng.gauss(0, 0.05), []
    for _ in range(EPOCHS):
        values.append(1 + value)
        value = rho * value + rng.gauss(0, sd * math.sqrt(1 - rho * rho))
    return made(rng, time=lambda k, c: values[k])


def _thermal(rng: random.Random) -> Trace:
    """Power rises by 6 % as the device warms, with a time constant of 8 epochs."""
    at = [1 + 0.06 * (1 - math.exp(-k / 8)) for k in range(EPOCHS)]
    return made(rng, power=lambda k, c: at[k], regime=lambda k: at[k])


def _slow_thermal(rng: random.Random) -> Trace:
    """Both: a first epoch of +30 % and the thermal rise."""
    fade = rng.uniform(0.5, 2.0)
    weights = [math.exp(-c / fade) for c in range(CHUNKS)]
    extra = [0.3 * CHUNKS * w / sum(weights) for w in weights]
    at = [1 + 0.06 * (1 - math.exp(-k / 8)) for k in range(EPOCHS)]
    return made(
        rng, time=lambda k, c: 1 + extra[c] if k == 0 else 1.0, power=lambda k, c: at[k], regime=lambda k: at[k]
    )


def _checkpoints(name: str) -> Callable[[random.Random], Trace]:
    """Each tenth epoch takes 60 % more at its end."""

    def make(rng: random.Random) -> Trace:
        trace = made(rng, regime=lambda k: 1.06)
        for epoch in trace.epochs[9::10]:
            seconds = 0.6 * EPOCH_S * (1 + rng.gauss(0, 0.05))
            epoch.tail.append((name, seconds, seconds * POWER_W))
        if name:
            trace.every[name] = 10
        return trace

    return make


def _validation(rng: random.Random) -> Trace:
    """A first epoch of +30 %, and a validation of a quarter epoch after each one's steps."""
    trace = _slow_start(rng)
    for epoch in trace.epochs:
        seconds = 0.25 * EPOCH_S * (1 + rng.gauss(0, 0.05))
        epoch.tail.append(("", seconds, 0.7 * POWER_W * seconds))
        epoch.expected_j = EPOCH_S * POWER_W * 1.175
    return trace


def _jump(rng: random.Random) -> Trace:
    """+40 % from 60 % of the epochs on."""
    factor = lambda k: 1.4 if k >= 60 else 1.0  # noqa: E731
    return made(rng, time=lambda k, c: factor(k), regime=factor)


def _drop(rng: random.Random) -> Trace:
    """-30 % from the tenth epoch on."""
    factor = lambda k: 0.7 if k >= 10 else 1.0  # noqa: E731
    return made(rng, time=lambda k, c: factor(k), regime=factor)


def _early_stop(rng: random.Random) -> Trace:
    """Ends by itself after 40 to 90 of the 100 declared epochs."""
    trace = made(rng)
    del trace.epochs[rng.randint(40, 90) :]
    return trace


def _growth(rng: random.Random) -> Trace:
    """Each epoch takes 0.5 % of the first one more than the one before."""
    factor = lambda k: 1 + 0.005 * k  # noqa: E731
    return made(rng, time=lambda k, c: factor(k), regime=factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Class:
    """A class of runs.

    Attributes:
        name: What it is called in the table.
        make: Makes one.
        is_warmup: Whether its first epoch lies and steps tell: the error must be at most half of N x mean's.
        holds: Whether its regime holds, so that the interval must cover.
    """

    name: str
    make: Callable[[random.Random], Trace]
    is_warmup: bool = False
    holds: bool = True


CLASSES: Final = (
    Class(name="stationary", make=made),
    Class(name="stationary, no steps told", make=lambda rng: _without_steps(made(rng))),
    Class(name="first epoch +30 %", make=_slow_start, is_warmup=True),
    Class(name="first epoch -30 %", make=_weak_start, is_warmup=True),
    Class(name="first epoch +30 %, validation", make=_validation, is_warmup=True),
    Class(name="first epoch +30 %, thermal rise", make=_slow_thermal, is_warmup=True),
    Class(name="first epoch +30 %, no steps told", make=lambda rng: _without_steps(_slow_start(rng)), holds=False),
    Class(name="whole first epoch -30 %", make=_whole_first(0.7), holds=False),
    Class(name="AR(1) 0.8, 5 %", make=_ar1),
    Class(name="thermal rise 6 %", make=_thermal),
    Class(name="checkpoint each 10", make=_checkpoints("")),
    Class(name="checkpoint each 10, declared", make=_checkpoints("checkpoint")),
    Class(name="+40 % from epoch 60", make=_jump, holds=False),
    Class(name="-30 % from epoch 10", make=_drop, holds=False),
    Class(name="early stop at 40-90", make=_early_stop, holds=False),
    Class(name="growth 0.5 %/epoch", make=_growth, holds=False),
)


def stored(path: Path) -> Trace:
    """A recorded run: {"epochs": [{"chunks": [[s, J, steps], ...], "tail": [s, J]}, ...], ...}."""
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    epochs = [
        Epoch([(c[0], c[1], int(c[2])) for c in e["chunks"]], [("", e["tail"][0], e["tail"][1])])
        for e in document["epochs"]
    ]
    return Trace(epochs, len(epochs))

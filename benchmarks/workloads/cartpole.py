"""CartPole-v1 in NumPy, many poles at once: no package to install, and one core steps half a million poles a second.

The task is that of Barto, Sutton and Anderson (1983) with the constants of gymnasium's CartPole-v1 (MIT licence):
push a cart left or right so that its pole stays up. One point a step, at most 500 of them; solved is a mean of 475.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

GRAVITY: Final = 9.8
POLE_MASS: Final = 0.1
TOTAL_MASS: Final = 1.1
HALF_POLE_M: Final = 0.5
FORCE_N: Final = 10.0
STEP_S: Final = 0.02
MAX_POSITION_M: Final = 2.4
MAX_ANGLE_RAD: Final = 12 * 2 * np.pi / 360
MAX_STEPS: Final = 500
SOLVED: Final = 475.0
"""The reward threshold of gymnasium's registry."""


@dataclass(frozen=True, slots=True)
class Stepped:
    """What a step of all environments led to.

    Attributes:
        observations: Where each goes on; the begin of a new episode where one ended.
        reached: Where each arrived, also where its episode ended.
        rewards: Points of the step.
        terminated: Whether it failed.
        truncated: Whether it did not fail but its time was up.
    """

    observations: Floats
    reached: Floats
    rewards: Floats
    terminated: Bools
    truncated: Bools


class Environment(Protocol):
    """What an actor plays: some environments in step."""

    def reset(self) -> Floats:
        """Begin new episodes; the observations, (n, 4)."""
        ...

    def step(self, actions: Ints) -> Stepped:
        """Do one action in each, (n,)."""
        ...


class CartPole:
    """`n` carts with poles; a fallen one begins anew by itself."""

    def __init__(self, n: int, rng: np.random.Generator) -> None:
        self._n = n
        self._rng = rng
        self._state: Floats = np.zeros((n, 4))
        self._steps: Ints = np.zeros(n, dtype=np.int64)

    def reset(self) -> Floats:
        """All poles nearly upright."""
        self._state = self._upright(self._n)
        self._steps = np.zeros(self._n, dtype=np.int64)
        return self._state

    def step(self, actions: Ints) -> Stepped:
        """Push each cart left (0) or right (1) for 0.02 s."""
        reached = pushed(self._state, actions)
        self._steps += 1
        terminated = (np.abs(reached[:, 0]) > MAX_POSITION_M) | (np.abs(reached[:, 2]) > MAX_ANGLE_RAD)
        truncated = (self._steps >= MAX_STEPS) & ~terminated
        over = terminated | truncated
        self._state = reached
        if over.any():
            self._state = reached.copy()
            self._state[over] = self._upright(int(over.sum()))
            self._steps[over] = 0
        return Stepped(self._state, reached, np.ones(self._n), terminated, truncated)

    def _upright(self, n: int) -> Floats:
        return self._rng.uniform(-0.05, 0.05, (n, 4))


def pushed(state: Floats, actions: Ints) -> Floats:
    """Physics: position, speed, angle and its rate of each cart after 0.02 s, by Euler's rule."""
    _, speed, angle, rate = state.T
    force = np.where(actions == 1, FORCE_N, -FORCE_N)
    sine, cosine = np.sin(angle), np.cos(angle)
    swing = (force + POLE_MASS * HALF_POLE_M * rate**2 * sine) / TOTAL_MASS
    turning = (GRAVITY * sine - cosine * swing) / (HALF_POLE_M * (4 / 3 - POLE_MASS * cosine**2 / TOTAL_MASS))
    acceleration = swing - POLE_MASS * HALF_POLE_M * turning * cosine / TOTAL_MASS
    change = np.stack((speed, acceleration, rate, turning), axis=1)
    return state + STEP_S * change

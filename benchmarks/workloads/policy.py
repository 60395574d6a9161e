"""A policy that learns by clipped updates (PPO; Schulman et al. 2017, arXiv:1707.06347), in NumPy alone.

The clip is what makes an asynchronous training work: rollouts come from policies that are some updates old, and the
clipped ratio of new to old probability lets no such rollout pull the policy far. Without it, this one collapses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from benchmarks.workloads.cartpole import Bools, Environment, Floats, Ints

DISCOUNT: Final = 0.99
TRACE: Final = 0.95
"""Lambda of the generalised advantage estimate (Schulman et al. 2016, arXiv:1506.02438)."""
CLIP: Final = 0.2
ENTROPY: Final = 0.01
MAX_NORM: Final = 0.5
SCALE: Final = np.array([2.4, 2.0, 0.21, 2.0])
"""Typical size of position, speed, angle and its rate."""

VALUE_SCALE: Final = 20.0
"""Values are tens of points; the network's last layer works with numbers near 1."""

HIDDEN: Final = 32
"""Units of a layer. With 64, arrays reach the 128 KiB from which glibc maps each anew, at the price of page faults."""

Weights = dict[str, Floats]


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy network (p) and a value network (v), each with one tanh layer. Never changed, so anyone may hold one.

    Attributes:
        weights: By name.
        version: How many updates made it.
    """

    weights: Weights
    version: int = 0

    @classmethod
    def new(cls, rng: np.random.Generator, hidden: int = HIDDEN) -> Policy:
        """One that has learnt nothing yet and plays nearly at random."""
        return cls(
            {
                "p1": rng.normal(0, 0.5, (4, hidden)),
                "pb": np.zeros(hidden),
                "p2": rng.normal(0, 0.01, (hidden, 2)),
                "v1": rng.normal(0, 0.5, (4, hidden)),
                "vb": np.zeros(hidden),
                "v2": rng.normal(0, 0.01, (hidden, 1)),
            }
        )

    def act(self, observations: Floats, rng: np.random.Generator) -> tuple[Ints, Floats]:
        """An action for each observation, drawn, and the log probability that it had, both (n,)."""
        w = self.weights
        logs = log_softmax(np.tanh(observations / SCALE @ w["p1"] + w["pb"]) @ w["p2"])
        actions = (rng.random(len(logs)) < np.exp(logs[:, 1])).astype(np.int64)
        return actions, logs[np.arange(len(logs)), actions]

    def value(self, observations: Floats) -> Floats:
        """Discounted points expected from here on, (n,)."""
        w = self.weights
        values: Floats = np.tanh(observations / SCALE @ w["v1"] + w["vb"]) @ w["v2"]
        return values[:, 0] * VALUE_SCALE


def log_softmax(logits: Floats) -> Floats:
    """Log probabilities of the actions, (n, 2)."""
    shifted: Floats = logits - logits.max(axis=1, keepdims=True)
    logs: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logs


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """What an actor saw: `t` steps of `n` environments, flattened, with what each was worth.

    Attributes:
        observations: (t x n, 4).
        actions: (t x n,).
        log_probs: Log probability of each action under the policy that took it.
        advantages: How much better than expected each action turned out.
        returns: Discounted points that followed, as far as they are known.
        version: Of the policy that played.
    """

    observations: Floats
    actions: Ints
    log_probs: Floats
    advantages: Floats
    returns: Floats
    version: int

    @property
    def steps(self) -> int:
        """Environment steps in it."""
        return len(self.actions)


class Player:
    """Plays some environments and goes on where the last rollout ended."""

    def __init__(self, environment: Environment, rng: np.random.Generator) -> None:
        self._environment = environment
        self._rng = rng
        self._observations = environment.reset()

    def play(self, policy: Policy, steps: int) -> Rollout:
        """A rollout of so many steps in each environment."""
        seen = [self._step(policy) for _ in range(steps)]
        observations, actions, log_probs, rewards, values, over = (
            np.array(column) for column in zip(*seen, strict=True)
        )
        gains, returns = advantages(rewards, values, policy.value(self._observations), over)
        return Rollout(
            observations=observations.reshape(-1, observations.shape[-1]),
            actions=actions.ravel(),
            log_probs=log_probs.ravel(),
            advantages=gains.ravel(),
            returns=returns.ravel(),
            version=policy.version,
        )

    def _step(self, policy: Policy) -> tuple[Floats, Ints, Floats, Floats, Floats, Bools]:
        observations = self._observations
        actions, log_probs = policy.act(observations, self._rng)
        stepped = self._environment.step(actions)
        rewards = stepped.rewards
        if stepped.truncated.any():  # it would have gone on: what was to come counts as its value
            rewards = rewards + DISCOUNT * np.where(stepped.truncated, policy.value(stepped.reached), 0.0)
        self._observations = stepped.observations
        return (
            observations,
            actions,
            log_probs,
            rewards,
            policy.value(observations),
            stepped.terminated | stepped.truncated,
        )


def first_returns(policy: Policy, environment: Environment, rng: np.random.Generator) -> Floats:
    """Points of the first episode in each environment, (n,), played until the last of them is over."""
    observations = environment.reset()
    points = np.zeros(len(observations))
    playing = np.ones(len(observations), dtype=np.bool_)
    while playing.any():
        stepped = environment.step(policy.act(observations, rng)[0])
        points += stepped.rewards * playing
        playing &= ~(stepped.terminated | stepped.truncated)
        observations = stepped.observations
    return points


def advantages(rewards: Floats, values: Floats, last: Floats, over: Bools) -> tuple[Floats, Floats]:
    """Generalised advantages and the returns that the value network shall learn, both (t, n)."""
    found = np.zeros_like(rewards)
    carried = np.zeros_like(last)
    following = last
    for t in reversed(range(len(rewards))):
        going_on = 1.0 - over[t]
        surprise = rewards[t] + DISCOUNT * following * going_on - values[t]
        carried = surprise + DISCOUNT * TRACE * going_on * carried
        found[t] = carried
        following = values[t]
    return found, found + values


@dataclass
class Learner:
    """Betters the policy, by Adam (Kingma and Ba 2014, arXiv:1412.6980) with the gradient's norm limited.

    Attributes:
        policy: The newest one; replaced by each update.
        rng: Shuffles.
        rate: Step size.
        passes: How often an update goes through a rollout.
        batch: Samples a gradient.
    """

    policy: Policy
    rng: np.random.Generator
    rate: float = 3e-4
    passes: int = 2
    batch: int = 256
    _mean: Weights = field(default_factory=dict)
    _square: Weights = field(default_factory=dict)
    _count: int = 0

    def update(self, rollout: Rollout) -> None:
        """Learn from one rollout, of whatever version."""
        weights = self.policy.weights
        for _ in range(self.passes):
            order = self.rng.permutation(rollout.steps)
            for at in range(0, rollout.steps, self.batch):
                weights = self._stepped(weights, gradients(weights, rollout, order[at : at + self.batch]))
        self.policy = Policy(weights, self.policy.version + 1)

    def _stepped(self, weights: Weights, found: Weights) -> Weights:
        norm = np.sqrt(sum(float((g * g).sum()) for g in found.values()))
        limit = min(1.0, MAX_NORM / (norm + 1e-8))
        self._count += 1
        rate = self.rate * np.sqrt(1 - 0.999**self._count) / (1 - 0.9**self._count)
        better = {}
        for name, gradient in found.items():
            g = gradient * limit
            mean = self._mean[name] = 0.9 * self._mean.get(name, 0.0) + 0.1 * g
            square = self._square[name] = 0.999 * self._square.get(name, 0.0) + 0.001 * g * g
            better[name] = weights[name] - rate * mean / (np.sqrt(square) + 1e-8)
        return better


def gradients(weights: Weights, rollout: Rollout, chosen: Ints) -> Weights:
    """Gradients of the clipped loss, less an entropy bonus, plus the squared error of the values, on some samples."""
    x = rollout.observations[chosen] / SCALE
    actions = rollout.actions[chosen]
    gain = rollout.advantages[chosen]
    gain = (gain - gain.mean()) / (gain.std() + 1e-8)
    n, rows = len(actions), np.arange(len(actions))

    hidden = np.tanh(x @ weights["p1"] + weights["pb"])
    logs = log_softmax(hidden @ weights["p2"])
    probs = np.exp(logs)
    ratio = np.exp(logs[rows, actions] - rollout.log_probs[chosen])
    # Where the ratio has left the clip's range on the side that the gain favours, the loss is flat.
    is_flat = np.where(gain > 0, ratio > 1 + CLIP, ratio < 1 - CLIP)
    pull = np.where(is_flat, 0.0, -gain * ratio) / n
    d_logits = -probs * pull[:, None]
    d_logits[rows, actions] += pull
    entropy = -(probs * logs).sum(axis=1, keepdims=True)
    d_logits += ENTROPY * probs * (logs + entropy) / n
    d_hidden = (d_logits @ weights["p2"].T) * (1 - hidden**2)

    v_hidden = np.tanh(x @ weights["v1"] + weights["vb"])
    error = (v_hidden @ weights["v2"])[:, 0] - rollout.returns[chosen] / VALUE_SCALE
    d_value = (error / n)[:, None]
    d_v_hidden = (d_value @ weights["v2"].T) * (1 - v_hidden**2)
    return {
        "p1": x.T @ d_hidden,
        "pb": d_hidden.sum(axis=0),
        "p2": hidden.T @ d_logits,
        "v1": x.T @ d_v_hidden,
        "vb": d_v_hidden.sum(axis=0),
        "v2": v_hidden.T @ d_value,
    }

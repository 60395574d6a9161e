"""Asynchronous reinforcement learning in plain asyncio, with the spans of a tracker where the work is.

Actors, a learner and an evaluator run at once in one event loop; their arithmetic is done in worker threads. An actor
plays with the newest policy there is when it begins a rollout, and the learner learns from rollouts as they come, so
the policy that played is a few updates old; the clipped update bears that. The training ends when the mean of 100
episodes, the last five evaluations, has reached the target (475 is CartPole-v1's), and it fails if that takes too long.

Numbers are drawn from a seed, but which rollout comes when depends on the threads: two runs of a seed are alike and
not the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final, Self

import numpy as np

from aiocarbon import Tracker
from benchmarks.workloads.cartpole import SOLVED, CartPole, Environment
from benchmarks.workloads.policy import Learner, Player, Policy, Rollout, first_returns

EPISODES: Final = 20
"""Of an evaluation; five of them make the 100 episodes that the target is asked of."""
EVALUATIONS: Final = 5

MakeEnvironment = Callable[[int, np.random.Generator], Environment]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What shall be done.

    Attributes:
        actors: How many play at once.
        poles: Environments of an actor, which it plays in step.
        steps: Steps of a rollout in each of them.
        updates: Updates at most.
        every: Updates from one evaluation to the next.
        target: Mean return that is wanted, points of an episode; None: do all updates, whatever the return.
        seed: Of all that is drawn.
    """

    actors: int = 3
    poles: int = 32
    steps: int = 64
    updates: int = 800
    every: int = 20
    target: float | None = SOLVED
    seed: int = 0

    @property
    def evaluations(self) -> int:
        """How many there are at most."""
        return -(-self.updates // self.every)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How well a policy plays.

    Attributes:
        version: Of the policy.
        mean_return: Points of an episode, mean of 20.
    """

    version: int
    mean_return: float


@dataclass(slots=True)
class Progress:
    """What has happened so far.

    Attributes:
        environment_steps: Of all rollouts, by actor.
        evaluations: In order.
        learnt: Updates done.
        age: Sum over the updates of how many updates old the policy that had played was.
        seconds: Of the training, without the tracker's begin and end.
        cpu_s: CPU seconds of the process in that time, the tracker's threads included.
    """

    environment_steps: list[int]
    evaluations: list[Evaluation] = field(default_factory=list)
    learnt: int = 0
    age: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0

    @property
    def mean_return(self) -> float | None:
        """Mean of the last 100 episodes; None before there were as many."""
        last = self.evaluations[-EVALUATIONS:]
        return sum(e.mean_return for e in last) / EVALUATIONS if len(last) == EVALUATIONS else None

    def has_reached(self, target: float) -> bool:
        """Whether that mean is at least the target."""
        return self.mean_return is not None and self.mean_return >= target


class Untracked:
    """A tracker that tracks nothing, to compare with."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    def child(self, name: str) -> Untracked:
        """Itself."""
        return self

    def span(self, name: str) -> AbstractContextManager[Any]:
        """Nothing."""
        return nullcontext()

    def step(self, n: int = 1, *, total: int | None = None) -> None:
        """Count nothing."""

    async def epoch(self) -> None:
        """Mark nothing."""

    async def aclose(self) -> None:
        """End nothing."""


class Training:
    """The training: `await Training(plan, tracker).run()` inside `async with tracker`.

    Args:
        plan: What shall be done.
        tracker: Whose spans, steps and epochs they are.
        make: Makes an actor's environments.
        evaluated: Told of each evaluation.
    """

    def __init__(
        self,
        plan: Plan,
        tracker: Tracker | Untracked,
        *,
        make: MakeEnvironment = CartPole,
        evaluated: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        self.progress = Progress(environment_steps=[0] * plan.actors)
        self._plan = plan
        self._tracker = tracker
        self._make = make
        self._evaluated = evaluated
        own, shuffles, self._exams, *self._dice = np.random.default_rng(plan.seed).spawn(3 + plan.actors)
        self._learner = Learner(Policy.new(own), shuffles)
        self._rollouts: asyncio.Queue[Rollout] = asyncio.Queue(maxsize=1)
        self._candidates: asyncio.Queue[Policy] = asyncio.Queue()

    async def run(self) -> bool:
        """Train until the target is reached or all updates are done.

        Returns:
            Whether the target was reached; True without one.
        """
        began, spent = time.perf_counter(), time.process_time()
        try:
            async with asyncio.TaskGroup() as group:
                workers = [group.create_task(self._play(index)) for index in range(self._plan.actors)]
                workers.append(group.create_task(self._learn()))
                is_reached = await self._evaluate()
                for worker in workers:
                    worker.cancel()
        finally:
            self.progress.seconds = time.perf_counter() - began
            self.progress.cpu_s = time.process_time() - spent
        return is_reached

    async def _play(self, index: int) -> None:
        actor = self._tracker.child(f"actor-{index}")
        player = Player(self._make(self._plan.poles, self._dice[index]), self._dice[index])
        while True:
            with actor.span("rollout"):
                rollout = await asyncio.to_thread(player.play, self._learner.policy, self._plan.steps)
            actor.step(rollout.steps)
            self.progress.environment_steps[index] += rollout.steps
            await self._rollouts.put(rollout)  # waits while the learner is behind

    async def _learn(self) -> None:
        for learnt in range(1, self._plan.updates + 1):
            rollout = await self._rollouts.get()
            self.progress.age += self._learner.policy.version - rollout.version
            with self._tracker.span("update"):
                await asyncio.to_thread(self._learner.update, rollout)
            self.progress.learnt = learnt
            self._tracker.step(total=self._plan.every)
            if learnt % self._plan.every == 0 or learnt == self._plan.updates:
                self._candidates.put_nowait(self._learner.policy)

    async def _evaluate(self) -> bool:
        target = self._plan.target
        for _ in range(self._plan.evaluations):
            policy = await self._candidates.get()
            with self._tracker.span("evaluation"):
                environment = self._make(EPISODES, self._exams)
                returns = await asyncio.to_thread(first_returns, policy, environment, self._exams)
            await self._tracker.epoch()
            self.progress.evaluations.append(Evaluation(policy.version, float(returns.mean())))
            self._evaluated(self.progress)
            if target is not None and self.progress.has_reached(target):
                return True
        return target is None

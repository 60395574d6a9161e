"""The asynchronous reinforcement learning of `training`, by actors of Ray: the same policy, learner and environment.

Rollout actors, a learner and an evaluator are processes. An actor plays with the newest policy that the learner gave
it for its last rollout, and waits while the learner is behind; so policies that play are a few updates old. Each
process asks for its tracker by `tracker()`, and ends it when it is done, which is all that it does for the instrument.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np

from benchmarks.workloads.cartpole import CartPole
from benchmarks.workloads.costs import J_PER_KWH
from benchmarks.workloads.policy import Learner, Player, Policy, Rollout, first_returns
from benchmarks.workloads.training import EPISODES, Evaluation, MakeEnvironment, Plan, Progress, Untracked


class RolloutActor:
    """Plays, in an async actor.

    Args:
        plan: What shall be done.
        index: Which actor it is.
        dice: What it draws from.
        make: Makes its environments.
        is_tracked: Whether there is a cluster's run to report to.
    """

    def __init__(
        self, plan: Plan, index: int, dice: np.random.Generator, make: MakeEnvironment, is_tracked: bool
    ) -> None:
        self._plan = plan
        self._name = f"actor-{index}"
        self._player = Player(make(plan.poles, dice), dice)
        self._is_tracked = is_tracked
        self._tracker: Any = Untracked()

    async def begin(self) -> None:
        """Be ready."""
        self._tracker = await _own(self._is_tracked)

    async def play(self, learner: Any) -> int:
        """Play for a learner until it wants no more; environment steps done."""
        actor, steps = self._tracker.child(self._name), 0
        policy = await learner.newest.remote()
        while policy is not None:
            with actor.span("rollout"):
                rollout = await asyncio.to_thread(self._player.play, policy, self._plan.steps)
            actor.step(rollout.steps)
            steps += rollout.steps
            policy = await learner.give.remote(rollout)  # waits while the learner is behind
        await actor.epoch()  # one for all: the journal has steps by epochs
        await self._tracker.aclose()
        return steps


class LearnerActor:
    """Learns from rollouts as they come, in an async actor.

    Args:
        plan: What shall be done.
        own: What its first policy is drawn from.
        shuffles: What its batches are drawn from.
        is_tracked: Whether there is a cluster's run to report to.
    """

    def __init__(self, plan: Plan, own: np.random.Generator, shuffles: np.random.Generator, is_tracked: bool) -> None:
        self._plan = plan
        self._learner = Learner(Policy.new(own), shuffles)
        self._rollouts: asyncio.Queue[Rollout | None] = asyncio.Queue(maxsize=1)
        self._candidates: asyncio.Queue[Policy] = asyncio.Queue()
        self._is_over = False
        self._is_tracked = is_tracked
        self._tracker: Any = Untracked()

    async def begin(self) -> None:
        """Be ready."""
        self._tracker = await _own(self._is_tracked)

    async def newest(self) -> Policy | None:
        """The newest policy; None once nothing is learnt any more."""
        return None if self._is_over else self._learner.policy

    async def give(self, rollout: Rollout) -> Policy | None:
        """Give a rollout, and get the newest policy once there is room for the next one."""
        if not self._is_over:
            await self._rollouts.put(rollout)
        return await self.newest()

    async def candidate(self) -> Policy:
        """The next policy that is to be evaluated."""
        return await self._candidates.get()

    async def learn(self) -> tuple[int, int, float]:
        """Learn until all updates are done, or `end`.

        Returns:
            How many were done, the sum of the ages of the policies that had played for them, and how many seconds all
            of them but the first took.
        """
        learnt = age = 0
        began = ended = time.perf_counter()
        while learnt < self._plan.updates and (rollout := await self._rollouts.get()) is not None:
            age += self._learner.policy.version - rollout.version
            with self._tracker.span("update"):
                await asyncio.to_thread(self._learner.update, rollout)
            learnt += 1
            ended = time.perf_counter()
            began = began if learnt > 1 else ended
            if learnt % self._plan.every == 0 or learnt == self._plan.updates:
                self._candidates.put_nowait(self._learner.policy)
        self._is_over = True
        while not self._rollouts.empty():  # nobody waits any more to give
            self._rollouts.get_nowait()
            await asyncio.sleep(0)
        await self._tracker.aclose()
        return learnt, age, ended - began

    async def end(self) -> None:
        """Learn no more."""
        self._is_over = True
        await self._rollouts.put(None)


class EvaluationActor:
    """Evaluates policies, in a sync actor.

    Args:
        exams: What it draws from.
        make: Makes its environments.
        is_tracked: Whether there is a cluster's run to report to.
    """

    def __init__(self, exams: np.random.Generator, make: MakeEnvironment, is_tracked: bool) -> None:
        self._exams = exams
        self._make = make
        self._is_tracked = is_tracked
        self._tracker: Any = Untracked()

    def begin(self) -> None:
        """Be ready."""
        if self._is_tracked:
            from aiocarbon.integrations.ray import sync_tracker

            self._tracker = sync_tracker()

    def evaluate(self, policy: Policy) -> float:
        """Mean points of some episodes."""
        with self._tracker.span("evaluation"):
            return float(first_returns(policy, self._make(EPISODES, self._exams), self._exams).mean())

    def end(self) -> None:
        """Evaluate no more."""
        if self._is_tracked:
            self._tracker.stop()


async def _own(is_tracked: bool) -> Any:
    """This process's tracker."""
    if not is_tracked:
        return Untracked()
    from aiocarbon.integrations.ray import tracker

    return await tracker()


class RayTraining:
    """The training on Ray: `await RayTraining(plan, cluster).run()` inside `async with cluster`.

    Args:
        plan: What shall be done.
        tracker: A `ClusterTracker`, or one that tracks nothing.
        make: Makes an actor's environments.
        evaluated: Told of each evaluation.

    Attributes:
        progress: What has happened so far.
        used_j: Of the epochs that have ended, with PUE counted, joules; None before the first, and where none told.
        learning_s: Seconds that all updates but the first took; 0 until they are done.
    """

    def __init__(
        self,
        plan: Plan,
        tracker: Any,
        *,
        make: MakeEnvironment = CartPole,
        evaluated: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        self.progress = Progress(environment_steps=[0] * plan.actors)
        self.learning_s = 0.0
        self.used_j: float | None = None
        self._plan = plan
        self._tracker = tracker
        self._make = make
        self._evaluated = evaluated

    async def run(self) -> bool:
        """Train until the target is reached or all updates are done.

        Returns:
            Whether the target was reached; True without one.
        """
        import ray

        actors, learner, evaluator = self._made()
        everyone = [*actors, learner, evaluator]
        try:
            with self._tracker.span("start"):  # of the processes: Ray takes about a second for each
                await _all(actor.begin.remote() for actor in everyone)
            await self._train(actors, learner, evaluator)
        finally:
            for actor in everyone:
                ray.kill(actor)
        target = self._plan.target
        return target is None or self.progress.has_reached(target)

    def _made(self) -> tuple[list[Any], Any, Any]:
        """The actors, the learner and the evaluator; each starts as a process of its own."""
        import ray

        plan, is_tracked = self._plan, not isinstance(self._tracker, Untracked)
        own, shuffles, exams, *dice = np.random.default_rng(plan.seed).spawn(3 + plan.actors)

        def actor(cls: type, *arguments: Any) -> Any:
            return ray.remote(cls).options(num_cpus=0).remote(*arguments, is_tracked)

        return (
            [actor(RolloutActor, plan, index, one, self._make) for index, one in enumerate(dice)],
            actor(LearnerActor, plan, own, shuffles),
            actor(EvaluationActor, exams, self._make),
        )

    async def _train(self, actors: list[Any], learner: Any, evaluator: Any) -> None:
        began = time.perf_counter()
        playing = [actor.play.remote(learner) for actor in actors]
        learning = learner.learn.remote()
        async with asyncio.TaskGroup() as group:
            evaluating = group.create_task(self._evaluate(learner, evaluator))
            for ref in playing:  # so that an actor that fails ends the training
                group.create_task(_answer(ref))
            await evaluating
            await learner.end.remote()
            self.progress.learnt, self.progress.age, self.learning_s = await learning
        self.progress.environment_steps = [await ref for ref in playing]
        self.progress.seconds = time.perf_counter() - began
        await evaluator.end.remote()

    async def _evaluate(self, learner: Any, evaluator: Any) -> None:
        plan = self._plan
        learnt = 0
        for _ in range(plan.evaluations):
            policy = await learner.candidate.remote()
            returned = await evaluator.evaluate.remote(policy)
            self._tracker.step(policy.version - learnt, total=plan.every)
            learnt = policy.version
            epoch = await self._tracker.epoch()
            if epoch is not None and epoch.coverage > 0.0:
                self.used_j = (self.used_j or 0.0) + epoch.energy_kwh * J_PER_KWH
            self.progress.evaluations.append(Evaluation(policy.version, returned))
            self._evaluated(self.progress)
            if plan.target is not None and self.progress.has_reached(plan.target):
                return


async def _answer(ref: Awaitable[Any]) -> Any:
    return await ref


async def _all(refs: Any) -> None:
    for ref in list(refs):
        await ref

"""The tracker of a process for the cluster's run: one a process and run, whoever asks for it."""

from __future__ import annotations

import threading
import time
from typing import Any, Final

import anyio
from anyio.to_thread import run_sync

from aiocarbon import sync
from aiocarbon._logging import get_logger
from aiocarbon.errors import UsageError
from aiocarbon.integrations._ray_actors import NAMESPACE, Plan, keeper_name, ray_module
from aiocarbon.tracker import Tracker

log = get_logger("ray")

ANSWER_S: Final = 15.0
ASK_AGAIN_S: Final = 5.0
"""An actor that outlives a run finds the next one's so soon; asking takes about 2 ms."""

# In each process one tracker a run, whoever asks for it: a worker that Ray uses for many tasks measures once.
_lock = threading.Lock()
_trackers: dict[str, sync.Tracker] = {}


async def tracker() -> Tracker:
    """The tracker of this process for the cluster's run, started; in async actors, tasks, and on the driver.

    The first call in a process starts it; every call gives the same run. It measures until the process ends, and
    needs no end: spans and children are in the cluster's report as far as they were written (1 s) and sent (2 s).

    Without a `ClusterTracker` in this Ray job it reports for itself alone, and says so.

    Raises:
        UsageError: Ray is not initialised.
    """
    initialised()
    job = job_id()
    if plans.is_due(job):
        ray = ray_module()
        try:
            keeper = await run_sync(ray.get_actor, keeper_name(job), NAMESPACE)
            with anyio.fail_after(ANSWER_S):
                plans.learn(job, await keeper.plan.remote())
        except (ray.exceptions.RayError, TimeoutError, ValueError) as error:
            log.debug("ray.no_keeper", why=str(error))
    known = await run_sync(shared, plans.of(job), node_id())
    skin = object.__new__(Tracker)  # another skin of the run that has begun: no run of its own
    skin._handle = known._handle
    skin._tape.follow()
    return skin


def sync_tracker() -> sync.Tracker:
    """The same for sync actors and tasks, with the verbs of `aiocarbon.sync`.

    Raises:
        UsageError: Ray is not initialised.
    """
    initialised()
    job = job_id()
    if plans.is_due(job):
        ray = ray_module()
        try:
            keeper = ray.get_actor(keeper_name(job), NAMESPACE)
            plans.learn(job, ray.get(keeper.plan.remote(), timeout=ANSWER_S))
        except (ray.exceptions.RayError, ValueError) as error:
            log.debug("ray.no_keeper", why=str(error))
    known = shared(plans.of(job), node_id())
    known._tape.follow()
    return known


def shared(plan: Plan | None, node_id: str) -> sync.Tracker:
    """The process's tracker of a run, started; blocks for at most 0.5 s, and where another run was before, for 3 s."""
    key = "" if plan is None else plan.run_id
    with _lock:
        for other in _trackers.keys() - {key}:
            _trackers.pop(other).stop()
        known = _trackers.get(key)
        if known is None or not known._handle.is_active:
            known = sync.Tracker() if plan is None else sync.Tracker(**plan.arguments(node_id))
            known.start()
            if plan is None:
                known._handle.tell("no ClusterTracker was found in this Ray job: this process reports for itself")
            _trackers[key] = known
        return known


class Plans:
    """The plans of the runs of jobs, as they were last asked for: actors outlive runs."""

    def __init__(self) -> None:
        self._known: dict[str, Plan] = {}
        self._asked_s: dict[str, float] = {}

    def is_due(self, job_id: str) -> bool:
        """True if it is time to ask again; whoever is told so asks."""
        now = time.monotonic()
        if now < self._asked_s.get(job_id, float("-inf")) + ASK_AGAIN_S:
            return False
        if job_id in self._known:
            self._asked_s[job_id] = now
        return True

    def learn(self, job_id: str, plan: Plan) -> None:
        """Take what was told."""
        self._known[job_id] = plan
        self._asked_s[job_id] = time.monotonic()

    def of(self, job_id: str) -> Plan | None:
        """The newest plan of a job; the last one still where its run has ended; None if there was none."""
        return self._known.get(job_id)

    def forget(self) -> None:
        """Ask at the next call."""
        self._asked_s.clear()


plans = Plans()


def ended(run_id: str, ended_well: bool) -> None:
    """End the run of this process, which has to be known when the meters send their last."""
    with _lock:
        known = _trackers.pop(run_id, None)
    if known is not None:
        known._end(ended_well=ended_well)


def initialised() -> Any:
    """Ray, if it is initialised."""
    ray = ray_module()
    if not ray.is_initialized():
        raise UsageError("Ray is not initialised: call ray.init() first")
    return ray


def job_id() -> str:
    return str(ray_module().get_runtime_context().get_job_id())


def node_id() -> str:
    return str(ray_module().get_runtime_context().get_node_id())

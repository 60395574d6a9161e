"""One report for a Ray cluster: by node and by name, although actors and nodes come, go and die.

```python
from aiocarbon.integrations.ray import ClusterTracker, tracker

@ray.remote
class Rollout:
    async def play(self):
        tracked = await tracker()
        with tracked.span("rollout"):
            ...

async with ClusterTracker(name="my-rl") as cluster:
    await train(...)
    print((await cluster.snapshot()).energy_kwh)
report = cluster.report()
```

Journals are the truth: each process that tracks writes one on its node; one detached actor a node measures the node
and sends what is new in them to an actor beside the driver, every 2 s. The cluster's report is these journals, merged
as `aiocarbon report` merges them. Nothing depends on code that runs at the end of an actor.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import anyio
from anyio.to_thread import run_sync

from aiocarbon import sync
from aiocarbon._core.nodes import NodeReport
from aiocarbon._engine.launch import new_name
from aiocarbon._logging import get_logger
from aiocarbon.errors import ConfigError, JournalError, UsageError
from aiocarbon.integrations._ray_actors import NAMESPACE, Keeper, NodeSeen, Plan, keeper_name, ray_module
from aiocarbon.settings import check, check_arguments
from aiocarbon.tracker import Tracker

if TYPE_CHECKING:
    from aiocarbon._core.report import RunReport

if find_spec("ray") is None:
    raise ImportError("aiocarbon.integrations.ray needs Ray: pip install 'aiocarbon[ray]'", name="ray")

__all__ = ["ClusterTracker", "sync_tracker", "tracker"]

log = get_logger("ray")

FIRST_S: Final = 30.0
"""How long entering waits for the first node's first word: a worker process starts in 1 to 4 s where cores are busy."""

NAME_FREE_S: Final = 10.0
ANSWER_S: Final = 15.0
POLL_S: Final = 0.1
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
    _initialised()
    job_id = _job_id()
    if _plans.is_due(job_id):
        ray = ray_module()
        try:
            keeper = await run_sync(ray.get_actor, keeper_name(job_id), NAMESPACE)
            with anyio.fail_after(ANSWER_S):
                _plans.learn(job_id, await keeper.plan.remote())
        except (ray.exceptions.RayError, TimeoutError, ValueError) as error:
            log.debug("ray.no_keeper", why=str(error))
    shared = await run_sync(_shared, _plans.of(job_id), _node_id())
    skin = object.__new__(Tracker)  # another skin of the run that has begun: no run of its own
    skin._handle = shared._handle
    skin._tape.follow()
    return skin


def sync_tracker() -> sync.Tracker:
    """The same for sync actors and tasks, with the verbs of `aiocarbon.sync`.

    Raises:
        UsageError: Ray is not initialised.
    """
    _initialised()
    job_id = _job_id()
    if _plans.is_due(job_id):
        ray = ray_module()
        try:
            keeper = ray.get_actor(keeper_name(job_id), NAMESPACE)
            _plans.learn(job_id, ray.get(keeper.plan.remote(), timeout=ANSWER_S))
        except (ray.exceptions.RayError, ValueError) as error:
            log.debug("ray.no_keeper", why=str(error))
    shared = _shared(_plans.of(job_id), _node_id())
    shared._tape.follow()
    return shared


def _shared(plan: Plan | None, node_id: str) -> sync.Tracker:
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


_plans = Plans()


class ClusterTracker:
    """Tracks the energy and CO2eq of a Ray cluster, from entering to leaving; on the driver.

    The arguments are those of `aiocarbon.Tracker` that make sense for all nodes; what is not given each node takes from
    its own `AIOCARBON_<NAME>`. Nodes are told apart by their host names, or by `AIOCARBON_NODE`.

    Args:
        journal: Folder, beside the driver, in which the run's journals are collected; None: a temporary one, which
            stays.
        node_journal: Folder on each node for the journals that are written there; None: a temporary one, which stays.
        run_id: Id of the run; None: made.
        settings: Arguments of `aiocarbon.Tracker`: name, meters (names, not objects), interval_s, location, intensity,
            pue, offline, attribution.

    Raises:
        ConfigError: An argument is not accepted.
    """

    def __init__(
        self,
        *,
        journal: str | os.PathLike[str] | None = None,
        node_journal: str | os.PathLike[str] | None = None,
        run_id: str | None = None,
        **settings: Any,
    ) -> None:
        for field in settings.keys() - SETTINGS:
            raise ConfigError(field, settings[field], f"an argument among {', '.join(sorted(SETTINGS))}")
        check_arguments(settings)
        meters = settings.get("meters")
        names = [meters] if meters is None or isinstance(meters, str) else [*meters]
        if not all(name is None or isinstance(name, str) for name in names):
            raise ConfigError("meters", meters, "names of meters, which each node can open for itself")
        own = Path(tempfile.gettempdir()) / f"aiocarbon-ray-{os.getuid() if hasattr(os, 'getuid') else 0}"
        self._folder = own / "driver" if journal is None else Path(journal).absolute()
        self._plan = Plan(
            run_id=check("run_id", run_id) or new_name(),
            settings=settings,
            base=str(own if node_journal is None else Path(node_journal).absolute()),
        )
        self._keeper: Any = None
        self._running: Any = None
        self._nodes: list[NodeSeen] = []
        self._report: RunReport | None = None

    @property
    def run_id(self) -> str:
        """Id of the run."""
        return self._plan.run_id

    @property
    def folder(self) -> Path:
        """Where the run's journals are collected, beside the driver."""
        return self._folder / self.run_id

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Begin the run: returns when the first node measures, or after 30 s.

        Raises:
            UsageError: Ray is not initialised, the run was begun before, or this job has one already.
        """
        _initialised()
        if self._keeper is not None:
            raise UsageError("the ClusterTracker was started before")
        self._keeper = await run_sync(self._made)
        self._running = self._keeper.run.remote()
        _plans.forget()
        try:
            with anyio.fail_after(FIRST_S):
                await self._keeper.first_word.remote()
        except (ray_module().exceptions.RayError, TimeoutError) as error:
            log.warning("ray.no_meter", why=f"no node has told anything yet; the run goes on ({error})")

    def _made(self) -> Any:
        """The keeper, on this node."""
        ray = ray_module()
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        options = {
            "name": keeper_name(_job_id()),
            "namespace": NAMESPACE,
            "num_cpus": 0,
            "max_restarts": -1,
            "max_task_retries": -1,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(_node_id(), soft=False),
        }
        until = time.monotonic() + NAME_FREE_S
        while True:
            try:
                return ray.remote(Keeper).options(**options).remote(self._plan, str(self._folder), _job_id())
            except ValueError as error:  # the name is taken: by a run that has just ended, or one that goes on
                if time.monotonic() > until:
                    raise UsageError("this Ray job has a ClusterTracker already: end that one first") from error
                time.sleep(POLL_S)

    async def aclose(self) -> None:
        """End the run, with the last reading of every node that answers; safe to call twice."""
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        ray = ray_module()
        with anyio.move_on_after(ANSWER_S, shield=True):
            try:
                await keeper.stop.remote()
                self._nodes = await keeper.nodes.remote()
                await self._running
            except ray.exceptions.RayError as error:
                log.warning("ray.keeper_lost", why=str(error))
        with anyio.CancelScope(shield=True):
            try:
                ray.kill(keeper)
            except ray.exceptions.RayError as error:
                log.debug("ray.keeper_gone", why=str(error))
            try:
                self._report = await run_sync(self._merged)
            except JournalError as error:
                log.warning("ray.no_report", why=str(error))

    async def snapshot(self) -> RunReport:
        """The report of the cluster as of now, after a reading of every node that answers within 5 s.

        It waits for the nodes' journals, up to a second; spans of other processes are up to 2 s older.

        Raises:
            UsageError: The run has not begun.
            JournalError: No node has told anything yet.
        """
        if self._keeper is None:
            return self.report()
        ray = ray_module()
        try:
            with anyio.move_on_after(ANSWER_S):
                await self._keeper.flush.remote()
                await self._seen()
        except ray.exceptions.RayError as error:
            log.warning("ray.keeper_lost", why=str(error))
        self._report = await run_sync(self._merged)
        return self._report

    def report(self) -> RunReport:
        """The newest report of the cluster; final after the block.

        Raises:
            UsageError: There is none yet.
        """
        if self._report is None:
            raise UsageError(f"there is no report of the cluster yet; {self.folder} holds what its nodes have told")
        return self._report

    async def _seen(self) -> list[NodeSeen]:
        self._nodes = await self._keeper.nodes.remote()
        return self._nodes

    def _merged(self) -> RunReport:
        from aiocarbon.journal import load

        (run,) = load(self.folder).runs
        return with_nodes(run, self._nodes)


SETTINGS: Final = frozenset({"name", "meters", "interval_s", "location", "intensity", "pue", "offline", "attribution"})
"""What all nodes can have in common."""


def with_nodes(run: RunReport, seen: Iterable[NodeSeen]) -> RunReport:
    """A report with what is known of the cluster's nodes: those that came, went, or never told anything.

    Args:
        run: What the journals say.
        seen: The nodes.
    """
    notes, silent = [], []
    for node in sorted(seen, key=lambda node: node.joined_s):
        name = node.host or f"{node.address} ({node.node_id[:8]})"
        if not node.is_first:
            notes.append(f"node {name} joined at {_time(node.joined_s)}")
        if node.left_s is not None:
            kept = f"what it told until {_time(node.told_s)} is counted" if node.told_s else "it never told anything"
            notes.append(f"node {name} was gone at {_time(node.left_s)}: {kept}")
        elif node.problem and node.told_s is not None:
            notes.append(f"node {name} is silent ({node.problem}): what it told until {_time(node.told_s)} is counted")
        if node.told_s is None:
            silent.append(NodeReport(host=name, processes=0, it_energy_kwh=None, covered_s=0.0, expected_s=None))
            why = f" ({node.problem})" if node.problem else ""
            notes.append(f"nothing was measured on node {name}{why}: the figures lack it")
    status = "partial" if silent else run.status
    nodes = tuple(sorted((*run.nodes, *silent), key=lambda node: node.host))
    return dataclasses.replace(run, nodes=nodes, status=status, warnings=(*notes, *run.warnings))


def _time(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds")


def _initialised() -> None:
    if not ray_module().is_initialized():
        raise UsageError("Ray is not initialised: call ray.init() first")


def _job_id() -> str:
    return str(ray_module().get_runtime_context().get_job_id())


def _node_id() -> str:
    return str(ray_module().get_runtime_context().get_node_id())

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

import functools
import os
import tempfile
import time
from collections.abc import AsyncIterator
from concurrent.futures import Future
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import anyio
from anyio.to_thread import run_sync

from aiocarbon import sync
from aiocarbon._engine.bridge import answer
from aiocarbon._engine.launch import new_name
from aiocarbon._logging import get_logger
from aiocarbon._marks import Child, EpochVerbs
from aiocarbon.errors import ConfigError, EngineError, JournalError, UsageError
from aiocarbon.integrations._ray_actors import NAMESPACE, Plan, keeper_name, ray_module
from aiocarbon.integrations._ray_keeper import Keeper, merged
from aiocarbon.integrations._ray_nodes import NodeSeen, version_note
from aiocarbon.integrations._ray_process import (
    ANSWER_S,
    ended,
    initialised,
    job_id,
    node_id,
    plans,
    shared,
    sync_tracker,
    tracker,
)  # fmt: skip
from aiocarbon.integrations._ray_run import ClusterRun
from aiocarbon.settings import check, check_arguments
from aiocarbon.tracker import Exceeded

if TYPE_CHECKING:
    from aiocarbon._core.report import Prediction, RunReport
    from aiocarbon._engine.tape import Tape

if find_spec("ray") is None:
    raise ImportError("aiocarbon.integrations.ray needs Ray: pip install 'aiocarbon[ray]'", name="ray")

__all__ = ["ClusterTracker", "sync_tracker", "tracker"]

log = get_logger("ray")

FIRST_S: Final = 30.0
"""How long entering waits for the first node's first word: a worker process starts in 1 to 4 s where cores are busy."""

NAME_FREE_S: Final = 10.0
POLL_S: Final = 0.1
LOOKED_S: Final = 2.0


class ClusterTracker(EpochVerbs):
    """Tracks the energy and CO2eq of a Ray cluster, from entering to leaving; on the driver.

    Its verbs are those of `aiocarbon.Tracker`, and its figures are the whole cluster's: reports, epochs, predictions
    and the budget. Spans and children are the driver's own; actors and tasks have theirs by `tracker()`.

    What is not given each node takes from its own `AIOCARBON_<NAME>`. Nodes are told apart by their host names, or by
    `AIOCARBON_NODE`.

    Args:
        journal: Folder, beside the driver, in which the run's journals are collected; None: a temporary one, which
            stays.
        node_journal: Folder on each node for the journals that are written there; None: a temporary one, which stays.
        run_id: Id of the run; None: made.
        settings: Arguments of `aiocarbon.Tracker`: name, meters (names, not objects), interval_s, location, intensity,
            pue, offline, attribution; and of the whole cluster epochs, budget, predict_after, monitor_epochs and
            on_prediction.

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
        for field in settings.keys() - OF_NODES - OF_DRIVER:
            raise ConfigError(field, settings[field], f"an argument among {', '.join(sorted(OF_NODES | OF_DRIVER))}")
        check_arguments(settings)
        meters = settings.get("meters")
        names = [meters] if meters is None or isinstance(meters, str) else [*meters]
        if not all(name is None or isinstance(name, str) for name in names):
            raise ConfigError("meters", meters, "names of meters, which each node can open for itself")
        own = Path(tempfile.gettempdir()) / f"aiocarbon-ray-{os.getuid() if hasattr(os, 'getuid') else 0}"
        self._folder = own / "driver" if journal is None else Path(journal).absolute()
        self._plan = Plan(
            run_id=check("run_id", run_id) or new_name(),
            settings={field: value for field, value in settings.items() if field in OF_NODES},
            base=str(own if node_journal is None else Path(node_journal).absolute()),
        )
        self._run = self._handle = ClusterRun({field: settings[field] for field in settings.keys() & OF_DRIVER})
        self._keeper: Any = None
        self._looking: Any = None
        self._local: sync.Tracker | None = None
        self._nodes: list[NodeSeen] = []
        self._interval_s = float(settings.get("interval_s", 1.0))

    @property
    def run_id(self) -> str:
        """Id of the run."""
        return self._plan.run_id

    @property
    def folder(self) -> Path:
        """Where the run's journals are collected, beside the driver."""
        return self._folder / self.run_id

    # -- life --------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end(ended_well=error is None)

    async def start(self) -> None:
        """Begin the run: returns when the first node measures, or after 30 s.

        Raises:
            ConfigError: A value of the environment or of pyproject.toml is not accepted.
            UsageError: Ray is not initialised, or by Ray Client; the run was begun before, or this job has one.
        """
        ray = initialised()
        if ray.util.client.ray.is_connected():
            raise UsageError("a ClusterTracker needs a driver on a node of the cluster: submit it by `ray job submit`")
        if self._looking is not None:
            raise UsageError("the ClusterTracker was started before")
        self._keeper = await run_sync(self._made)
        self._looking = self._keeper.run.remote()
        plans.learn(job_id(), self._plan)
        try:
            self._local = await run_sync(shared, self._plan, node_id())
            self._local._tape.follow()
        except BaseException:
            await self._end(ended_well=False)
            raise
        if note := version_note(str(ray.__version__)):
            self._run.tell(note)
        self._run.begin(self._ask, self._local._handle)
        try:
            await answer(self._run.first_word(), FIRST_S)
        except (EngineError, TimeoutError) as error:
            self._run.tell(f"no node had told anything after {FIRST_S:g} s; the run goes on ({error})")
        self._run.listen()

    def _made(self) -> Any:
        """The keeper, on this node."""
        ray = ray_module()
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        options = {
            "name": keeper_name(job_id()),
            "namespace": NAMESPACE,
            "num_cpus": 0,
            "max_restarts": -1,
            "max_task_retries": -1,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id(), soft=False),
        }
        until = time.monotonic() + NAME_FREE_S
        while True:
            try:
                return ray.remote(Keeper).options(**options).remote(self._plan, str(self._folder), job_id())
            except ValueError as error:  # the name is taken: by a run that has just ended, or one that goes on
                if time.monotonic() > until:
                    raise UsageError("this Ray job has a ClusterTracker already: end that one first") from error
                time.sleep(POLL_S)

    def _ask(self, verb: str, *arguments: Any) -> Future[Any]:
        """Call a method of the keeper; from any thread, waits for nothing."""
        try:
            initialised()  # else Ray would begin anew
            told: Future[Any] = getattr(self._keeper, verb).remote(*arguments).future()
        except Exception as error:  # Ray was shut down before the run was ended: its calls raise all sorts
            told = Future()
            told.set_exception(error)
        return told

    async def aclose(self) -> None:
        """End the run, with the last reading of every node that answers; safe to call twice.

        Call it before `ray.shutdown()`: after that only what the nodes had sent is known.
        """
        await self._end(ended_well=True)

    async def _end(self, *, ended_well: bool) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        self._run.end(None)
        with anyio.CancelScope(shield=True):
            await run_sync(ended, self.run_id, ended_well)  # what it tells is sent with the rest
            with anyio.move_on_after(ANSWER_S):
                await self._stopped(keeper, ended_well)
            with anyio.move_on_after(ANSWER_S):
                await run_sync(_killed, keeper, abandon_on_cancel=True)
            try:
                self._run.end(await run_sync(functools.partial(merged, self.folder, self._nodes, is_live=False)))
            except JournalError as error:
                log.warning("ray.no_report", why=str(error))

    async def _stopped(self, keeper: Any, ended_well: bool) -> None:
        """Have the meters end and send their last word."""
        ray = ray_module()
        if not ray.is_initialized():
            self._run.tell("Ray was shut down before the run was ended: what the nodes had sent until then is counted")
            return
        try:
            await keeper.stop.remote(ended_well)
            self._nodes = await keeper.nodes.remote()
            with anyio.move_on_after(LOOKED_S):  # while Ray's head is away it waits to hear of nodes
                await self._looking
        except ray.exceptions.RayError as error:
            self._run.tell("the keeper of the cluster's run was gone at its end: what the nodes had sent is counted")
            log.debug("ray.keeper_lost", why=str(error))
        except Exception as error:  # Ray was shut down already: its calls raise all sorts
            self._run.tell(f"Ray did not answer at the run's end ({type(error).__name__}): what was sent is counted")

    # -- verbs -------------------------------------------------------------------------------------------------

    def _begun(self, verb: str) -> sync.Tracker:
        if self._local is None:
            raise UsageError(f"{verb} before the ClusterTracker was entered: use it inside `async with ClusterTracker`")
        return self._local

    @property
    def _tape(self) -> Tape:
        return self._begun("span()")._tape

    def child(self, name: str) -> Child:
        """A part of the driver's run with epochs and steps of its own, and the energy of its spans.

        Args:
            name: Its name; the same name gives the same child.

        Raises:
            UsageError: The tracker was not entered.
        """
        return Child(self._begun("child()")._handle.child(name))

    @property
    def prediction(self) -> Prediction | None:
        """What the whole run will use, on all nodes, as of some seconds ago; None as long as nothing tells."""
        return self._run.prediction

    @property
    def exceeded(self) -> Exceeded:
        """An event that is set once the cluster's budget is used up."""
        return Exceeded(self._run)

    async def snapshot(self) -> RunReport:
        """The report of the cluster as of now, after a reading of every node that answers within 5 s.

        It waits for the nodes' journals, up to a second; spans of other processes are those of their last tick: older
        by at most their `interval_s`, 1 s by default.

        Raises:
            UsageError: The run has not begun.
            JournalError: No node has told anything yet.
        """
        if not self._run.is_active:
            return self.report()
        try:
            report: RunReport | None = await answer(self._run.snapshot(), ANSWER_S)
        except (EngineError, TimeoutError) as error:
            self._run.fail(error)
            report = await run_sync(functools.partial(merged, self.folder, self._nodes, is_live=True))
        if report is None:
            raise JournalError("no node of the cluster has told anything yet")
        return report

    def report(self) -> RunReport:
        """The newest report of the cluster, at once; final after the block.

        Raises:
            UsageError: There is none yet.
        """
        report = self._run.published
        if report is None:
            raise UsageError(f"there is no report of the cluster yet; {self.folder} holds what its nodes have told")
        return report

    async def stream(self, interval_s: float | None = None) -> AsyncIterator[RunReport]:
        """Live reports of the cluster, one an interval, until the run ends; the last one is the final report.

        Args:
            interval_s: Seconds between two, at least 0.02, though a snapshot of a cluster takes longer; None: the
                nodes' own interval.

        Raises:
            ConfigError: The interval is not accepted.
        """
        every_s = self._interval_s if interval_s is None else check("interval_s", interval_s)
        due = time.monotonic()
        while self._run.is_active:
            yield await self.snapshot()
            due = max(due + every_s, time.monotonic())
            await anyio.sleep(due - time.monotonic())
        yield self.report()


OF_NODES: Final = frozenset({"name", "meters", "interval_s", "location", "intensity", "pue", "offline", "attribution"})
"""What all nodes can have in common."""

OF_DRIVER: Final = frozenset({"epochs", "budget", "predict_after", "monitor_epochs", "on_prediction"})
"""What is decided of the cluster as a whole."""


def _killed(keeper: Any) -> None:
    ray = ray_module()
    if not ray.is_initialized():
        return
    try:
        ray.kill(keeper)
    except Exception as error:  # it is gone, or Ray is
        log.debug("ray.keeper_gone", why=str(error))

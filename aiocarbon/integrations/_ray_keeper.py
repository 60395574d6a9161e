"""The actor beside the driver: it has a meter on each node, keeps what they send, and makes the cluster's report of it.

Its only state that counts are its files, so Ray may start it again at any time.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import time
from collections.abc import Awaitable, Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aiocarbon._logging import get_logger
from aiocarbon.errors import JournalError
from aiocarbon.integrations._ray_actors import (
    ANSWER_S,
    NAMESPACE,
    SEND_S,
    EpochState,
    Kept,
    NodeMeter,
    Plan,
    Turn,
    ray_module,
)
from aiocarbon.integrations._ray_files import Inbox, Piece
from aiocarbon.integrations._ray_nodes import NodeSeen, joined_epoch, with_nodes

if TYPE_CHECKING:
    from aiocarbon._core.report import EpochReport, RunReport

log = get_logger("ray")

LOOK_S: Final = 2.0
SEND_EACH_S: Final = 0.02
"""From 100 nodes on each sends less often: the keeper takes 3 ms for what a node with five processes sends."""

GOING_S: Final = 0.5
"""A node that was told to go sends so often."""

MARK_S: Final = 2.0
"""How long a node's word on the end of an epoch is waited for."""

FIRST_LOOKS: Final = 20

KILL_S: Final = 2.0

NEWS_S: Final = 5.0
"""The driver is told of the cluster so often, and less where making a report takes more than a hundredth of that."""

NEWS_SHARE: Final = 100.0

STATE: Final = "keeper.json"

NO_ANSWER: Final = "no answer"


class Keeper:
    """Has a meter on each node, and keeps what they send.

    Args:
        plan: What the run's trackers have in common.
        folder: The journal's folder beside the driver.
        job_id: The driver's job.
    """

    def __init__(self, plan: Plan, folder: str, job_id: str) -> None:
        self._plan = plan
        self._job_id = job_id
        self._folder = Path(folder) / plan.run_id
        self._inbox = Inbox(self._folder)
        self._epochs = _state(self._folder / STATE)
        self._marking = asyncio.Lock()
        self._merging = asyncio.Lock()
        self._merge_s = 0.0
        self._nodes: dict[str, NodeSeen] = {}
        self._served: set[str] = set()
        self._over = asyncio.Event()
        self._first_look = True
        self._first_word = asyncio.Event()

    async def plan(self) -> Plan:
        """What the run's trackers have in common."""
        return self._plan

    async def first_word(self) -> RunReport | None:
        """The cluster's report as soon as a node has told anything."""
        await self._first_word.wait()
        for _ in range(FIRST_LOOKS):
            if (report := await self.report()) is not None:
                return report
            await asyncio.sleep(GOING_S)  # a first line says nothing of energy yet
        return None

    async def take(self, run_id: str, node_id: str, host: str, pieces: list[Piece]) -> Kept | None:
        """Keep pieces of a node's journals.

        Returns:
            What is kept; None if they are of another run.
        """
        if run_id != self._plan.run_id:
            return None
        node = self._nodes.get(node_id)
        is_going = node is not None and node.goes_s is not None
        pause_s = GOING_S if is_going else max(SEND_S, SEND_EACH_S * len(self._nodes))
        try:
            sizes = self._inbox.take(node_id, pieces)
        except OSError as error:
            if node is not None:
                node.problem = f"its journals cannot be kept: {error}"
            return Kept({}, pause_s)
        if node is not None:
            node.host, node.told_s, node.problem = host, time.time(), ""
            if any(sizes.values()):
                self._first_word.set()
        return Kept(sizes, pause_s)

    async def nodes(self) -> list[NodeSeen]:
        """All nodes that were seen."""
        return [node.plain() for node in self._nodes.values()]

    # -- reports and epochs ------------------------------------------------------------------------------------

    async def report(self) -> RunReport | None:
        """The cluster's report by what was sent so far; None if nothing was."""
        async with self._merging:
            began_s = time.monotonic()
            try:
                return await asyncio.to_thread(merged, self._folder, await self.nodes(), is_live=True)
            except JournalError as error:
                log.debug("ray.nothing_yet", why=str(error))
                return None
            finally:
                self._merge_s = time.monotonic() - began_s

    async def news(self) -> RunReport | None:
        """The cluster's report after a while; None at the run's end."""
        try:
            await asyncio.wait_for(self._over.wait(), max(NEWS_S, NEWS_SHARE * self._merge_s))
        except TimeoutError:
            return await self.report()
        return None

    async def snapshot(self) -> RunReport | None:
        """The cluster's report after a reading of all meters; those that do not answer in time are left out."""
        await self._ask("flush", limit_s=ANSWER_S)
        return await self.report()

    async def mark(self, turn: Turn) -> EpochReport | None:
        """Have all nodes mark what the driver says of its epochs.

        Returns:
            The epoch that ended, as the nodes that answered tell it; None where none did.
        """
        async with self._marking:
            self._epochs = self._epochs.after(turn)
            try:
                (self._folder / STATE).write_text(json.dumps(dataclasses.asdict(self._epochs)))
            except OSError as error:
                log.debug("ray.no_state", why=str(error))
            asked = self._ask("mark", turn, limit_s=MARK_S)  # sent in this order, whoever is waited for
        return joined_epoch(await asked)

    # -- meters ------------------------------------------------------------------------------------------------

    async def meters(self) -> dict[str, Any]:
        """The meters of the nodes that are there, by Ray's id of the node."""
        return {node.node_id: node.handle for node in self._nodes.values() if node.handle and node.left_s is None}

    async def run(self) -> None:
        """See to it, until `stop`, that each node that is there has a meter."""
        ray = ray_module()
        async with asyncio.TaskGroup() as group:
            serving: set[asyncio.Task[None]] = set()
            while not self._over.is_set():
                try:
                    self._look(await asyncio.to_thread(ray.nodes))
                except (ray.exceptions.RayError, ConnectionError, RuntimeError) as error:  # a head that is away
                    log.debug("ray.no_nodes", why=str(error))
                await self._look_for_drains()
                for node in self._nodes.values():
                    if node.left_s is None and node.node_id not in self._served:
                        self._served.add(node.node_id)
                        task = group.create_task(self._serve(node))
                        serving.add(task)
                        task.add_done_callback(serving.discard)
                try:
                    await asyncio.wait_for(self._over.wait(), LOOK_S)
                except TimeoutError:
                    continue
            for task in [*serving]:  # a meter on a node that has just died would be waited for
                task.cancel()

    def _look(self, told: list[dict[str, Any]]) -> None:
        """See which nodes are there."""
        now = time.time()
        alive = {row["NodeID"]: row for row in told if row["Alive"]}
        for node_id, row in alive.items():
            if node_id not in self._nodes:
                address = row.get("NodeManagerAddress", "")
                seen = NodeSeen(node_id=node_id, address=address, joined_s=now, is_first=self._first_look)
                seen.told_s = self._inbox.told_s(node_id)  # to another keeper, which died, of the same run
                self._nodes[node_id] = seen
        for node_id, node in self._nodes.items():
            if node_id not in alive and node.left_s is None:
                node.left_s = now
        self._first_look = False

    async def _look_for_drains(self) -> None:
        """See which nodes were told to go, and have what they know sent at once."""
        for node_id, deadline_ms in (await asyncio.to_thread(_draining)).items():
            node = self._nodes.get(node_id)
            if node is not None and node.goes_s is None:
                node.goes_s = max(deadline_ms, 0) / 1e3
                log.warning("ray.node_goes", node=node.name)
                if node.handle is not None:
                    node.handle.flush.remote()

    async def _serve(self, node: NodeSeen) -> None:
        """Have one meter on a node, for as long as it lives."""
        ray = ray_module()
        strategies = import_module("ray.util.scheduling_strategies")
        options = {
            "name": f"meter-{self._plan.run_id}-{node.node_id}",
            "namespace": NAMESPACE,
            "lifetime": "detached",
            "get_if_exists": True,
            "num_cpus": 0,
            "scheduling_strategy": strategies.NodeAffinitySchedulingStrategy(node.node_id, soft=False),
        }
        make = ray.remote(NodeMeter).options(**options).remote
        try:
            node.handle = await asyncio.to_thread(make, self._plan, node.node_id, self._job_id, self._epochs)
            await node.handle.run.remote()
        except (ray.exceptions.RayError, ValueError) as error:
            node.problem = str(error).strip().splitlines()[0]
            await asyncio.sleep(LOOK_S / 4)
        finally:
            node.handle = None
            self._served.discard(node.node_id)

    async def stop(self, ended_well: bool) -> None:
        """End all meters, and look after no node any more.

        Args:
            ended_well: Whether the run did.
        """
        handles = [node.handle for node in self._nodes.values() if node.handle is not None]
        await self._ask("stop", ended_well, limit_s=ANSWER_S)
        self._over.set()
        # They would end by themselves a little later; where Ray's head is away this one way takes long.
        killing = asyncio.to_thread(_kill, handles)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(killing, KILL_S)

    def _ask(self, verb: str, *arguments: Any, limit_s: float) -> Awaitable[list[tuple[str, Any]]]:
        """Call a method of all meters; what is returned waits for those that are known to answer.

        Its result are their nodes' names and what they said, None where that did not come in time.
        """
        asked = [
            (node, getattr(node.handle, verb).remote(*arguments))
            for node in self._nodes.values()
            if node.handle is not None and node.left_s is None
        ]
        return self._answers([(node, told) for node, told in asked if node.problem != NO_ANSWER], limit_s)

    async def _answers(self, asked: Iterable[tuple[NodeSeen, Awaitable[Any]]], limit_s: float) -> list[tuple[str, Any]]:
        async with asyncio.TaskGroup() as group:
            tasks = [(node.name, group.create_task(self._answer(node, told, limit_s))) for node, told in asked]
        return [(name, task.result()) for name, task in tasks]

    async def _answer(self, node: NodeSeen, told: Awaitable[Any], limit_s: float) -> Any:
        try:
            return await asyncio.wait_for(told, limit_s)
        except (ray_module().exceptions.RayError, TimeoutError) as error:
            node.problem = NO_ANSWER
            log.debug("ray.no_answer", why=str(error), node=node.host)
            return None


def merged(folder: Path, seen: Iterable[NodeSeen], *, is_live: bool) -> RunReport:
    """The report of the journals in a run's folder.

    Raises:
        JournalError: There is none.
    """
    from aiocarbon.journal import load

    (run,) = load(folder).runs
    return with_nodes(run, seen, is_live=is_live)


def _kill(handles: Iterable[Any]) -> None:
    ray = ray_module()
    for handle in handles:
        try:
            ray.kill(handle)
        except ray.exceptions.RayError as error:
            log.debug("ray.meter_gone", why=str(error))


def _state(path: Path) -> EpochState:
    """How far the epochs were when another keeper of the run died."""
    try:
        return EpochState(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return EpochState()


def _draining() -> dict[str, int]:
    """Nodes that were told to go, with the time by which they will, Unix milliseconds; 0 if no time was told.

    Ray has no public name for it outside of Ray Train (2.60); where this one is gone nothing is told of drains.
    """
    try:
        return dict(import_module("ray._private.state").state.get_draining_nodes())
    except Exception as error:  # a private name may raise anything by the next release
        log.debug("ray.no_drains", why=str(error))
        return {}

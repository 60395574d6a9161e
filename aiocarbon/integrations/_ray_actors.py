"""The actors of a cluster's run: one that measures on each node, and one that keeps what they tell.

A node's meter is an ordinary tracker, and so are those of user actors and tasks: each writes its journal into one
folder of its node. The node's meter sends what is new in that folder to the keeper, which writes it into files beside
the driver. So whatever dies, dies without a last word, and takes with it only what its node did not send (2 s).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

from aiocarbon._logging import get_logger
from aiocarbon.errors import AiocarbonError
from aiocarbon.integrations._ray_files import Inbox, Outbox, Piece
from aiocarbon.tracker import Tracker

log = get_logger("ray")

NAMESPACE: Final = "aiocarbon"
LOOK_S: Final = 2.0
SEND_S: Final = 2.0
SEND_EACH_S: Final = 0.02
"""From 100 nodes on each sends less often: the keeper takes 3 ms for what a node with five processes sends."""

ANSWER_S: Final = 5.0
"""How long an actor is waited for; one on a node that has just died does not answer."""

WRITTEN_S: Final = 1.0
"""How long a reading may take into the journal before it is left to the next."""

WRITTEN_LOOKS: Final = 50

ALL: Final = "*.jsonl"

TTL_S: Final = 60.0
"""A meter that nobody has taken anything from for so long ends: Ray, too, waits 60 s for a head that is gone."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What all of a run's trackers have in common.

    Attributes:
        run_id: Id of the run.
        settings: Arguments of their `Tracker`, as the user gave them.
        base: Folder on each node for the journals that are written there.
        ttl_s: How long a meter goes on that nobody listens to, seconds.
    """

    run_id: str
    settings: Mapping[str, Any]
    base: str
    ttl_s: float = TTL_S

    def folder(self, node_id: str) -> Path:
        """Where a node's processes write their journals; nodes may share a file system."""
        return Path(self.base) / node_id[:16]

    def arguments(self, node_id: str) -> dict[str, Any]:
        """Arguments of a tracker on a node."""
        return {**self.settings, "run_id": self.run_id, "journal": self.folder(node_id)}


class Kept(NamedTuple):
    """The keeper's answer.

    Attributes:
        sizes: How many bytes of each file it has; empty if it could keep nothing.
        pause_s: When it wants to hear more, seconds.
    """

    sizes: dict[str, int]
    pause_s: float


@dataclass(kw_only=True)
class NodeSeen:
    """What the keeper knows of a node.

    Attributes:
        node_id: Ray's id of it.
        address: Its address by Ray.
        joined_s: When it was first seen, Unix time.
        host: Its name in reports; empty until it told something.
        told_s: When it told last; None if it never did.
        left_s: When it was seen to be gone; None while it is there.
        is_first: True if it was there when the run began.
        problem: Why it has no meter that answers, as the last try went; empty if it told something since.
    """

    node_id: str
    address: str
    joined_s: float
    is_first: bool
    host: str = ""
    told_s: float | None = None
    left_s: float | None = None
    problem: str = ""
    handle: Any = field(default=None, repr=False)


def ray_module() -> Any:  # Any: Ray's own annotations change from release to release
    """Ray itself, loaded here and not sooner: it takes half a second."""
    return import_module("ray")


def keeper_name(job_id: str) -> str:
    """The name by which a job's actors and tasks find its keeper."""
    return f"keeper-{job_id}"


class NodeMeter:
    """Measures a node, and sends the journals of all that measure on it.

    Args:
        plan: What the run's trackers have in common.
        node_id: Ray's id of this node.
        job_id: The job whose keeper is told.
    """

    def __init__(self, plan: Plan, node_id: str, job_id: str) -> None:
        self._plan = plan
        self._node_id = node_id
        self._job_id = job_id
        self._tracker = Tracker(**plan.arguments(node_id))
        self._outbox = Outbox(plan.folder(node_id) / plan.run_id)
        self._own = f"*-{os.getpid()}-*.jsonl"
        self._order = asyncio.Lock()
        self._stop = asyncio.Event()
        self._ended = asyncio.Event()
        self._is_running = False
        self._heard_s = time.monotonic()
        self._pause_s = SEND_S

    async def run(self) -> None:
        """Measure until `stop`, or until nobody listens any more; a second call waits for the first one's end."""
        if self._is_running:
            await self._ended.wait()
            return
        self._is_running = True
        try:
            await self._tracker.start()
            while not self._stop.is_set() and time.monotonic() - self._heard_s < self._plan.ttl_s + self._pause_s:
                await self._send()
                try:
                    await asyncio.wait_for(self._stop.wait(), self._pause_s)
                except TimeoutError:
                    continue
        finally:
            # Others go on: what they tell of later than the meters' last reading would be time without energy.
            await self._send()
            await self._tracker.aclose()
            await self._send(self._own)
            self._ended.set()
        if not self._stop.is_set():
            ray_module().actor.exit_actor()

    async def flush(self) -> None:
        """Read all meters and send what is known."""
        await self._send()
        if self._is_running and not self._ended.is_set():
            asked_ns = time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
            await self._tracker.snapshot()
            for _ in range(WRITTEN_LOOKS):  # the engine writes it by itself, and tells nobody
                if await asyncio.to_thread(self._outbox.seen_ns, self._own) >= asked_ns:
                    break
                await asyncio.sleep(WRITTEN_S / WRITTEN_LOOKS)
            await self._send(self._own)

    async def stop(self) -> None:
        """End the measuring; returns when all is sent."""
        self._stop.set()
        if self._is_running:
            await self._ended.wait()
        else:  # others on its node may have measured
            await self._send()

    async def _send(self, of: str = ALL) -> None:
        ray = ray_module()
        async with self._order:
            try:
                while True:
                    pieces = await asyncio.to_thread(self._outbox.pieces, of)
                    keeper = await asyncio.to_thread(ray.get_actor, keeper_name(self._job_id), NAMESPACE)
                    host = self._tracker.report().host
                    # Also where there is nothing new: it says that the meter is there.
                    told = keeper.take.remote(self._plan.run_id, self._node_id, host, pieces)
                    kept = await asyncio.wait_for(told, ANSWER_S)
                    if kept is None:  # the keeper is one of another run by now
                        return
                    self._heard_s, self._pause_s = time.monotonic(), kept.pause_s
                    self._outbox.arrived(pieces, kept.sizes)
                    if not kept.sizes or not any(piece.data for piece in pieces):
                        return
            except (ray.exceptions.RayError, AiocarbonError, TimeoutError, ValueError) as error:
                # The files have it: they are sent when the keeper is back.
                log.debug("ray.not_sent", why=str(error), node=self._node_id)


class Keeper:
    """Has a meter on each node, and keeps what they send. Its only state that counts are its files.

    Args:
        plan: What the run's trackers have in common.
        folder: The journal's folder beside the driver.
        job_id: The driver's job.
    """

    def __init__(self, plan: Plan, folder: str, job_id: str) -> None:
        self._plan = plan
        self._job_id = job_id
        self._inbox = Inbox(Path(folder) / plan.run_id)
        self._nodes: dict[str, NodeSeen] = {}
        self._served: set[str] = set()
        self._over = asyncio.Event()
        self._first_look = True
        self._first_word = asyncio.Event()

    async def plan(self) -> Plan:
        """What the run's trackers have in common."""
        return self._plan

    async def first_word(self) -> None:
        """Wait until a node has told anything."""
        await self._first_word.wait()

    async def take(self, run_id: str, node_id: str, host: str, pieces: list[Piece]) -> Kept | None:
        """Keep pieces of a node's journals.

        Returns:
            What is kept; None if they are of another run.
        """
        if run_id != self._plan.run_id:
            return None
        node = self._nodes.get(node_id)
        pause_s = max(SEND_S, SEND_EACH_S * len(self._nodes))
        try:
            sizes = self._inbox.take(node_id, pieces)
        except OSError as error:
            if node is not None:
                node.problem = f"its journals cannot be kept: {error}"
            return Kept({}, pause_s)
        if node is not None:
            node.host, node.told_s, node.problem = host, time.time(), ""
            self._first_word.set()
        return Kept(sizes, pause_s)

    async def nodes(self) -> list[NodeSeen]:
        """All nodes that were seen."""
        return [
            NodeSeen(**{name: getattr(node, name) for name in NodeSeen.__dataclass_fields__ if name != "handle"})
            for node in self._nodes.values()
        ]

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
            node.handle = await asyncio.to_thread(make, self._plan, node.node_id, self._job_id)
            await node.handle.run.remote()
        except (ray.exceptions.RayError, ValueError) as error:
            node.problem = str(error).strip().splitlines()[0]
            await asyncio.sleep(LOOK_S / 4)
        finally:
            node.handle = None
            self._served.discard(node.node_id)

    async def flush(self) -> None:
        """Have all meters read and send; those that do not answer in time are left out."""
        await self._ask("flush")

    async def stop(self) -> None:
        """End all meters, and look after no node any more."""
        handles = [node.handle for node in self._nodes.values() if node.handle is not None]
        await self._ask("stop")
        self._over.set()
        for handle in handles:
            ray_module().kill(handle)

    async def _ask(self, verb: str) -> None:
        async with asyncio.TaskGroup() as group:
            for node in self._nodes.values():
                if node.handle is not None and node.left_s is None:
                    group.create_task(self._answer(node, getattr(node.handle, verb).remote()))

    async def _answer(self, node: NodeSeen, told: Awaitable[None]) -> None:
        try:
            await asyncio.wait_for(told, ANSWER_S)
        except (ray_module().exceptions.RayError, TimeoutError) as error:
            node.problem = "no answer"
            log.debug("ray.no_answer", why=str(error), node=node.host)

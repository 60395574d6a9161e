"""The actor that measures on a node of a cluster's run, and what all of a run's processes have in common.

A node's meter is an ordinary tracker, and so are those of user actors and tasks: each writes its journal into one
folder of its node. The node's meter sends what is new in that folder to the keeper (`_ray_keeper.py`), which writes it
into files beside the driver. So whatever dies, dies without a last word, and takes with it only what its node did not
send (2 s).

Epochs are the driver's to mark; each node's meter marks them where the word reaches it, milliseconds later, so that
they stand in the journals: an epoch of the cluster is the sum of its nodes' own intervals.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aiocarbon._logging import get_logger
from aiocarbon._marks import wait_for
from aiocarbon.errors import AiocarbonError
from aiocarbon.integrations._ray_accounts import Told
from aiocarbon.integrations._ray_files import Outbox
from aiocarbon.integrations._ray_telling import Gauges, told_by
from aiocarbon.tracker import Tracker

if TYPE_CHECKING:
    from aiocarbon._core.report import EpochReport

log = get_logger("ray")

NAMESPACE: Final = "aiocarbon"
SEND_S: Final = 2.0
ANSWER_S: Final = 5.0
"""How long an actor is waited for; one on a node that has just died does not answer."""

ALL: Final = "*.jsonl"

TTL_S: Final = 60.0
"""A meter that nobody has taken anything from for so long ends: Ray, too, waits 60 s for a head that is gone."""


LEFT_S: Final = 5.0
"""After its end a meter waits so long for its keeper's last questions."""


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


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What the driver says of its epochs.

    Attributes:
        verb: "border" ends one and begins the next, "open" begins one or moves its begin, "close" ends one.
        index: Of the epoch that it ends or begins.
        steps: Done in the epoch that it ends.
        is_partial: Whether that was broken off.
        is_entered: Whether epochs are entered.
    """

    verb: str
    index: int
    steps: int = 0
    is_partial: bool = False
    is_entered: bool = False


@dataclass(frozen=True, kw_only=True)
class EpochState:
    """How far the driver's epochs are, for meters that come later.

    Attributes:
        index: Of the epoch that is open, or comes next.
        is_entered: Whether epochs are entered.
        is_open: Whether one was entered and not left.
    """

    index: int = 0
    is_entered: bool = False
    is_open: bool = False

    def after(self, turn: Turn) -> EpochState:
        """How far they are after a word of the driver's."""
        if turn.verb == "open":
            return replace(self, index=turn.index, is_entered=turn.is_entered, is_open=turn.is_entered)
        return replace(self, index=turn.index + 1, is_open=False)


class Kept(NamedTuple):
    """The keeper's answer.

    Attributes:
        sizes: How many bytes of each file it has; empty if it could keep nothing.
        pause_s: When it wants to hear more, seconds.
    """

    sizes: dict[str, int]
    pause_s: float


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
        epochs: How far the driver's epochs are.
    """

    def __init__(self, plan: Plan, node_id: str, job_id: str, epochs: EpochState | None = None) -> None:
        self._plan = plan
        self._epochs = epochs or EpochState()
        self._node_id = node_id
        self._job_id = job_id
        # A meter that comes later begins with the epoch that the others are in.
        self._tracker = Tracker(**plan.arguments(node_id), resume=self._epochs.index or None)
        self._marking = asyncio.Lock()
        self._began = asyncio.Event()
        self._outbox = Outbox(plan.folder(node_id) / plan.run_id)
        self._own = f"*-{os.getpid()}-*.jsonl"
        self._gauges = Gauges()
        self._order = asyncio.Lock()
        self._stop = asyncio.Event()
        self._ended = asyncio.Event()
        self._is_running = False
        self._ended_well = True
        self._keeper: Any = None
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
            if self._epochs.is_open:
                await wait_for(self._tracker._handle, self._tracker._handle.begin_epoch(time.monotonic_ns()))
            self._began.set()
            await self._send_written()
            while not self._stop.is_set() and time.monotonic() - self._heard_s < self._plan.ttl_s + self._pause_s:
                await self._send()
                self._gauges.tell(self._tracker.report())
                try:
                    await asyncio.wait_for(self._stop.wait(), self._pause_s)
                except TimeoutError:
                    continue
        finally:
            # Others go on: what they tell of later than the meters' last reading would be time without energy.
            await self._send()
            await self._tracker._end(ended_well=self._ended_well)
            await self._send(self._own)
            self._began.set()
            self._ended.set()
        if self._stop.is_set():  # the keeper ends it, unless it cannot
            await asyncio.sleep(LEFT_S)
        self._leave()

    def _leave(self) -> None:
        """End this actor."""
        ray_module().actor.exit_actor()

    async def told(self) -> Told | None:
        """What this node used since this meter began, after a reading; None before it began."""
        return await told_by(self._tracker, self._node_id)

    async def flush(self) -> None:
        """Read all meters and send what is known."""
        await self._send()
        if self._is_running and not self._ended.is_set():
            await self._tracker.snapshot()
            await self._send_written()

    async def mark(self, turn: Turn) -> EpochReport | None:
        """Mark what the driver says of its epochs.

        Returns:
            This node's part of the epoch that ended; None where none did. The journal has it within a second.
        """
        now = time.monotonic_ns()
        await self._began.wait()
        async with self._marking:
            if self._ended.is_set() or turn.index < self._epochs.index:  # the keeper tried again what was done
                return None
            handle = self._tracker._handle
            while turn.index > self._epochs.index:  # a word was lost: what it would have marked is empty
                await wait_for(handle, handle.mark(now))
                self._epochs = replace(self._epochs, index=self._epochs.index + 1)
            if turn.steps:
                self._tracker.step(turn.steps)
            if turn.verb == "open":
                told = handle.begin_epoch(now, opens=turn.is_entered)
            elif turn.verb == "close":
                if not self._epochs.is_open:  # the word of its begin was lost: nothing of it is known here
                    await wait_for(handle, handle.begin_epoch(now))
                told = handle.end_epoch(now, is_partial=turn.is_partial)
            else:
                told = handle.mark(now)
            ended: EpochReport | None = await wait_for(handle, told)
            self._epochs = self._epochs.after(turn)
        return ended

    async def _send_written(self) -> None:
        """Send the own journal with all that is known by now."""
        from aiocarbon._engine.recorder import write_now

        handle = self._tracker._handle
        session = handle.begun("run()")
        await wait_for(handle, handle.call(lambda engine: write_now(engine, session)))
        await self._send(self._own)

    async def stop(self, ended_well: bool = True) -> None:
        """End the measuring; returns when all is sent.

        Args:
            ended_well: Whether the run did.
        """
        self._ended_well = ended_well
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
                    if self._keeper is None:  # looked up seldom: while Ray's head is away nobody finds it
                        self._keeper = await asyncio.to_thread(ray.get_actor, keeper_name(self._job_id), NAMESPACE)
                    host = self._tracker.report().host
                    # Also where there is nothing new: it says that the meter is there.
                    told = self._keeper.take.remote(self._plan.run_id, self._node_id, host, pieces)
                    kept = await asyncio.wait_for(told, ANSWER_S)
                    if kept is None:  # the keeper is one of another run by now
                        return
                    self._heard_s, self._pause_s = time.monotonic(), kept.pause_s
                    self._outbox.arrived(pieces, kept.sizes)
                    if not kept.sizes or not any(piece.data for piece in pieces):
                        return
            except (ray.exceptions.RayError, AiocarbonError, TimeoutError, ValueError) as error:
                # The files have it: they are sent when the keeper is back.
                self._keeper = None
                log.debug("ray.not_sent", why=str(error), node=self._node_id)

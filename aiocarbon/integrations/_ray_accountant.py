"""The actor that keeps the accounts of a Ray job's trainings: how much each has used, and what it will have used.

It asks the meters of the job's `ClusterTracker` once a second, and at each result of a training for a reading; where
the job has no `ClusterTracker` it enters one of its own. Hooks in trainings only send it words (`_ray_link.py`): the
work is done here, in a process of its own beside whoever made it, and nothing waits for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import anyio

from aiocarbon._core.ahead import Horizon
from aiocarbon._core.foretell import foretell
from aiocarbon._core.predict import Predictor
from aiocarbon._core.units import j_from_kwh
from aiocarbon._logging import get_logger
from aiocarbon.errors import AiocarbonError
from aiocarbon.integrations._ray_accounts import Account, Accounts, Told
from aiocarbon.integrations._ray_actors import NAMESPACE, keeper_name, ray_module
from aiocarbon.integrations.ray import ClusterTracker

if TYPE_CHECKING:
    from aiocarbon._core.report import Prediction, Quantities, RunReport

log = get_logger("ray")

ASK_EVERY_S: Final = 1.0
READING_S: Final = 0.3
"""How long a reading at a result is waited for here; nobody waits for this."""

WHERE_S: Final = 10.0
HOLD_S: Final = 1.0
FRESH_S: Final = 0.05
"""A word so young serves another result too."""

MOST: Final = 10_000
"""Results of one training that predictions are told of by their number; a later one of a number counts for nothing."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a training is told.

    Attributes:
        used: What it has used; None while nothing was told.
        prediction: What it will have used; None where that cannot be said.
        as_of_s: Up to when the figures go, Unix time; None while nothing was told.
        account: The account, for whoever has to go on with it.
        is_own: Whether the accountant had to enter the `ClusterTracker` itself.
    """

    used: Quantities | None
    prediction: Prediction | None
    as_of_s: float | None
    account: Account
    is_own: bool = False


@dataclass(kw_only=True)
class _Training:
    predictor: Predictor
    results: int = 0
    told_s: float = 0.0
    told_kwh: float = 0.0
    prediction: Prediction | None = None
    placed: asyncio.Event = field(default_factory=asyncio.Event)


class Accountant:
    """Keeps the accounts of one job.

    Args:
        job_id: The job.
        settings: Arguments of a `ClusterTracker` for where there is none.
    """

    def __init__(self, job_id: str, settings: Mapping[str, Any]) -> None:
        self._job_id = job_id
        self._settings = dict(settings)
        self._accounts = Accounts()
        self._trainings: dict[str, _Training] = {}
        self._meters: dict[str, Any] = {}
        self._own: ClusterTracker | None = None
        self._names: dict[str, str] = {}
        self._holds: list[float] = []
        self._report: RunReport | None = None
        self._over = asyncio.Event()
        self._ended = asyncio.Event()
        self._asking: dict[str, asyncio.Lock] = {}
        self._ready = asyncio.Event()
        self._is_running = False

    async def run(self) -> str:
        """Ask the meters until `end`, or return where that is done already. Returns why there is nobody to ask."""
        while self._is_running:
            if not self._over.is_set():
                return ""
            await self._ended.wait()
        self._is_running = True
        self._meters, self._over, self._ended = {}, asyncio.Event(), asyncio.Event()
        try:
            await self._find()
            if not self._meters:
                self._own = ClusterTracker(**self._settings)
                await self._own.start()
            while not self._over.is_set():
                await self._ask(is_fresh=False)
                if self._accounts.newest:
                    self._ready.set()
                with anyio.move_on_after(ASK_EVERY_S):
                    await self._over.wait()
        except AiocarbonError as error:
            log.warning("ray.no_accounts", why=str(error))
            self._over.set()
            return str(error)
        finally:
            await self._leave()
            self._is_running = False
            self._ended.set()
        return ""

    async def _leave(self) -> None:
        """End the `ClusterTracker`, if it is the accountant's own."""
        own, self._own, self._report = self._own, None, None
        if own is not None:
            await own.aclose()
            try:
                self._report = own.report()
            except AiocarbonError as error:
                log.warning("ray.no_report", why=str(error))

    async def ready(self) -> None:
        """Wait until a node has told anything."""
        await self._ready.wait()

    # -- a training's words ------------------------------------------------------------------------------------

    async def open(
        self,
        key: str,
        at_s: float,
        where: list[Any] | None = None,
        epochs: int | None = None,
        before: Account | None = None,
        alias: str = "",
    ) -> None:
        """Begin, or go on with, an account.

        Args:
            key: Its name; one that is open already stays as it is, but may get more nodes.
            at_s: From when, Unix time.
            where: Ray's ids of its nodes, or references to lists of them; None: all nodes.
            epochs: How many results it will have; None: not known.
            before: What it had used by the last word of an accountant that is gone.
            alias: By which name another callback of the same training knows it.
        """
        if alias:
            self._names[alias] = key
            self._accounts.rename(alias, key)
            if alias in self._trainings:
                self._trainings.setdefault(key, self._trainings.pop(alias))
        key = self._names.get(key, key)
        known = self._trainings.get(key)
        account = self._accounts.account(key)
        if known is not None and account is not None and account.is_open:
            if known.predictor.epochs is None:
                known.predictor.epochs = epochs
            more = await self._places(where)  # another of its callbacks may know of more nodes
            account.nodes = None if account.nodes is None or more is None else account.nodes | more
            return
        if known is None:
            known = self._trainings[key] = _Training(predictor=Predictor(epochs))
        self._accounts.open(key, at_s, nodes=(), before=before)
        async with self._held():
            nodes = await self._places(where)
        account = self._accounts.account(key)
        if account is not None:
            account.nodes = nodes
        known.placed.set()

    @asynccontextmanager
    async def _held(self) -> AsyncIterator[None]:
        """Take no word of a meter, for a second at most, until it is known where a training is that has begun."""
        until_s = time.monotonic() + HOLD_S
        self._holds.append(until_s)
        try:
            yield
        finally:
            self._holds.remove(until_s)

    async def _places(self, where: list[Any] | None) -> frozenset[str] | None:
        if where is None:
            return None
        found: set[str] = set()
        for place in where:
            try:
                found.update([place] if isinstance(place, str) else await asyncio.wait_for(place, WHERE_S))
            except (ray_module().exceptions.RayError, TimeoutError) as error:
                log.debug("ray.no_place", why=str(error))
        return frozenset(found)

    async def mark(self, key: str, number: int) -> Figures | None:
        """Take a result: what the training used by now, after a reading of its nodes.

        Args:
            key: The training.
            number: Which result it is; one that was told already tells predictions nothing.

        Returns:
            Its figures; None if it was never begun.
        """
        key = self._names.get(key, key)
        training, account = self._trainings.get(key), self._accounts.account(key)
        if training is None or account is None:
            return None
        with anyio.move_on_after(WHERE_S):
            await training.placed.wait()
        await self._ask(is_fresh=True, nodes=account.nodes)
        used = account.quantities()
        if used is None:
            self._miss(training, number)
        elif number > training.results:
            self._foresee(training, account, used, number)
        return self._figures(key)

    async def close(self, key: str, at_s: float) -> Figures | None:
        """End an account; its figures are final, after a reading of its nodes. None if it was never begun."""
        key = self._names.get(key, key)
        account = self._accounts.close(key, at_s)
        if account is None:
            return None
        await self._ask(is_fresh=True, nodes=account.nodes)
        return self._figures(key)

    async def end(self) -> RunReport | None:
        """End the asking, and the `ClusterTracker` if it is the accountant's own.

        Returns:
            That one's report; None where it goes on, has another owner, or where another training is still on.
        """
        if not self._accounts.is_idle:
            return None
        self._over.set()
        if self._is_running:
            await self._ended.wait()
        return self._report

    def _figures(self, key: str) -> Figures | None:
        account, training = self._accounts.account(key), self._trainings.get(key)
        if account is None or training is None:
            return None
        return Figures(
            used=account.quantities(),
            prediction=training.prediction,
            as_of_s=account.as_of_s,
            account=account,
            is_own=self._own is not None,
        )

    def _miss(self, training: _Training, number: int) -> None:
        """Results before anything was told are no part of what is predicted."""
        more, training.results = max(number - training.results, 0), max(number, training.results)
        if training.predictor.epochs is not None:
            training.predictor.epochs = max(training.predictor.epochs - more, 0)

    def _foresee(self, training: _Training, account: Account, used: Quantities, number: int) -> None:
        """Take what came since the last result as one epoch, and say what the whole will be."""
        length_s, energy_kwh = used.duration_s - training.told_s, used.it_energy_kwh - training.told_kwh
        came = number - training.results if number <= MOST else 1
        training.results, training.told_s, training.told_kwh = number, used.duration_s, used.it_energy_kwh
        if length_s <= 0.0:
            return
        joules = j_from_kwh(max(energy_kwh, 0.0)) / came
        for _ in range(came):  # results that came faster than they were told of: each a part of what came
            training.predictor.epoch(length_s / came, joules if used.coverage > 0.0 else None)
        outlook = training.predictor.outlook()
        if outlook is None or account.as_of_s is None:
            return
        pue = used.energy_kwh / used.it_energy_kwh if used.it_energy_kwh > 0.0 else 1.0
        words = [told for node, told in self._accounts.newest.items() if account.is_on(node) and told.ahead]
        # Where its nodes lie under several grids, the one of the node that used most so far.
        word = max(words, key=lambda told: told.amounts[0], default=None)
        training.prediction = foretell(
            outlook,
            used=used,
            pue=pue,
            horizon=None if word is None else Horizon(word.ahead, account.as_of_s),
            now=datetime.fromtimestamp(account.as_of_s, UTC),
        )

    # -- the meters --------------------------------------------------------------------------------------------

    async def _find(self) -> None:
        """Learn which meters there are."""
        ray = ray_module()
        try:
            keeper = await asyncio.to_thread(ray.get_actor, keeper_name(self._job_id), NAMESPACE)
            self._meters = await asyncio.wait_for(keeper.meters.remote(), WHERE_S)
        except (ray.exceptions.RayError, TimeoutError, ValueError) as error:
            log.debug("ray.no_keeper", why=str(error))

    async def _ask(self, *, is_fresh: bool, nodes: Iterable[str] | None = None) -> None:
        """Ask meters what they counted.

        Args:
            is_fresh: True to have them read, and to wait for nobody who is slow.
            nodes: Of which nodes; None: all.
        """
        if any(until_s > time.monotonic() for until_s in self._holds):
            return
        if not is_fresh:
            await self._find()
        chosen = self._meters.keys() if nodes is None else self._meters.keys() & set(nodes)
        async with asyncio.TaskGroup() as group:
            for node_id in chosen:
                group.create_task(self._hear(node_id, is_fresh=is_fresh))

    async def _hear(self, node_id: str, *, is_fresh: bool) -> None:
        async with self._asking.setdefault(node_id, asyncio.Lock()):
            last = self._accounts.newest.get(node_id)
            if is_fresh and last is not None and time.time() - last.as_of_s < FRESH_S:
                return
            meter = self._meters[node_id]
            told = await self._answer(meter.told.remote(), READING_S if is_fresh else WHERE_S)
            if told is not None:
                self._accounts.take(told)

    async def _answer(self, asked: Awaitable[Told | None], limit_s: float) -> Told | None:
        try:
            return await asyncio.wait_for(asked, limit_s)
        except (ray_module().exceptions.RayError, TimeoutError) as error:
            log.debug("ray.no_answer", why=str(error))
            return None

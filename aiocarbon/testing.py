"""Fakes that aiocarbon's own tests use, for the tests of its users: a clock, a meter, a source, a server for sources.

```python
from aiocarbon import Tracker
from aiocarbon.testing import ScriptedMeter

meter = ScriptedMeter(energy_uj=[0, 5_000_000, 9_000_000])
async with Tracker(meters=[meter], intensity=400, pue=1.0) as tracker:
    ...
```
"""

from __future__ import annotations

import inspect
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self

import anyio

from aiocarbon._core.answer import Answer
from aiocarbon._core.intensity import FactorBasis
from aiocarbon._core.reading import Basis, Device, DeviceKind, Finding, Part, Quantity, Reading
from aiocarbon.intensity.base import Row, Traits, make_answer
from aiocarbon.intensity.client import Client
from aiocarbon.meters.base import Inventory

if TYPE_CHECKING:
    from aiohttp.web import AppRunner, Request, StreamResponse

__all__ = ["FakeClock", "LocalServer", "ScriptedMeter", "ScriptedSource", "environ_at"]

Scripted = float | BaseException | Callable[[], float]
"""A value in microjoules or watts, an error to raise, or a function that gives a value (and may block)."""

PLACE_SERVICES: Final = ("geojs", "ipinfo", "aws", "gcp", "azure")
"""Those that tell where a machine is; each has its `AIOCARBON_<NAME>_URL`, as each source has."""

_Wait = tuple[int, threading.Event]  # a worker blocks until an instant of a clock or the event; then it is at work


class FakeClock:
    """A clock that stands still until `advance` moves it; tasks and workers that wait for it wake in order.

    Args:
        start_ns: Monotonic nanoseconds at which it begins.
        wall_ns: UTC nanoseconds at which it begins.

    Attributes:
        workers: Tells how many worker threads are at work, those that wait for this clock included; while one that
            does not is, `advance` waits for it. None: nobody tells, and what is not done in some milliseconds is late.
    """

    def __init__(self, start_ns: int = 1_000_000_000, wall_ns: int = 1_800_000_000_000_000_000) -> None:
        self._now = start_ns
        self._wall = wall_ns - start_ns
        self._boot = 0
        self._changed = threading.Condition()
        self._sleepers: dict[anyio.Event, int] = {}
        self._waits, self._pauses = list[_Wait](), list[_Wait]()
        self._has_worked = False  # whether a worker has come to block since it was last looked
        self.workers: Callable[[], int] | None = None

    def monotonic_ns(self) -> int:
        """Monotonic nanoseconds."""
        return self._now

    def wall_ns(self) -> int:
        """UTC nanoseconds since 1970."""
        return self._now + self._wall

    def boot_ns(self) -> int:
        """Nanoseconds since boot."""
        return self._now + self._boot

    def set_wall(self, by_s: float) -> None:
        """Set the wall clock, as a person or NTP does."""
        self._wall += round(by_s * 1e9)

    def skip(self, by_s: float) -> None:
        """Move the clock at once and wake nobody in between, as it is for a loop that was kept from running."""
        self._move(self._now + round(by_s * 1e9))

    def suspend(self, for_s: float) -> None:
        """Let the machine sleep: the boot and wall clocks go on, the monotonic one does not."""
        self._boot += round(for_s * 1e9)
        self._wall += round(for_s * 1e9)

    async def sleep_until(self, t_ns: int) -> None:
        """Sleep until an instant of this clock."""
        if t_ns <= self._now:
            await anyio.lowlevel.checkpoint()
            return
        event = anyio.Event()
        self._sleepers[event] = t_ns
        try:
            await event.wait()
        finally:
            self._sleepers.pop(event, None)

    def wait(self, event: threading.Event, until_ns: int) -> bool:
        """Block a worker until the event is set or an instant of this clock is past."""
        return self._block(self._waits, event, until_ns)

    def pause(self, event: threading.Event, until_ns: int) -> bool:
        """The same; `advance` stops at its instant, as at those of sleepers."""
        return self._block(self._pauses, event, until_ns)

    def _block(self, those: list[_Wait], event: threading.Event, until_ns: int) -> bool:
        with self._changed:
            those.append((until_ns, event))
            self._has_worked = True  # what it told before is still to be heard
            while not event.is_set() and self._now < until_ns:
                self._changed.wait(0.005)
            those.remove((until_ns, event))
        return event.is_set()

    async def advance(self, by_s: float) -> None:
        """Move the clock, waking each sleeper of this loop at its own instant; returns when all are asleep again."""
        target = self._now + round(by_s * 1e9)
        while True:
            await self._settle()
            at = min([*self._sleepers.values(), *self._blocked(self._pauses)], default=target + 1)
            if at > target:
                break
            self._move(max(at, self._now))
            for event in [event for event, until_ns in self._sleepers.items() if until_ns == at][:1]:
                del self._sleepers[event]
                event.set()
        self._move(max(target, self._now))  # `skip` may have gone further meanwhile
        await self._settle()

    async def _settle(self) -> None:
        await _settle(3 if self.workers is None else 1)
        while self.workers and (self._has_worked or self.workers() > len(self._blocked(self._waits + self._pauses))):
            self._has_worked = False
            await _settle(1)

    def _blocked(self, waits: list[_Wait]) -> list[int]:
        return [until_ns for until_ns, event in tuple(waits) if until_ns > self._now and not event.is_set()]

    def _move(self, to_ns: int) -> None:
        with self._changed:
            self._now = to_ns
            self._changed.notify_all()


async def _settle(times: int) -> None:
    """Let tasks run until all of them wait, worker threads included as far as they are quick."""
    for _ in range(times):
        for _ in range(10):  # on asyncio, waiting for a task that has something to do takes a tenth of a second
            await anyio.lowlevel.checkpoint()
        await anyio.wait_all_tasks_blocked()
        await anyio.sleep(0.001)


class ScriptedMeter:
    """A meter that answers from a script, one answer a read; the last answer is repeated.

    Args:
        energy_uj: Cumulative microjoules; or
        power_w: Watts. Exactly one of the two is given.
        device: The device to be; one that fits is made by default.
        open_error: Raised by `open`.
        findings: Found by `open`.
        clock: Monotonic nanoseconds.

    Attributes:
        reads: How often it was read.
        is_open: True between `open` and `close`.
    """

    def __init__(
        self,
        *,
        energy_uj: Iterable[Scripted] | None = None,
        power_w: Iterable[Scripted] | None = None,
        device: Device | None = None,
        open_error: BaseException | None = None,
        findings: Sequence[Finding] = (),
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        script = energy_uj if energy_uj is not None else power_w
        if script is None or (energy_uj is not None and power_w is not None):
            raise ValueError("give either energy_uj or power_w")
        self.name = "scripted"
        self._script = iter(script)
        self._last: Scripted | None = None
        self._open_error = open_error
        self._findings = tuple(findings)
        self._clock = clock
        self.reads, self.is_open = 0, False
        is_energy = energy_uj is not None
        self.device = device or Device(
            id="scripted-0",
            kind=DeviceKind.OTHER,
            name="scripted device",
            quantity=Quantity.ENERGY if is_energy else Quantity.POWER,
            basis=Basis.COUNTER if is_energy else Basis.POWER,
            refresh_s=0.001,
        )

    def open(self, covered: frozenset[Part] = frozenset()) -> Inventory:
        """The scripted device, or the scripted error."""
        if self._open_error is not None:
            raise self._open_error
        self.is_open = True
        return Inventory(devices=(self.device,), findings=self._findings)

    def read(self, device: Device) -> Reading:
        """The next answer of the script."""
        t0 = self._clock()
        self.reads += 1
        answer = next(self._script, self._last)
        self._last = answer
        if isinstance(answer, BaseException):
            raise answer
        if answer is None:
            raise ValueError("the script is empty")
        value = answer() if callable(answer) else answer
        return Reading(t0, self._clock(), value)

    def close(self) -> None:
        """Be closed."""
        self.is_open = False


class ScriptedSource:
    """A source of carbon intensity that answers by functions of the test, and counts what it is asked.

    Args:
        now: Gives the rows `(from_s, to_s, g_per_kwh, quality)` for a present (UTC seconds), or raises.
        past: Gives the rows for a begin and an end; None where it knows no past.
        forecast: Gives the rows for a present and a number of hours; None where it forecasts nothing.
        name: Its name.
        zone: The zone it answers for.
        step_s: Seconds that one value holds.
        offset_s: Seconds after a step's begin at which its value is published.
        stale_s: Seconds up to which a value may be carried on.
        spacing_s: Least seconds between two questions.

    Attributes:
        asked: Every question: its kind and the numbers it was asked with.
    """

    def __init__(
        self,
        now: Callable[[float], Iterable[Row]],
        *,
        past: Callable[[float, float], Iterable[Row]] | None = None,
        forecast: Callable[[float, float], Iterable[Row]] | None = None,
        name: str = "scripted",
        zone: str = "DK",
        step_s: float = 300.0,
        offset_s: float = 0.0,
        stale_s: float = 1800.0,
        spacing_s: float = 0.0,
    ) -> None:
        self._now = now
        self._past = past
        self._forecast = forecast
        self.asked: list[tuple[str, float, float]] = []
        self.traits = Traits(
            name=name,
            title=name,
            zone=zone,
            factor_basis=FactorBasis.DIRECT,
            step_s=step_s,
            offset_s=offset_s,
            stale_s=stale_s,
            spacing_s=spacing_s,
            has_past=past is not None,
            has_forecast=forecast is not None,
            asked_at="scripted",
        )

    async def now(self, client: object, now_s: float) -> Answer:
        """What the script says of the present."""
        self.asked.append(("now", now_s, 0.0))
        return make_answer(self.traits, self._now(now_s), now_s=now_s)

    async def past(self, client: object, begin_s: float, end_s: float, now_s: float) -> Answer:
        """What the script says of a time that is over."""
        self.asked.append(("past", begin_s, end_s))
        return make_answer(self.traits, self._past(begin_s, end_s) if self._past else (), now_s=now_s)

    async def forecast(self, client: object, now_s: float, hours: float) -> Answer:
        """What the script forecasts."""
        self.asked.append(("forecast", now_s, hours))
        return make_answer(self.traits, self._forecast(now_s, hours) if self._forecast else (), now_s=now_s)


def environ_at(url: str) -> dict[str, str]:
    """Environment variables that send every question of aiocarbon's to one URL: its sources', plug-ins', the place's.

    Args:
        url: Base URL, of a `LocalServer` say.
    """
    from aiocarbon.intensity.sources import names

    return {f"AIOCARBON_{name.upper()}_URL": url for name in (*names(), *PLACE_SERVICES)}


class LocalServer:
    """A real HTTP server on this machine, for the tests of a source, that keeps what it was asked; asyncio only.

    ```python
    async with LocalServer({"/v1/latest": {"g": 123}}) as server:
        (source,) = my_source.bind(place, Access(url=server.url))
        answer = await source.now(server.client, time.time())
    assert server.asked == [("/v1/latest", {"zone": "DK"})]
    ```

    Args:
        answers: What is answered by path; a path that ends with a slash stands for all below it that have none of their
            own, and what has none is a 404. A text or bytes are sent as they are, an int is a status with an empty
            body, `aiohttp.web` responses are sent once, a function (or coroutine function) of the `aiohttp.web.Request`
            gives one of these, and all else is sent as JSON.
        status: HTTP status of texts, bytes and JSON.

    Attributes:
        answers: The same, to be changed at any time.
        asked: Path and query of each question.
        headers: The headers of each, by lower-case names.
        sent: The bodies that were answered as texts, bytes and JSON.
        url: Its base URL, without a slash at the end; empty before it is entered.
        client: Asks as the engine does; closed with the server.
    """

    def __init__(self, answers: Mapping[str, object] | None = None, *, status: int = 200) -> None:
        self.answers = dict(answers or {})
        self.status = status
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.headers: list[dict[str, str]] = []
        self.sent: list[bytes] = []
        self.url = ""
        self.client = Client(_in_a_thread)
        self._runner: AppRunner | None = None

    async def __aenter__(self) -> Self:
        """Begin to answer."""
        from aiohttp import web

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        # What still waits for an answer is cut off at the end, and no question is logged.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *error: object) -> None:
        """Close the server and the client; questions without an answer yet get none."""
        runner, self._runner = self._runner, None
        try:
            if runner is not None:
                await runner.cleanup()
        finally:
            await self.client.aclose()

    @property
    def paths(self) -> list[str]:
        """The path of each question."""
        return [path for path, _ in self.asked]

    @property
    def environ(self) -> dict[str, str]:
        """Environment variables that send every question of aiocarbon's here."""
        return environ_at(self.url)

    def answer(self, request: Request) -> object:
        """What is answered: to be overridden where it depends on more than the path."""
        above = [path for path in self.answers if path.endswith("/") and request.path.startswith(path)]
        said = self.answers.get(request.path, self.answers[max(above, key=len)] if above else 404)
        return said(request) if callable(said) else said

    async def _handle(self, request: Request) -> StreamResponse:
        from aiohttp import web

        self.asked.append((request.path, dict(request.query)))
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        said = self.answer(request)
        if inspect.isawaitable(said):
            said = await said
        if isinstance(said, web.StreamResponse):
            return said
        if isinstance(said, int) and not isinstance(said, bool):
            return web.Response(status=said)
        if not isinstance(said, bytes):
            said = (said if isinstance(said, str) else json.dumps(said, separators=(",", ":"))).encode()
        self.sent.append(said)
        return web.Response(body=said, status=self.status, content_type="application/json")


async def _in_a_thread(function: Callable[..., Any], *args: Any) -> Any:  # Any: as `Client` has it
    return await anyio.to_thread.run_sync(function, *args, abandon_on_cancel=True)

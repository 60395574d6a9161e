"""Sources on their worst days, whole runs beside them: the command is untouched, the figures say whose they are.

Runs are real processes that ask a real local server; times are right to now, and a value holds for the next 59 minutes,
so that none is succeeded while a test lasts. A hang is an answer that comes only once the run has ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import web

import aiocarbon
from aiocarbon._core.identity import alone
from aiocarbon._engine.engine import Engine
from aiocarbon._engine.exchange import Exchange
from aiocarbon._engine.poller import Poller
from aiocarbon.intensity.cache import Cache
from aiocarbon.intensity.client import Client
from aiocarbon.testing import FakeClock, ScriptedMeter
from tests.engines import closed, running

ROOT = str(Path(aiocarbon.__file__).parents[1])
NAMES = "carbonintensity_gb energidataservice odre energycharts electricitymaps watttime geojs ipinfo aws gcp azure"
NOBODY = "http://127.0.0.1:1"
PLAIN = {k: v for k, v in os.environ.items() if not k.startswith("AIOCARBON_") and not k.lower().endswith("_proxy")}
OWN = {"PYTHONPATH": ROOT, "AIOCARBON_LOCK_DIR": "none"}
ENVIRON = PLAIN | OWN | {f"AIOCARBON_{name.upper()}_URL": NOBODY for name in NAMES.split()}

USER, PASSWORD, TOKEN = "someuser", "s3cr3tpassw0rd", "tok-4Zq9Yx7Lw"
AVERAGE = "Ember"
LIVE = ("Energy-Charts", "live")
OWN_CODE = 7
CHARTS = "/co2eq"
ASKED = "asked"

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Server:
    """Answers by path, and counts; a path that no answer is for is a 404.

    Attributes:
        answers: What is answered, by the begin of the path.
        over: Set once the run has ended.
        asked: How often each path was.
        awaited: Begin of a path.
        asked_for: A file to make once the awaited path is asked for.
    """

    answers: dict[str, Answer]
    url: str = ""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    asked: Counter[str] = field(default_factory=Counter)
    awaited: str = CHARTS
    asked_for: Path | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked[request.path] += 1
        if self.asked_for is not None and request.path.startswith(self.awaited):
            self.asked_for.touch()
        for path, answer in self.answers.items():
            if request.path.startswith(path):
                return await answer(request)
        return web.Response(status=404)

    @property
    def access(self) -> str:
        """Its URL with a user and a password, which some answers repeat."""
        return self.url.replace("://", f"://{USER}:{PASSWORD}@")

    async def hang(self, request: web.Request) -> web.StreamResponse:
        await self.over.wait()
        return web.Response(text="{}")


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[Server]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.0, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=200).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        server.over.set()
        await runner.cleanup()


def day(value: Any = 100.0, *, at_s: float | None = None, ahead: int = 0, step_s: float = 3600.0) -> str:
    """An answer in the shape of Energy-Charts: three measured values, the last of them holding now, and a forecast."""
    now_s = time.time() - 60.0 if at_s is None else at_s
    times = [now_s + n * step_s for n in range(-2, 1 + ahead)]
    measured = [value] * 3 + [None] * ahead
    return json.dumps({"unix_seconds": times, "co2eq": measured, "co2eq_forecast": [None] * 3 + [300.0] * ahead})


def saying(body: str, status: int = 200, **headers: str) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(text=body, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return answer


async def healthy(request: web.Request) -> web.StreamResponse:
    return web.Response(text=day())


async def ended(request: web.Request) -> web.StreamResponse:
    """Ends in the middle of its body."""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"unix_seconds": [')
    assert request.transport is not None
    request.transport.close()
    return response


@dataclass(frozen=True, slots=True)
class Done:
    """A run that has ended: its exit code, all it said, its report, and what is in its cache."""

    code: int
    said: str
    stdout: str
    report: Mapping[str, Any]
    kept: str

    @property
    def used(self) -> list[tuple[str, str]]:
        return [(use["source"], use["quality"]) for use in self.report["intensity_sources"]]

    def told(self, *words: str) -> list[str]:
        return [warning for warning in self.report["warnings"] if all(word in warning for word in words)]


WAITS = f"while [ ! -e {ASKED} ]; do sleep 0.02; done; "
SAYS = f"echo said; exit {OWN_CODE}"
TRACKED = """
import asyncio, json, os, sys
from aiocarbon import Tracker

async def main():
    async with Tracker(meters="simulated:250", pue=1.0, location=sys.argv[2]) as tracker:
        await tracker.epoch()
        while len(sys.argv) > 3 and not os.path.exists(sys.argv[3]):
            await asyncio.sleep(0.02)
        print("said")
    with open(sys.argv[1], "w") as file:
        json.dump(tracker.report().to_dict(), file)

asyncio.run(main())
raise SystemExit(7)
"""


async def run(
    folder: Path,
    *options: str,
    location: str | None = "DE",
    skin: str = "run",
    beside: Server | None = None,
    **environ: str,
) -> Done:
    """A run, as a command or as an asynchronous script, to its end.

    It is as short as can be, or goes on until a server was asked, however busy this machine is.
    """
    await anyio.Path(folder).mkdir(exist_ok=True)
    if beside is not None:
        beside.asked_for = folder / ASKED
    out = folder / "out.json"
    where = () if location is None else ("--location", location)
    command = [sys.executable, "-c", TRACKED, str(out), str(location), *([ASKED] if beside is not None else [])]
    if skin == "run":
        words = ("run", "--no-journal", "--json", str(out), "--meters", "simulated:250", "--pue", "1", *where)
        shell = WAITS + SAYS if beside is not None else SAYS
        command = [sys.executable, "-m", "aiocarbon", *words, *options, "--", "sh", "-c", shell]
    cache = folder / "cache"
    own = {"AIOCARBON_CACHE": str(cache), "TZ": "Europe/Berlin"}
    done = await anyio.run_process(command, cwd=folder, env=ENVIRON | own | environ, check=False)
    kept = "\n".join(path.read_text() for path in cache.iterdir()) if cache.exists() else ""
    stdout = done.stdout.decode()
    assert out.exists(), done.stderr.decode()
    text = out.read_text()
    return Done(done.returncode, stdout + done.stderr.decode() + text, stdout, json.loads(text), kept)


def demand_well(done: Done) -> None:
    """The command got what is its own, and the report is whole."""
    report = done.report
    assert done.code == OWN_CODE
    assert done.stdout == "said\n"
    assert report["is_final"]
    assert report["it_energy_kwh"] == pytest.approx(250.0 * report["duration_s"] / 3.6e6, rel=0.2)
    uses = report["intensity_sources"]
    assert report["co2eq_g"] == pytest.approx(report["energy_kwh"] * sum(u["g_per_kwh"] * u["share"] for u in uses))
    for secret in (PASSWORD, TOKEN):
        assert secret not in done.said
        assert secret not in done.kept


# -- one source, one fault -------------------------------------------------------------------------------------------

HUGE = "[" + "1," * 200_000 + "1]"
REPEATING = f"user {USER}:{PASSWORD} is unknown"

FAULTS: dict[str, tuple[Answer | None, str, int | None]] = {
    "hangs": (None, "had not answered when the run ended", 1),
    "429": (saying("slow down", 429, Retry_After="3600"), "answered 429: slow down", 1),
    "500": (saying(REPEATING, 500), "answered 500: user ...:... is unknown", None),
    "503 for a day": (saying("", 503, Retry_After="Fri, 01 Jan 2100 00:00:00 GMT"), "answered 503", 1),
    "401": (saying(REPEATING, 401), "answered 401: user ...:... is unknown", 1),
    "redirects away": (saying("", 302, Location=f"https://{PASSWORD}.example/"), "redirects to https://....", 1),
    "HTML": (saying("<html>Sign in</html>"), "no JSON", None),
    "truncated": (saying(day()[:60]), "no JSON", None),
    "ends": (ended, "closed the connection", None),
    "huge": (saying(HUGE), "more than 256 KiB", 1),
    "nulls": (saying(day(None)), "no measured value", 1),
    "null": (saying("null"), "sent no object", 1),
    "negative": (saying(day(-5.0)), "-5.0 gCO2eq/kWh, which is not in 0..3000", 1),
    "absurd": (saying(day(1e9)), "which is not in 0..3000", 1),
    "text": (saying(day("100")), "'100' where a number belongs", 1),
    "stale": (saying(day(at_s=1.7e9)), "too old", 1),
    "of the year 5138": (saying(day(at_s=1e11 - 1)), "impossible time", 1),
}
"""What goes wrong: the answer, what the warning says of it, and how often it is asked (None: what may pass, again)."""


Runs = Mapping[str, tuple[Done, Counter[str]]]


def runs_beside(path: str, faults: Iterable[str], folder: Path, **more: Any) -> Runs:
    """Runs beside a server that has a fault at a path, some at once: most of their time is waiting."""
    found: dict[str, tuple[Done, Counter[str]]] = {}

    async def one(name: str, room: anyio.Semaphore) -> None:
        server = Server({CHARTS: healthy}, awaited=path)
        server.answers[path] = FAULTS[name][0] or server.hang
        async with room, serving(server):
            urls = {f"AIOCARBON_{source}_URL": server.access for source in ("ENERGYCHARTS", "ENERGIDATASERVICE")}
            done = await run(folder / name, beside=server, **more, **urls)
            assert not server.over.is_set()
            found[name] = done, server.asked

    async def main() -> None:
        room = anyio.Semaphore(4)
        async with anyio.create_task_group() as group:
            for name in faults:
                group.start_soon(one, name, room)

    anyio.run(main)
    return found


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return runs_beside(CHARTS, FAULTS, tmp_path_factory.mktemp("only"))


@pytest.fixture(scope="module")
def faulty_first(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return runs_beside("/dataset", FIRST, tmp_path_factory.mktemp("first"), location="DK-DK1")


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_costs_the_run_nothing_but_the_value_and_is_told_once(name: str, faulty: Runs) -> None:
    done, asked = faulty[name]
    demand_well(done)
    ((source, quality),) = done.used
    assert (source.split()[0], quality) == (AVERAGE, "average")
    (warning,) = done.told("carbon intensity: ")
    assert warning.startswith("carbon intensity: Energy-Charts is not used: ")
    assert FAULTS[name][1] in warning
    assert 1 <= asked[CHARTS] <= (FAULTS[name][2] or 3)


def test_without_a_fault_the_value_counts_and_nothing_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(Server({CHARTS: healthy})) as server:
            for skin in ("run", "script"):
                done = await run(tmp_path / skin, skin=skin, beside=server, AIOCARBON_ENERGYCHARTS_URL=server.access)
                demand_well(done)
                assert done.used == [LIVE]
                assert done.report["co2eq_g"] == pytest.approx(done.report["energy_kwh"] * 100.0)
                assert done.told("carbon intensity") == []
        assert server.asked == {CHARTS: 2}

    anyio.run(main)


@pytest.mark.parametrize("url", ["https://x.invalid", "closed"])
def test_a_name_that_is_dead_and_a_port_that_is_closed_are_told(url: str, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = url if url != "closed" else f"http://127.0.0.1:{closed.getsockname()[1]}"
        done = anyio.run(lambda: run(tmp_path, AIOCARBON_ENERGYCHARTS_URL=f"{url}/?key={TOKEN}"))
    demand_well(done)
    assert [quality for _, quality in done.used] == ["average"]
    (warning,) = done.told("carbon intensity: Energy-Charts is not used: ")
    assert url in warning or "had not answered" in warning  # a lookup of names may hang


def test_a_base_url_that_is_none_costs_only_the_source(tmp_path: Path) -> None:
    done = anyio.run(lambda: run(tmp_path, AIOCARBON_ENERGYCHARTS_URL=f"https://{USER}:{PASSWORD}/x@grid.example"))
    demand_well(done)
    assert [quality for _, quality in done.used] == ["average"]


@pytest.mark.parametrize("fault", ["hangs", "500"])
def test_an_asynchronous_run_ends_as_well_beside_a_source_that_does_not_answer(fault: str, tmp_path: Path) -> None:
    async def main() -> Done:
        server = Server({})
        server.answers[CHARTS] = FAULTS[fault][0] or server.hang
        async with serving(server):
            done = await run(tmp_path, skin="script", beside=server, AIOCARBON_ENERGYCHARTS_URL=server.access)
            assert not server.over.is_set()
        return done

    done = anyio.run(main)
    demand_well(done)
    assert [quality for _, quality in done.used] == ["average"]
    assert len(done.told("carbon intensity: Energy-Charts is not used: ")) == 1


# -- the next source of the chain ------------------------------------------------------------------------------------


FIRST = ("hangs", "429", "500", "HTML", "truncated", "huge", "null")


@pytest.mark.parametrize("fault", FIRST)
def test_where_the_first_source_fails_the_next_one_counts(fault: str, faulty_first: Runs) -> None:
    done, asked = faulty_first[fault]
    demand_well(done)
    assert done.used == [LIVE]
    (warning,) = done.told("carbon intensity: ")
    assert warning.startswith("carbon intensity: Energi Data Service")
    assert asked[CHARTS] == 1


def test_a_token_that_is_refused_and_repeated_is_told_with_a_remedy_and_without_it(tmp_path: Path) -> None:
    async def main() -> Done:
        refusing = saying(json.dumps({"error": f"invalid token {TOKEN}"}), 401)
        async with serving(Server({CHARTS: saying(REPEATING, 500), "/": refusing})) as server:
            urls = {f"AIOCARBON_{name}_URL": server.access for name in ("ENERGYCHARTS", "ELECTRICITYMAPS")}
            return await run(tmp_path, beside=server, AIOCARBON_ELECTRICITYMAPS_TOKEN=TOKEN, **urls)

    done = anyio.run(main)
    for secret in (TOKEN, TOKEN[:8]):
        assert secret not in done.said
        assert secret not in done.kept
    assert done.code == OWN_CODE
    (warning,) = done.told("Electricity Maps is not used")
    assert "401" in warning
    assert "To mend it: " in warning
    assert "AIOCARBON_ELECTRICITYMAPS_TOKEN" in warning
    assert len(done.told("Energy-Charts is not used")) == 1


def test_a_failure_is_shared_so_that_the_next_run_does_not_ask_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(Server({CHARTS: FAULTS["429"][0] or healthy})) as server:
            for _ in range(2):
                done = await run(tmp_path, beside=server, AIOCARBON_ENERGYCHARTS_URL=server.access)
                assert len(done.told("Energy-Charts is not used", "429")) == 1
        assert server.asked == {CHARTS: 1}

    anyio.run(main)


def test_what_was_answered_is_kept_for_the_next_run_whose_source_is_gone(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(Server({CHARTS: healthy})) as server:
            await run(tmp_path, beside=server, AIOCARBON_ENERGYCHARTS_URL=server.access)
        done = await run(tmp_path, AIOCARBON_ENERGYCHARTS_URL=server.access)
        assert done.used == [LIVE]
        assert done.told("carbon intensity") == []

    anyio.run(main)


# -- what is not sent ------------------------------------------------------------------------------------------------


def everywhere(server: Server) -> dict[str, Any]:
    return {f"AIOCARBON_{name.upper()}_URL": server.access for name in NAMES.split()}


@pytest.mark.parametrize("location", ["DE", None])
def test_offline_sends_no_packet_at_all(location: str | None, tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(Server({CHARTS: healthy})) as server:
            done = await run(tmp_path, "--offline", location=location, **everywhere(server))
            demand_well(done)
            assert [quality for _, quality in done.used] == ["average"]
            assert done.told("not used") == []
            script = await run(tmp_path / "s", skin="script", AIOCARBON_OFFLINE="true", **everywhere(server))
            assert [quality for _, quality in script.used] == ["average"]
        assert server.asked == {}

    anyio.run(main)


def test_only_a_place_that_was_not_said_is_asked_for_and_that_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        here = {"country_code": "DE", "country": "DE", "region": "", "ip": "203.0.113.9", "city": "Nowhere"}
        locating = saying(json.dumps(here))
        async with serving(Server({CHARTS: healthy, "/v1/ip/geo.json": locating, "/json": locating})) as server:
            given = await run(tmp_path / "given", beside=server, **everywhere(server))
            assert server.asked == {CHARTS: 1}
            assert given.told("where this machine is") == []
            found = await run(tmp_path / "found", location=None, beside=server, **everywhere(server))
            again = await run(tmp_path / "found", location=None, beside=server, **everywhere(server))
        assert {path: n for path, n in server.asked.items() if "meta" not in path and "latest" not in path} == {
            CHARTS: 2,
            "/v1/ip/geo.json": 1,
            "/json": 1,
        }
        assert found.used == again.used == [LIVE]
        (notice,) = found.told("where this machine is was not said")
        assert "offline=True" in notice
        assert again.told("where this machine is") == []
        for word in ("203.0.113.9", "Nowhere"):
            assert word not in found.said
            assert word not in found.kept

    anyio.run(main)


def test_services_that_hang_over_the_place_leave_it_a_guess_and_both_is_told(tmp_path: Path) -> None:
    async def main() -> Done:
        server = Server({}, awaited="/")
        server.answers["/"] = server.hang
        async with serving(server):
            done = await run(tmp_path, location=None, beside=server, **everywhere(server))
            assert not server.over.is_set()
        return done

    done = anyio.run(main)
    demand_well(done)
    assert [quality for _, quality in done.used] == ["average"]
    assert len(done.told("where this machine is", "offline=True")) == 1
    assert len(done.told("location DE is a guess")) == 1


# -- many processes --------------------------------------------------------------------------------------------------

FIFTY = """
import os, sys, time
from aiocarbon import sync
import aiocarbon._core.assemble, aiocarbon._engine.engine, aiocarbon._engine.poller, aiohttp  # once for all fifty

def run():
    with sync.Tracker(meters="simulated:250", pue=1.0, location="DE", interval_s=0.2) as tracker:
        while tracker.report().intensity_sources[0].quality == "average":
            time.sleep(0.05)  # on a machine this busy, what is waited for at the end may come later
    use = tracker.report().intensity_sources[0]
    with open(sys.argv[1], "a") as file:
        file.write(f"{os.getpid()} {use.source} {use.quality}\\n")

for _ in range(50):
    if os.fork() == 0:
        try:
            run()
        finally:
            os._exit(0)
for _ in range(50):
    os.wait()
"""


def test_fifty_processes_ask_once(tmp_path: Path) -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.3)  # so that the others come while the answer is on its way
        return web.Response(text=day())

    async def main() -> Server:
        async with serving(Server({CHARTS: slow})) as server:
            own = {"AIOCARBON_ENERGYCHARTS_URL": server.url, "AIOCARBON_CACHE": str(tmp_path / "cache")}
            command = [sys.executable, "-c", FIFTY, str(tmp_path / "said")]
            done = await anyio.run_process(command, env=ENVIRON | own, cwd=tmp_path, check=False)
            assert done.returncode == 0, done.stderr.decode()
        return server

    server = anyio.run(main)
    said = [line.split(" ", 1) for line in (tmp_path / "said").read_text().splitlines()]
    assert len({pid for pid, _ in said}) == 50
    assert {used for _, used in said} == {"Energy-Charts live"}
    assert server.asked == {CHARTS: 1}


# -- a source that is lost under way ---------------------------------------------------------------------------------


async def at_once(function: Callable[..., Any], *args: object) -> Any:
    """In the place of a worker: simulated time stands still meanwhile."""
    return function(*args)


def test_a_server_that_stops_in_mid_run_is_followed_by_its_forecast_its_last_value_and_the_average(
    tmp_path: Path,
) -> None:
    clock = FakeClock()  # begins at a full hour
    begin_s = clock.wall_ns() / 1e9
    made: list[Any] = []

    async def drive(url: str, stop: Callable[[], Awaitable[None]]) -> Any:
        exchange = Exchange(clock, Client(at_once, proxies=dict), Cache(tmp_path), at_once, chance=lambda: 0.5)
        environ = {"AIOCARBON_ENERGYCHARTS_URL": url}
        engine = Engine(clock=clock, poller=lambda _, *rest: Poller(exchange, *rest, environ=environ))
        meter = ScriptedMeter(energy_uj=[lambda: clock.monotonic_ns() / 1e9 * 100e6], clock=clock.monotonic_ns)
        async with running(engine):
            arguments = {"location": "DE", "pue": 1.0, "meters": (meter,), "offline": False, "interval_s": 60.0}
            session = await engine.open(arguments, alone("run"))

            def known() -> list[tuple[str, float]]:
                steps = session.ledger.intensity.steps(begin_s, clock.wall_ns() / 1e9 + 1e-3)
                return [(value.quality.value, at - begin_s) for at, _, value in steps]

            while known()[-1][0] != "live":
                await clock.advance(0.01)
            await stop()
            while clock.wall_ns() / 1e9 < begin_s + 2.2 * 3600.0:
                await clock.advance(60.0)

            made.append(await closed(engine, session, clock))
            await exchange.aclose()
            return known()

    async def main() -> Any:
        body = day(100.0, at_s=begin_s, ahead=1, step_s=900.0)
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(serving(Server({CHARTS: saying(body)})))
            return await drive(server.url, stack.aclose)

    steps = anyio.run(main)
    order = list(dict.fromkeys(quality for quality, _ in steps))
    assert order == ["live", "forecast", "cached", "average"]
    assert dict(steps)["forecast"] == pytest.approx(900.0)
    report = made[0]
    uses = {use.quality: use for use in report.intensity_sources}
    assert set(uses) == set(order)
    assert uses["average"].source.split()[0] == AVERAGE
    assert {uses[quality].source for quality in order[:3]} == {"Energy-Charts"}
    assert uses["forecast"].g_per_kwh == pytest.approx(300.0)
    assert sum(use.share for use in uses.values()) == pytest.approx(1.0)
    parts_g = sum(use.g_per_kwh * use.share for use in uses.values()) * report.energy_kwh
    assert report.co2eq_g == pytest.approx(parts_g, rel=1e-9)
    (warning,) = [warning for warning in report.warnings if "Energy-Charts is not used" in warning]
    assert "cannot be reached: " in warning
    # The simulated clock is not that of the server: a machine whose clock is wrong is told so, once.
    (wrong,) = [warning for warning in report.warnings if "this machine's clock is" in warning]
    assert "ahead of that of Energy-Charts" in wrong
    assert "timedatectl" in wrong

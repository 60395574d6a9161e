"""`aiocarbon report --refresh`: guesses of runs that are over, mended by sources on real local servers."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import web

import aiocarbon
from aiocarbon._core.identity import alone
from aiocarbon._core.intensity import IntensityValue, Quality
from aiocarbon._core.reading import Basis, Device, DeviceKind, Part, Quantity
from aiocarbon._engine.clock import SystemClock
from aiocarbon._engine.engine import Engine
from aiocarbon._engine.exchange import Exchange
from aiocarbon._engine.refresh import ASK_LIMIT_S, Refreshed, refresh
from aiocarbon.cli.report_cmd import refreshed_lines
from aiocarbon.intensity import dk
from aiocarbon.intensity.cache import Cache
from aiocarbon.intensity.client import TOTAL_LIMIT_S, Client
from aiocarbon.journal import Loaded, records
from aiocarbon.journal.place import FoundPlace, write_place
from aiocarbon.journal.read import gather, tell
from aiocarbon.journal.records import SCHEMA
from aiocarbon.journal.refresh import Stretch, write_sidecar
from aiocarbon.meters.simulated import SimulatedMeter, Square
from aiocarbon.settings import Settings
from aiocarbon.testing import FakeClock, LocalServer, environ_at
from tests.engines import closed, running

pytestmark = pytest.mark.anyio

ROOT = str(Path(aiocarbon.__file__).parents[1])
S = 10**9
T0 = 1000 * S
BEGIN_S = datetime(2026, 3, 1, 0, 10, tzinfo=UTC).timestamp()
HALF_HOUR_S = 1800
WATTS = 100.0
KWH = 3.6e6
HERE = "the digest of a machine's id"
NOBODY = environ_at("http://127.0.0.1:1")


async def blocking(function: Callable[..., Any], *arguments: Any) -> Any:
    return await anyio.to_thread.run_sync(function, *arguments)


# -- servers -------------------------------------------------------------------------------------------------------


def g_at(at_s: float) -> int:
    """What Great Britain's grid emitted in the half hour of an instant: another number each."""
    return 50 + int(at_s // HALF_HOUR_S) * 37 % 400


def stamp(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%MZ")


def half_hours(request: web.Request, *, actual: Callable[[float], int | None] = g_at) -> dict[str, Any]:
    """The half hours of a window, as Carbon Intensity GB has them."""
    begin_s, end_s = (datetime.fromisoformat(part).timestamp() for part in request.path.split("/")[-2:])
    first = int(begin_s // HALF_HOUR_S) * HALF_HOUR_S
    return {
        "data": [
            {
                "from": stamp(at),
                "to": stamp(at + HALF_HOUR_S),
                "intensity": {"forecast": 7, "actual": actual(at), "index": "low"},
            }
            for at in range(first, int(end_s), HALF_HOUR_S)
        ]
    }


def quarters(request: web.Request) -> dict[str, Any]:
    """The quarters of a window, as Energy-Charts has them: 640 g/kWh."""
    begin, end = int(request.query["start"]), int(request.query["end"])
    times = list(range(begin // 900 * 900, end, 900))
    values = [640.0] * len(times)
    return {"unix_seconds": times, "co2eq": values, "co2eq_forecast": [None] * len(times), "deprecated": False}


async def hang(_: web.Request) -> None:
    await anyio.sleep_forever()


GB = {"/intensity/": half_hours}


# -- runs ----------------------------------------------------------------------------------------------------------


def value(g_per_kwh: float, quality: Quality, source: str = "src") -> IntensityValue:
    return IntensityValue(
        g_per_kwh=g_per_kwh,
        low_g_per_kwh=g_per_kwh,
        high_g_per_kwh=g_per_kwh,
        source=source,
        zone="GB",
        quality=quality,
    )


def a_journal(
    folder: Path,
    *steps: tuple[float, IntensityValue],
    hours: float = 3.0,
    begin_s: float = BEGIN_S,
    zone: str = "GB",
    pid: int = 7,
    ended: bool = True,
    run_id: str = "run-1",
    **place: Any,
) -> Path:
    """A process whose device draws WATTS; steps are seconds of the run, by default the yearly average all along."""
    device = Device(
        id=f"GPU-{pid}", kind=DeviceKind.GPU, name="", quantity=Quantity.ENERGY, basis=Basis.COUNTER,
        covers=frozenset({Part.GPU}),
    )  # fmt: skip
    place = {"zone": zone, "name": zone, "how": "given", "is_guess": False, **place}
    seconds = round(hours * 3600)
    lines: list[dict[str, Any]] = [
        {
            "schema": SCHEMA, "run_id": run_id, "name": "", "host": "node-1", "pid": pid, "boot_id": "boot-1",
            "version": "0", "interval_s": 1.0, "pue": {"value": 1.5, "source": "given"}, "t": T0,
            "location": place, "wall_ns": round(begin_s * S), "machine_id": HERE,
        },
        records.device_record(0, device, "s1", 0.0),
        records.intensity_record(value(300.0, Quality.AVERAGE), -math.inf),
        *(records.intensity_record(one, begin_s + at) for at, one in steps),
        {"k": "mark", "t": T0, "m": 0, "e": [0], "s": [0]},
    ]  # fmt: skip
    lines += [
        {"k": "tick", "t": T0 + at * S, "e": [round(at * WATTS * 1e6)], "s": [0]} for at in range(60, seconds, 60)
    ]
    lines.append({"k": "mark", "t": T0 + seconds * S, "m": 1, "e": [round(seconds * WATTS * 1e6)], "s": [0]})
    lines += [{"k": "end", "t": T0 + seconds * S, "ended_well": True}] if ended else []
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"node-1-{pid}-0.jsonl"
    path.write_text("".join(map(records.line, lines)))
    return path


def grams(g_of: Callable[[float], float], *, hours: float = 3.0, begin_s: float = BEGIN_S) -> float:
    """CO2eq of a run by `a_journal`, minute by minute."""
    minutes = round(hours * 60)
    return math.fsum(WATTS * 60 * 1.5 * g_of(begin_s + 60 * n) / KWH for n in range(minutes))


async def refreshed(
    folder: Path, environ: Mapping[str, str], *, is_offline: bool = False, cache: Path | None = None, **more: Any
) -> tuple[Loaded, Refreshed, str]:
    """The runs in a folder after refreshing, what came of it, and how that is said."""
    problems: list[str] = []
    processes = gather([folder], problems)
    exchange = Exchange(SystemClock(), None if is_offline else Client(blocking), Cache(cache), blocking)
    try:
        found = await refresh(exchange, Settings(**more.pop("settings", {})), processes, environ=environ, **more)
    finally:
        await exchange.aclose()
    return tell(processes, problems), found, "\n".join(refreshed_lines(found))


async def command(*argv: str, environ: Mapping[str, str]) -> subprocess.CompletedProcess[bytes]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("AIOCARBON_")}
    return await anyio.run_process(
        [sys.executable, "-m", "aiocarbon", "report", *argv],
        env=clean | {"PYTHONPATH": ROOT, "AIOCARBON_CACHE": "none"} | dict(environ),
        check=False,
    )


async def track_offline(folder: Path, hours: float) -> None:
    """A run of the engine itself, on a clock moved by hand: hours without a network, with a draw that changes."""
    clock = FakeClock(wall_ns=round((BEGIN_S + 2.0) * S))
    meter = SimulatedMeter(wave=Square(5400.0, 0.3, 50.0, 400.0), refresh_s=0.001, clock=clock.monotonic_ns)
    engine = Engine(clock=clock)
    arguments = {
        "location": "GB", "pue": 1.25, "meters": (meter,), "journal": folder, "offline": True, "interval_s": 60.0,
    }  # fmt: skip
    async with running(engine):
        session = await engine.open(arguments, alone("offline-run"))
        await clock.advance(10.0)
        for _ in range(round(hours * 12)):  # waking all sleepers of each second would take a minute
            clock.skip(285.0)
            await clock.advance(15.0)  # in which a reading lies just behind a full five minutes
        await closed(engine, session, clock)


def names(folder: Path, pattern: str = "*") -> list[str]:
    return sorted(path.name for path in folder.rglob(pattern))


def written_energies(path: Path) -> list[tuple[float, float]]:
    """UTC seconds and joules of the journal's own points, in the order of time; its marks and ticks."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    off = lines[0]["wall_ns"] - lines[0]["t"]
    points = {line["t"]: line["e"][0] for line in lines[1:] if line["k"] in ("mark", "tick")}
    return [((t + off) / 1e9, e / 1e6) for t, e in sorted(points.items())]


# -- the command ---------------------------------------------------------------------------------------------------


async def test_run_made_offline_gets_the_grid_s_own_intensity_and_shows_both_figures(tmp_path: Path) -> None:
    await track_offline(tmp_path, 1.5)
    points = written_energies(tmp_path / "offline-run" / names(tmp_path, "*.jsonl")[0])
    instants = {at for at, _ in points}
    assert all(BEGIN_S + 20 * 60 + n * HALF_HOUR_S in instants for n in range(3))  # the half hours' borders
    expected = math.fsum(
        (to_j - from_j) * 1.25 * g_at(at) / KWH for (at, from_j), (_, to_j) in itertools.pairwise(points)
    )
    before = json.loads((await command(str(tmp_path), "--json", "-", environ=NOBODY)).stdout)["runs"][0]
    assert before["co2eq_g_before"] is None
    async with LocalServer(GB) as server:
        text = await command(str(tmp_path), "--refresh", environ=server.environ)
        asked = list(server.paths)
        again = await command(str(tmp_path), "--refresh", "--json", "-", environ=server.environ)
        assert server.paths == asked
    assert len(asked) == 1
    assert (text.returncode, again.returncode) == (0, 0)
    assert (
        b"Carbon Intensity GB (NESO), intensity of GB from 2026-03-01 00:00 UTC to 2026-03-01 02:00 UTC: answered\n"
        in text.stderr
    )
    assert b"still" not in text.stderr
    assert b"when parts of the intensity were guesses" in text.stdout
    assert b"live, of GB" in text.stdout
    assert b"yearly average" not in text.stdout
    assert b"nothing is missing or a guess: nothing was asked" in again.stderr
    (run,) = json.loads(again.stdout)["runs"]
    assert run["co2eq_g"] == pytest.approx(expected, rel=1e-9)
    assert run["co2eq_g_before"] == pytest.approx(before["co2eq_g"], rel=1e-12)
    assert run["it_energy_kwh"] == before["it_energy_kwh"]
    later = await command(str(tmp_path), "--json", "-", environ=NOBODY)
    assert json.loads(later.stdout)["runs"] == [run]
    assert later.stderr == b""


async def test_server_that_is_down_changes_nothing_is_said_and_may_be_asked_later(tmp_path: Path) -> None:
    a_journal(tmp_path)
    down = await command(str(tmp_path), "--refresh", "--json", "-", environ=NOBODY)
    assert down.returncode == 0
    assert json.loads(down.stdout)["runs"][0]["co2eq_g"] == pytest.approx(grams(lambda _: 300.0), rel=1e-9)
    assert b"cannot be reached" in down.stderr
    assert b"run-1: the intensity of 3 h 00 min of 3 h 00 min is a guess still:\naiocarbon:   " in down.stderr
    assert names(tmp_path) == ["node-1-7-0.jsonl"]
    async with LocalServer(GB) as server:
        up = await command(str(tmp_path), "--refresh", "--json", "-", environ=server.environ)
    (run,) = json.loads(up.stdout)["runs"]
    assert run["co2eq_g"] == pytest.approx(grams(g_at), rel=1e-9)
    assert run["co2eq_g_before"] == pytest.approx(grams(lambda _: 300.0), rel=1e-9)


async def test_offline_asks_nobody_and_says_so(tmp_path: Path) -> None:
    a_journal(tmp_path)
    async with LocalServer(GB) as server:
        done = await command(str(tmp_path), "--refresh", environ=server.environ | {"AIOCARBON_OFFLINE": "true"})
        assert server.paths == []
    assert done.returncode == 0
    assert b"no packet may be sent (offline)" in done.stderr
    assert b"CO2eq" in done.stdout


async def test_figure_that_cannot_be_kept_is_shown_all_the_same(tmp_path: Path) -> None:
    # The name of a temporary file would be too long: for the superuser no folder is read-only.
    path = a_journal(tmp_path).rename(tmp_path / f"{'x' * 240}.jsonl")
    async with LocalServer(GB) as server:
        done = await command(str(path), "--refresh", "--json", "-", environ=server.environ)
    assert done.returncode == 0
    assert b"what was learnt of run-1 could not be kept: " in done.stderr
    assert json.loads(done.stdout)["runs"][0]["co2eq_g"] == pytest.approx(grams(g_at), rel=1e-9)
    assert names(tmp_path) == [path.name]


async def test_nothing_readable_is_a_failure_and_nobody_is_asked(tmp_path: Path) -> None:
    async with LocalServer(GB) as server:
        done = await command(str(tmp_path), "--refresh", environ=server.environ)
        assert server.paths == []
    assert (done.returncode, done.stdout) == (1, b"")


# -- a place that was a guess -------------------------------------------------------------------------------------

BRITISH = {"/v1/ip/geo.json": {"country_code": "GB"}, "/json": {"country": "GB"}}


def here() -> str:
    return HERE


def a_guess(folder: Path, *steps: tuple[float, IntensityValue]) -> Path:
    """A run that took itself to be in Germany, by its time zone."""
    path = a_journal(folder, *steps, zone="DE", how="time zone", is_guess=True)
    with path.open("a") as file:
        file.write(records.line({"k": "warning", "text": "location DE is a guess (time zone); give it with location="}))
    return path


async def test_place_that_was_a_guess_is_asked_for_and_all_of_the_run_counts_there(tmp_path: Path) -> None:
    hour = 3600.0
    path = a_guess(tmp_path, (0.0, value(640.0, Quality.LIVE)), (2 * hour, value(777.0, Quality.GIVEN)))
    await refreshed(tmp_path, environ_at("http://127.0.0.1:1"), machine=here)  # nobody answers
    assert names(tmp_path) == [path.name]
    async with LocalServer({**GB, **BRITISH}) as server:
        loaded, found, text = await refreshed(tmp_path, server.environ, machine=here)
        asked = list(server.paths)
        again, _, _ = await refreshed(tmp_path, server.environ, machine=here)
        assert server.paths == asked
    (run,) = loaded.runs
    written = [640.0, 640.0, 777.0]
    assert (run.location.zone, run.location.how, run.location.is_guess) == ("GB", "geolocation", False)
    assert run.co2eq_g == pytest.approx(
        grams(lambda at_s: 777.0 if at_s >= BEGIN_S + 2 * hour else g_at(at_s)), rel=1e-9
    )
    assert run.co2eq_g_before == pytest.approx(grams(lambda at_s: written[int((at_s - BEGIN_S) // hour)]), rel=1e-9)
    (told,) = run.warnings  # and no more that it is a guess
    assert "DE was a guess (time zone)" in told
    assert "(GB)" in told
    assert "asked of two web services" in text
    assert found.left == ()
    assert again.runs == loaded.runs
    assert names(tmp_path) == ["node-1-7-0.intensity", path.name, "node-1-7-0.place"]


async def test_place_of_another_machine_or_that_is_said_or_offline_is_not_asked_for(tmp_path: Path) -> None:
    path = a_guess(tmp_path)
    async with LocalServer(BRITISH) as server:
        _, _, text = await refreshed(tmp_path, server.environ, machine=lambda: "another")
        for said in ({"location": "GB"}, {"intensity": 1.0}, {"intensity": "./own.csv"}):
            await refreshed(tmp_path, server.environ, machine=here, settings=said)
        await refreshed(tmp_path, server.environ, machine=here, is_offline=True)
        assert not {"/json", "/v1/ip/geo.json"} & set(server.paths)
    assert "runs of other machines: refresh them there" in text
    assert names(tmp_path) == [path.name]


async def test_services_that_fail_are_told_and_asked_again_later(tmp_path: Path) -> None:
    a_guess(tmp_path / "runs")
    async with LocalServer({"/json": {"country": "GB"}}) as server:
        for _ in range(2):
            loaded, _, text = await refreshed(tmp_path / "runs", server.environ, machine=here, cache=tmp_path / "cache")
        assert server.paths.count("/json") == 1
    assert "they are asked again from" in text
    assert loaded.runs[0].location.zone == "DE"


async def test_of_two_copies_of_a_journal_the_place_that_was_found_last_counts(tmp_path: Path) -> None:
    places = {"a": (2.0, "FR"), "b": (3.0, "GB"), "c": (1.0, "SE")}
    for name, (asked_s, zone) in places.items():
        path = a_guess(tmp_path / name)
        (process,) = gather([path], [])
        write_place(
            path, process.ident, FoundPlace(asked_s, replace(process.facts.location, zone=zone, is_guess=False))
        )
        write_sidecar(path, process.ident, (Stretch(0.0, 1e10, value(1.0, Quality.LIVE), asked_s - 0.5),))
    problems: list[str] = []
    (run,) = tell(gather([tmp_path], problems), problems).runs
    assert run.location.zone == "GB"
    assert {use.zone for use in run.intensity_sources} == {"GB"}
    assert {use.quality for use in run.intensity_sources} == {Quality.AVERAGE}


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"schema": "x", "ident": "y"}', "[" * 9999, "{}"])
async def test_file_of_a_place_that_is_torn_or_foreign_is_left_out_and_told(text: str, tmp_path: Path) -> None:
    path = a_guess(tmp_path)
    path.with_suffix(".place").write_text(text)
    problems: list[str] = []
    (process,) = gather([path], problems)
    assert process.facts.location.zone == "DE"
    assert any("node-1-7-0.place" in problem for problem in problems)


# -- what is replaced ----------------------------------------------------------------------------------------------


async def test_guesses_alone_are_replaced(tmp_path: Path) -> None:
    hour = 3600.0
    a_journal(
        tmp_path,
        (0.0, value(111.0, Quality.LIVE)),
        (hour, value(222.0, Quality.FORECAST)),
        (2 * hour, value(333.0, Quality.CACHED)),
        (3 * hour, value(444.0, Quality.ESTIMATED, "Energy-Charts")),
        (4 * hour, value(555.0, Quality.ESTIMATED, "Carbon Intensity GB (NESO)")),
        (5 * hour, value(666.0, Quality.GIVEN)),
        hours=6.0,
    )
    async with LocalServer(GB) as server:
        loaded, _, _ = await refreshed(tmp_path, server.environ)

    def g_of(at_s: float) -> float:
        kept = {0: 111.0, 3: 444.0, 5: 666.0}
        return kept.get(int((at_s - BEGIN_S) // hour), g_at(at_s))

    assert loaded.runs[0].co2eq_g == pytest.approx(grams(g_of, hours=6.0), rel=1e-9)


async def test_no_sliver_of_a_guess_is_left_at_the_ends_of_a_run(tmp_path: Path) -> None:
    for n in range(40):
        a_journal(tmp_path, begin_s=BEGIN_S + n * 0.123456789, hours=0.5 + n * 0.00123, pid=n, run_id=f"run-{n}")
    async with LocalServer(GB) as server:
        loaded, found, _ = await refreshed(tmp_path, server.environ)
    assert found.left == ()
    assert {use.quality for run in loaded.runs for use in run.intensity_sources} == {"live"}


async def test_number_of_the_user_is_never_asked_about(tmp_path: Path) -> None:
    a_journal(tmp_path, (-1e6, value(444.0, Quality.GIVEN)))
    async with LocalServer(GB) as server:
        loaded, found, said = await refreshed(tmp_path, server.environ)
        assert server.paths == []
    assert loaded.runs[0].co2eq_g == pytest.approx(grams(lambda _: 444.0), rel=1e-9)
    assert found.left == ()
    assert said == "nothing is missing or a guess: nothing was asked"


async def test_hole_in_what_a_source_has_stays_a_guess_and_is_told_with_its_length(tmp_path: Path) -> None:
    a_journal(tmp_path)
    hole_s = BEGIN_S + 20 * 60 + HALF_HOUR_S
    environ = {"AIOCARBON_ENERGYCHARTS_URL": "http://127.0.0.1:1"}

    def answer(request: web.Request) -> Any:
        said = half_hours(request)
        return {"data": [one for one in said["data"] if one["from"] != stamp(hole_s)]}

    async with LocalServer({"/intensity/": answer}) as server:
        loaded, found, said = await refreshed(tmp_path, server.environ | environ)

    def g_of(at_s: float) -> float:
        return 300.0 if hole_s <= at_s < hole_s + HALF_HOUR_S else g_at(at_s)

    assert loaded.runs[0].co2eq_g == pytest.approx(grams(g_of), rel=1e-9)
    (left,) = found.left
    assert left.guess_s == pytest.approx(1800.0)
    assert "30 min 00 s of 3 h 00 min is a guess still:\n  Carbon Intensity GB (NESO) has nothing better so far" in said


async def test_half_hour_that_is_not_metered_yet_is_asked_for_again_later(tmp_path: Path) -> None:
    a_journal(tmp_path, hours=1.0)

    def unmetered(request: web.Request) -> Any:
        return half_hours(request, actual=lambda _: None)

    async with LocalServer({"/intensity/": unmetered}) as server:
        first, _, _ = await refreshed(tmp_path, server.environ)
    assert first.runs[0].co2eq_g == pytest.approx(grams(lambda _: 7.0, hours=1.0), rel=1e-9)
    async with LocalServer(GB) as server:
        second, _, _ = await refreshed(tmp_path, server.environ)
    assert second.runs[0].co2eq_g == pytest.approx(grams(g_at, hours=1.0), rel=1e-9)
    assert second.runs[0].co2eq_g_before == pytest.approx(grams(lambda _: 300.0, hours=1.0), rel=1e-9)


async def test_run_of_this_very_time_is_not_asked_about_before_its_value_is_published(tmp_path: Path) -> None:
    now_s = time.time()
    begin_s = now_s // HALF_HOUR_S * HALF_HOUR_S + 60.0  # of the half hour that runs, wherever in it the test does
    a_journal(tmp_path, hours=0.1, begin_s=begin_s)
    environ = {"AIOCARBON_ENERGYCHARTS_URL": "http://127.0.0.1:1"}
    async with LocalServer(GB) as server:
        _, found, said = await refreshed(tmp_path, server.environ | environ)
        assert "/intensity/" not in "".join(server.paths)
    assert "Carbon Intensity GB (NESO) has not published it yet" in said
    assert found.problems == ()


async def test_run_that_broke_off_is_refreshed_up_to_its_newest_point(tmp_path: Path) -> None:
    a_journal(tmp_path, ended=False)
    async with LocalServer(GB) as server:
        loaded, _, _ = await refreshed(tmp_path, server.environ)
    assert loaded.runs[0].co2eq_g == pytest.approx(grams(g_at), rel=1e-9)
    assert not loaded.runs[0].ended_well


async def test_run_whose_wall_clock_was_set_back_is_asked_about_both_its_times(tmp_path: Path) -> None:
    path = a_journal(tmp_path)
    set_back = {"k": "wall", "t": T0 + 5400 * S, "wall_ns": round((BEGIN_S + 5400 - 7200) * S)}
    path.write_text(path.read_text() + records.line(set_back))
    async with LocalServer(GB) as server:
        loaded, found, _ = await refreshed(tmp_path, server.environ)
    first = grams(g_at, hours=1.5)
    second = grams(g_at, hours=1.5, begin_s=BEGIN_S + 5400 - 7200)
    assert loaded.runs[0].co2eq_g == pytest.approx(first + second, rel=1e-9)
    assert found.left == ()


# -- who is asked --------------------------------------------------------------------------------------------------


async def test_processes_of_one_place_share_one_question(tmp_path: Path) -> None:
    for n in range(8):
        a_journal(tmp_path / "run-1", pid=n, begin_s=BEGIN_S + n)
    a_journal(tmp_path / "run-2", pid=99, begin_s=BEGIN_S + 20 * 3600.0, run_id="run-2")
    async with LocalServer(GB) as server:
        loaded, _, _ = await refreshed(tmp_path, server.environ)
        assert len(server.paths) == 1
    assert [run.run_id for run in loaded.runs] == ["run-1", "run-2"]
    assert loaded.runs[1].co2eq_g == pytest.approx(grams(g_at, begin_s=BEGIN_S + 20 * 3600.0), rel=1e-9)
    assert all(run.co2eq_g_before is not None for run in loaded.runs)
    assert len(names(tmp_path, "*.intensity")) == 9


async def test_processes_of_a_run_that_lack_the_same_are_told_as_one(tmp_path: Path) -> None:
    for n in range(8):
        a_journal(tmp_path, pid=n, zone="WORLD", hours=1.0 + n)
    _, found, said = await refreshed(tmp_path, NOBODY)
    assert len(found.left) == 8
    assert said == (
        "run-1: the intensity of 8 h 00 min of 8 h 00 min (of 8 processes, the one with most) is a guess still:\n"
        "  no source covers WORLD (WORLD)"
    )


async def test_long_run_is_asked_for_by_the_week_the_newest_first(tmp_path: Path) -> None:
    hours = 24.0 * 20
    a_journal(tmp_path, hours=hours)
    async with LocalServer(GB) as server:
        loaded, _, _ = await refreshed(tmp_path, server.environ)
        asked = server.paths
    assert 3 <= len(asked) <= 4
    assert asked == sorted(asked, reverse=True)
    assert loaded.runs[0].co2eq_g == pytest.approx(grams(g_at, hours=hours), rel=1e-9)


@pytest.mark.parametrize(("fails", "why"), [(404, "answered 404"), (hang, "no answer within 0.5 s")])
async def test_next_source_is_asked_where_the_first_one_fails(tmp_path: Path, fails: object, why: str) -> None:
    a_journal(tmp_path, zone="FR")
    async with LocalServer({"/api/": fails, "/co2eq": quarters}) as server:
        loaded, found, said = await refreshed(tmp_path, server.environ, ask_limit_s=0.5)
    assert loaded.runs[0].co2eq_g == pytest.approx(grams(lambda _: 640.0), rel=1e-9)
    assert found.left == ()
    assert [one.zone for one in found.asked] == ["FR", "FR"]
    assert [why in one.why for one in found.asked] == [True, False]
    assert found.asked[1].title == "Energy-Charts"
    assert "still" not in said


def test_each_week_has_its_turn_at_a_source_that_wants_a_minute_between_two_questions() -> None:
    assert ASK_LIMIT_S > dk.SPACING_S + TOTAL_LIMIT_S


async def test_source_that_fails_is_not_asked_for_older_pieces(tmp_path: Path) -> None:
    a_journal(tmp_path, hours=24.0 * 30)
    async with LocalServer({"/intensity/": 404, "/co2eq": 404}) as server:
        _, found, _ = await refreshed(tmp_path, server.environ)
        assert len([path for path in server.paths if path.startswith("/intensity/")]) == 1
    assert len(found.left) == 1


async def test_time_that_is_up_keeps_what_is_known_by_then(tmp_path: Path) -> None:
    a_journal(tmp_path, hours=24.0 * 10)
    times = iter(range(100))

    def first_only(request: web.Request) -> Any:
        return half_hours(request) if next(times) == 0 else hang(request)

    async with LocalServer({"/intensity/": first_only}) as server:
        loaded, found, said = await refreshed(tmp_path, server.environ, limit_s=1.0)
    assert names(tmp_path, "*.intensity") == ["node-1-7-0.intensity"]
    assert found.left
    assert "in time; refresh again" in said
    assert loaded.runs[0].co2eq_g != pytest.approx(grams(lambda _: 300.0, hours=240.0), rel=1e-6)


async def test_place_that_no_source_covers_is_told(tmp_path: Path) -> None:
    a_journal(tmp_path, zone="WORLD")
    loaded, _, said = await refreshed(tmp_path, NOBODY)
    assert "no source covers WORLD (WORLD)" in said
    assert loaded.runs[0].co2eq_g == pytest.approx(grams(lambda _: 300.0), rel=1e-9)


async def test_source_that_lacks_its_token_is_told_where_something_is_left(tmp_path: Path) -> None:
    a_journal(tmp_path, zone="DE")
    async with LocalServer({}) as server:
        _, _, said = await refreshed(tmp_path, server.environ)
    assert "electricitymaps: " in said
    assert "AIOCARBON_ELECTRICITYMAPS_TOKEN" in said


async def test_file_that_the_user_names_now_comes_first(tmp_path: Path) -> None:
    a_journal(tmp_path / "runs")
    own = tmp_path / "mine.csv"
    own.write_text(f"time,g_per_kwh\n{stamp(BEGIN_S)},77\n{stamp(BEGIN_S + 3600.0)},88\n")
    async with LocalServer(GB) as server:
        loaded, _, _ = await refreshed(tmp_path / "runs", server.environ, settings={"intensity": str(own)})

    def g_of(at_s: float) -> float:
        hour = int((at_s - BEGIN_S) // 3600.0)
        return (77.0, 88.0, g_at(at_s))[hour]

    assert loaded.runs[0].co2eq_g == pytest.approx(grams(g_of), rel=1e-9)


async def test_several_places_are_each_asked_their_own_sources(tmp_path: Path) -> None:
    a_journal(tmp_path / "gb")
    a_journal(tmp_path / "de", zone="DE", pid=8, run_id="run-2")
    async with LocalServer({**GB, "/co2eq": quarters}) as server:
        loaded, found, _ = await refreshed(tmp_path, server.environ)
    figures = {run.run_id: run.co2eq_g for run in loaded.runs}
    assert figures["run-1"] == pytest.approx(grams(g_at), rel=1e-9)
    assert figures["run-2"] == pytest.approx(grams(lambda _: 640.0), rel=1e-9)
    assert {(one.title, one.zone) for one in found.asked} == {
        ("Carbon Intensity GB (NESO)", "GB"),
        ("Energy-Charts", "DE"),
    }

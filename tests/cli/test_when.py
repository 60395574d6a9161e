"""`aiocarbon when` and `run --when-clean`: against local servers, files, and nobody; refused words; signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import pytest
from aiohttp import web

import aiocarbon
from aiocarbon._core.profile import Filler
from aiocarbon._engine.clock import SystemClock
from aiocarbon._engine.exchange import Exchange
from aiocarbon._engine.hours import Hours, Outlooker
from aiocarbon.cli.clean_options import WhenOptions
from aiocarbon.cli.main import main
from aiocarbon.cli.when_cmd import text_lines, to_dict
from aiocarbon.intensity.cache import Cache
from aiocarbon.intensity.client import Client
from aiocarbon.settings import Settings
from aiocarbon.testing import LocalServer

pytestmark = pytest.mark.anyio

ROOT = str(Path(aiocarbon.__file__).parents[1])
ENVIRON = {k: v for k, v in os.environ.items() if not k.startswith("AIOCARBON_")} | {
    "PYTHONPATH": ROOT, "AIOCARBON_OFFLINE": "true", "AIOCARBON_CACHE": "none", "TZ": "UTC",
    "AIOCARBON_LOCK_DIR": "none",
}  # fmt: skip
NOW_S = datetime(2026, 11, 21, 13, 37, tzinfo=UTC).timestamp()
COPENHAGEN = ZoneInfo("Europe/Copenhagen")
QUARTER_S, HOUR_S, DAY_S = 900, 3600.0, 86400.0
SERVICES = ("ENERGYCHARTS", "ELECTRICITYMAPS", "WATTTIME", "GEOJS", "IPINFO")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def blocking(function: Callable[..., Any], *arguments: Any) -> Any:
    return await anyio.to_thread.run_sync(function, *arguments)


class At(SystemClock):
    """A clock whose wall shows an afternoon in November, whenever the test runs."""

    def wall_ns(self) -> int:
        return round(NOW_S * 1e9)


def grams(at_s: float) -> float:
    """100 from 22:00 to 6:00 UTC, else 400."""
    return 100.0 if at_s % DAY_S // HOUR_S >= 22 or at_s % DAY_S // HOUR_S < 6 else 400.0


class Charts:
    """Quarter hours in the shape of Energy-Charts: measured up to now, then forecast for so long."""

    def __init__(self, ahead_h: float, past_h: float = 200.0) -> None:
        self._ahead_s, self._past_s = ahead_h * HOUR_S, past_h * HOUR_S
        self.asked: list[Mapping[str, str]] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(dict(request.query))
        if not request.path.endswith("/co2eq"):
            return web.Response(status=404)
        begin_s = float(request.query.get("start", NOW_S - HOUR_S))
        end_s = float(request.query.get("end", NOW_S + self._ahead_s))
        begin_s = max(begin_s, NOW_S - self._past_s) // QUARTER_S * QUARTER_S
        times = [int(begin_s) + i * QUARTER_S for i in range(int((end_s - begin_s) / QUARTER_S))]
        return web.json_response(
            {
                "unix_seconds": times,
                "co2eq": [grams(at) if at <= NOW_S else None for at in times],
                "co2eq_forecast": [grams(at) if at > NOW_S else None for at in times],
                "deprecated": False,
            }
        )


@asynccontextmanager
async def serving(charts: Charts) -> AsyncIterator[dict[str, str]]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", charts.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield {f"AIOCARBON_{name}_URL": f"http://127.0.0.1:{runner.addresses[0][1]}" for name in SERVICES}
    finally:
        await runner.cleanup()


async def hours_of(charts: Charts, ahead_s: float, **settings: Any) -> Hours:
    made = Settings(location="DE", pue=1.0, **settings)
    async with serving(charts) as environ:
        exchange = Exchange(At(), None if made.offline else Client(blocking), Cache(None), blocking)
        arguments = {"location": made.location}
        try:
            return await Outlooker(exchange, made, arguments, limit_s=30.0, environ=environ).look(ahead_s=ahead_s)
        finally:
            await exchange.aclose()


def asked_for(duration_h: float, within_h: float, **more: Any) -> WhenOptions:
    return WhenOptions(settings={}, duration_s=duration_h * HOUR_S, within_s=within_h * HOUR_S, **more)


def told(hours: Hours, options: WhenOptions, *, width: int | None = None, blocks: bool = True) -> str:
    plan = hours.plan(options.duration_s, blocks=options.blocks, least_s=options.least_s, power_w=options.power_w)
    return "\n".join(text_lines(hours, plan, options, width=width, blocks=blocks, tz=COPENHAGEN))


def planned(hours: Hours, options: WhenOptions) -> dict[str, Any]:
    plan = hours.plan(options.duration_s, blocks=options.blocks, least_s=options.least_s, power_w=options.power_w)
    data: dict[str, Any] = json.loads(json.dumps(to_dict(hours, plan, options), allow_nan=False))
    return data


# -- what is planned ---------------------------------------------------------------------------------------------


async def test_start_of_least_emission_is_told_with_what_it_saves() -> None:
    charts = Charts(ahead_h=30.0)
    options = asked_for(4.0, 24.0, power_w=500.0)
    text = told(await hours_of(charts, options.within_s), options)
    for words in (
        "aiocarbon: begin at 23:00, 8 h 23 min from now: 75 % less CO2eq than now",
        "  work        4 h 00 min within 1 d 00 h, done by Sun 14:37, 500 W",
        "  now         400 gCO2eq/kWh, 800 g CO2eq (",
        "  best        23:00 to Sun 03:00: 100 gCO2eq/kWh, 200 g CO2eq (170 to 230 g)",
        "  saves       75 % less (",
        "than now: 600 g CO2eq (",
        "than the mean up to Sun 14:37",
        "  energy      2.00 kWh with PUE 1 (",
        "  location    Germany (DE), as given",
        "  known       Energy-Charts until Sun 14:37, which is all of the window",
        "by local time (CET); ^ marks the work",
    ):
        assert words in text
    assert all("start" not in question for question in charts.asked)  # the forecast is enough: no past was asked for


async def test_chosen_hours_are_marked_below_the_axis() -> None:
    options = asked_for(4.0, 24.0)
    lines = told(await hours_of(Charts(ahead_h=30.0), options.within_s), options, width=72).splitlines()
    row = next(line for line in lines if line.strip(" ^") == "" and "^" in line)
    axis = next(line for line in lines if "└" in line)
    columns = len(axis) - axis.index("└") - 1
    first = row.index("^") - axis.index("└") - 1
    assert first == pytest.approx((8 * HOUR_S + 23 * 60) / DAY_S * columns, abs=1.0)
    assert row.count("^") == pytest.approx(4.0 / 24.0 * columns, abs=1.0)


async def test_blocks_leave_out_the_day_between_two_nights() -> None:
    options = asked_for(12.0, 48.0, blocks=2, least_s=HOUR_S, power_w=100.0)
    hours = await hours_of(Charts(ahead_h=60.0), options.within_s)
    data = planned(hours, options)
    assert len(data["blocks"]) == 2
    assert data["g_per_kwh"] == pytest.approx(100.0)
    assert data["co2eq_g"] == pytest.approx(120.0)
    assert data["grid_s"] > 0
    text = told(hours, options)
    assert "in 2 blocks: 68 % less CO2eq than now" in text
    assert "in all: 100 gCO2eq/kWh, 120 g CO2eq" in text
    assert "the best of all on a grid of" in text
    assert "grid of" not in told(hours, asked_for(12.0, 48.0))


async def test_json_is_what_the_text_says() -> None:
    options = asked_for(4.0, 24.0, power_w=500.0)
    data = planned(await hours_of(Charts(ahead_h=30.0), options.within_s), options)
    assert (data["schema"], data["at"]) == ("aiocarbon.when/1", "2026-11-21T13:37:00+00:00")
    assert (data["begins_at"], data["ends_at"]) == ("2026-11-21T22:00:00+00:00", "2026-11-22T02:00:00+00:00")
    assert (data["is_now"], data["beyond"], data["grid_s"]) == (False, "nothing", None)
    assert data["saved"]["co2eq_g"] == pytest.approx(600.0)
    assert data["saved"]["share"] == pytest.approx(0.75)
    assert data["saved"]["share_low"] < 0.75 < data["saved"]["share_high"]
    assert data["now"]["co2eq_g"] == pytest.approx(800.0)
    assert data["energy_kwh"] == pytest.approx(2.0)
    assert data["curve"][-1]["to"] == data["planned_until"] == "2026-11-22T13:37:00+00:00"
    bare = planned(await hours_of(Charts(ahead_h=30.0), options.within_s), asked_for(4.0, 24.0))
    assert (bare["co2eq_g"], bare["energy_kwh"], bare["saved"]["co2eq_g"]) == (None, None, None)


# -- beyond the forecast -----------------------------------------------------------------------------------------


async def test_daily_profile_stands_behind_a_short_forecast_and_is_said() -> None:
    charts = Charts(ahead_h=2.0)
    options = asked_for(4.0, 24.0)
    hours = await hours_of(charts, options.within_s)
    assert (hours.filler, hours.days) == (Filler.PROFILE, 3)
    assert sum("start" in question for question in charts.asked) == 1
    text = told(hours, options)
    assert "begin at 23:00" in text
    assert "Energy-Charts until 16:3" in text
    assert "beyond, what was measured at the same time of day in the last 3 days" in text


async def test_days_whose_turn_had_not_come_are_asked_for_two_minutes_later() -> None:
    class Shifted(SystemClock):
        shift_s = 0.0

        def wall_ns(self) -> int:
            return round((NOW_S + self.shift_s) * 1e9)

    def danish(request: web.Request) -> dict[str, Any]:
        query = request.query
        if query["start"].startswith("now"):
            times: Iterable[float] = [NOW_S // 300 * 300]
        else:
            begin, end = (datetime.fromisoformat(f"{query[key]}Z").timestamp() for key in ("start", "end"))
            times = (begin + 300.0 * i for i in range(int((end - begin) / 300)))
        stamps = ((datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S"), grams(at)) for at in times)
        return {"records": [{"Minutes5UTC": at, "PriceArea": "DK1", "CO2Emission": g} for at, g in stamps]}

    async with LocalServer({"/dataset/": danish}) as server:
        clock = Shifted()
        exchange = Exchange(clock, Client(blocking), Cache(None), blocking)
        settings = Settings(location="DK-DK1", pue=1.0)
        outlooker = Outlooker(exchange, settings, {"location": "DK-DK1"}, environ=server.environ)
        for clock.shift_s, filler in ((0.0, Filler.AVERAGE), (90.0, Filler.AVERAGE), (130.0, Filler.PROFILE)):
            assert (await outlooker.look(ahead_s=24 * HOUR_S)).filler is filler
        await exchange.aclose()


async def test_average_stands_where_there_is_no_day_of_past_and_is_not_waited_for() -> None:
    options = asked_for(1.0, 24.0)
    hours = await hours_of(Charts(ahead_h=10.0, past_h=5.0), options.within_s)
    assert hours.filler is Filler.AVERAGE
    text = told(hours, options)
    assert "begin at 23:00" in text
    assert "which has no clean hours: the work is planned into what is known" in text
    longer = asked_for(12.0, 24.0)
    assert "begin now: the forecast is shorter than the work" in told(hours, longer)


async def test_nobody_who_says_anything_means_now_and_why() -> None:
    options = asked_for(4.0, 24.0, power_w=100.0)
    hours = await hours_of(Charts(ahead_h=1.0), options.within_s, offline=True)
    text = told(hours, options)
    assert text.startswith("aiocarbon: begin now: nobody says what the intensity will be")
    assert "nothing ahead: the yearly average (" in text
    assert "Energy-Charts (DE): not asked: no packet may be sent (offline)" in text
    assert "saves" not in text
    assert planned(hours, options)["is_now"] is True


@pytest.mark.parametrize("width", [40, 72, 200])
async def test_no_line_of_values_is_wider_than_the_terminal(width: int) -> None:
    options = asked_for(6.0, 36.0, power_w=500.0, blocks=3)
    hours = await hours_of(Charts(ahead_h=20.0), options.within_s)
    lines = told(hours, options, width=width).splitlines()
    wide = [line for line in lines if len(line) > width]
    assert all(line.startswith(("aiocarbon: ", "intensity, ")) for line in wide)
    assert told(hours, options, blocks=False).isascii()


# -- as people type it -------------------------------------------------------------------------------------------


def write(path: Path, rows: Iterable[tuple[float, float]]) -> Path:
    lines = [f"{datetime.fromtimestamp(at, UTC).isoformat()},{g}" for at, g in rows]
    path.write_text("\n".join(["time,value", *lines]) + "\n", encoding="utf-8")
    return path


def test_command_answers_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hour = time.time() // HOUR_S * HOUR_S
    path = write(tmp_path / "g.csv", [(hour + i * HOUR_S, 50.0 if i == 5 else 300.0) for i in range(30)])
    words = ["when", "--duration", "60min", "--within", "1d", "--power", "1.5 kW", "--location", "DE"]
    assert main([*words, "--intensity", str(path), "--pue", "1", "--json", "-"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert datetime.fromisoformat(data["begins_at"]).timestamp() == hour + 5 * HOUR_S
    assert data["co2eq_g"] == pytest.approx(75.0)
    assert main([*words, "--intensity", str(path)]) == 0
    assert "begin at" in capsys.readouterr().out
    assert main(["when", "--duration", "1h", "--intensity", "300"]) == 0
    assert "begin now: the intensity was given as a number" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--duration"),
        (["--duration", "8"], "s, min, h, d"),
        (["--duration", "8 hours"], "s, min, h, d"),
        (["--duration", "0h"], "s, min, h, d"),
        (["--duration=-8h"], "s, min, h, d"),
        (["--duration", "nanh"], "s, min, h, d"),
        (["--duration", "25h"], "longer than --within 24h"),
        (["--duration", "8h", "--within", "6h"], "longer than --within 6h"),
        (["--duration", "8h", "--within", "15d"], "at most 14d"),
        (["--duration", "8h", "--power", "300"], "W or kW"),
        (["--duration", "8h", "--power", "300 hp"], "--power"),
        (["--duration", "8h", "--power", "0W"], "--power"),
        (["--duration", "8h", "--blocks", "0"], "from 1 to 24"),
        (["--duration", "8h", "--blocks", "two"], "from 1 to 24"),
        (["--duration", "8h", "--least", "1h"], "--least goes with --blocks"),
        (["--duration", "8h", "--blocks", "2", "--least", "9h"], "longer than --duration"),
        (["--duration", "8h", "--location", "XX"], "location"),
        (["--duration", "8h", "--intensity", "-5"], "intensity"),
        (["--duration", "8h", "--json", "/nowhere/at/all"], "--json"),
    ],
)
def test_words_that_cannot_be_meant_are_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["when", *words]) == 2
    out, err = capsys.readouterr()
    assert said in err
    assert not out
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--within", "3h"], "--within goes with --when-clean"),
        (["--duration", "3h"], "--duration goes with --when-clean"),
        (["--when-clean", "--within", "3"], "s, min, h, d"),
        (["--when-clean", "--within", "2h", "--duration", "3h"], "longer than --within"),
        (["--when-clean", "--duration", "30h"], "longer than --within 24h"),
    ],
)
def test_run_refuses_a_wait_that_cannot_be_meant(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *words, "--", "true"]) == 2
    assert said in capsys.readouterr().err


# -- run --when-clean --------------------------------------------------------------------------------------------


def run_words(path: Path, *options: str) -> list[str]:
    run = ("run", "--when-clean", "--intensity", str(path), "--location", "DE", "--meters", "simulated:50")
    child = ("--", sys.executable, "-c", "print('ran')")
    return [sys.executable, "-m", "aiocarbon", *run, "--no-journal", *options, *child]


def test_run_does_not_begin_before_the_clean_hour_and_tells_it(tmp_path: Path) -> None:
    clean_s = time.time() + 2.0
    rows = [(clean_s - HOUR_S, 400.0), (clean_s, 100.0), (clean_s + HOUR_S, 90.0), (clean_s + 2 * HOUR_S, 300.0)]
    path = write(tmp_path / "g.csv", [rows[0], rows[1], (clean_s + HOUR_S, 100.0), rows[3]])
    words = run_words(path, "--within", "6h", "--duration", "1h", "--json", str(tmp_path / "out.json"))
    done = subprocess.run(words, env=ENVIRON, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "ran\n")
    report = json.loads((tmp_path / "out.json").read_text())
    assert datetime.fromisoformat(report["started_at"]).timestamp() >= clean_s - 1.0  # a second is soon enough
    assert any("for clean electricity" in warning for warning in report["warnings"])
    assert "for clean electricity" in done.stderr


def test_run_does_not_wait_where_nobody_says_anything(tmp_path: Path) -> None:
    words = [word for word in run_words(tmp_path, "--within", "12h") if word not in {"--intensity", str(tmp_path)}]
    done = subprocess.run(words, env=ENVIRON, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert "for clean electricity: nobody says what the intensity will be" in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_ends_the_wait_and_no_child_was_started(tmp_path: Path, number: signal.Signals, code: int) -> None:
    hour = time.time() // HOUR_S * HOUR_S
    path = write(tmp_path / "g.csv", [(hour + i * HOUR_S, 400.0 if i < 5 else 100.0) for i in range(12)])
    with subprocess.Popen(
        run_words(path, "--within", "10h"), env=ENVIRON, cwd=tmp_path, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as waiting:  # fmt: skip
        assert waiting.stderr is not None
        said = waiting.stderr.readline()
        waiting.send_signal(number)
        out, rest = waiting.communicate()
    assert waiting.returncode == code
    assert "waits for its lowest hour (no --duration was given), until " in said
    assert "100 gCO2eq/kWh instead of 400 (g.csv)" in said
    assert not out
    assert "Traceback" not in rest


def test_without_a_duration_the_command_begins_within_the_time(tmp_path: Path) -> None:
    clean_s = time.time() + 2.0
    path = write(tmp_path / "g.csv", [(clean_s - HOUR_S, 400.0), (clean_s, 100.0), (clean_s + HOUR_S, 100.0)])
    words = run_words(path, "--within", "1min", "--json", str(tmp_path / "out.json"))
    done = subprocess.run(words, env=ENVIRON, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "ran\n")
    started_s = datetime.fromisoformat(json.loads((tmp_path / "out.json").read_text())["started_at"]).timestamp()
    assert started_s >= clean_s - 1.0


def test_quiet_run_says_nothing_of_its_wait(tmp_path: Path) -> None:
    path = write(tmp_path / "g.csv", [(time.time() - HOUR_S + i * HOUR_S, 100.0) for i in range(12)])
    words = run_words(path, "--within", "3h", "--quiet")
    done = subprocess.run(words, env=ENVIRON, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n", "")

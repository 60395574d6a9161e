"""`aiocarbon intensity`: what it shows of sources that answer, fail, hang or are not asked, on real local servers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import pytest
from aiohttp import web

import aiocarbon
from aiocarbon._engine.clock import SystemClock
from aiocarbon._engine.exchange import Exchange
from aiocarbon._engine.survey import Survey, survey
from aiocarbon.cli.intensity_cmd import text_lines, to_dict, why_no_forecast
from aiocarbon.cli.main import main
from aiocarbon.intensity.cache import Cache
from aiocarbon.intensity.client import Client
from aiocarbon.settings import Settings
from aiocarbon.testing import LocalServer, environ_at

pytestmark = pytest.mark.anyio

ROOT = str(Path(aiocarbon.__file__).parents[1])
NOW_S = datetime(2026, 11, 21, 13, 37, tzinfo=UTC).timestamp()
QUARTER_S = 900
COPENHAGEN = ZoneInfo("Europe/Copenhagen")
TOKEN = "tok-4711-secret"

ENERGYCHARTS, ELECTRICITYMAPS = "/co2eq", "/carbon-intensity/"


async def blocking(function: Callable[..., Any], *arguments: Any) -> Any:
    return await anyio.to_thread.run_sync(function, *arguments)


class At(SystemClock):
    """A clock whose wall shows an afternoon in November, whenever the test runs."""

    def wall_ns(self) -> int:
        return round(NOW_S * 1e9)


async def hang(_: web.Request) -> None:
    await anyio.sleep_forever()


def repeating(status: int) -> Callable[[web.Request], web.Response]:
    """Refuses with what was sent in the answer, as some services do."""
    return lambda request: web.Response(text=f"no, {request.headers['auth-token']}", status=status)


def germany(now_s: float = NOW_S, *, ahead: int = 96) -> dict[str, Any]:
    """A day's answer of Energy-Charts: 400 up to now, then a forecast that falls to 100 in its tenth hour."""
    begin = int(now_s // QUARTER_S) * QUARTER_S
    measured: list[Any] = [400.0] * 5 + [None] * ahead
    falling = [100.0 if 36 <= i < 40 else 300.0 for i in range(ahead)]
    return {
        "unix_seconds": [begin + (i - 4) * QUARTER_S for i in range(len(measured))],
        "co2eq": measured,
        "co2eq_forecast": [None] * 5 + falling,
        "deprecated": False,
    }


@asynccontextmanager
async def exchanging(folder: Path | None = None, *, is_offline: bool = False) -> AsyncIterator[Exchange]:
    client = None if is_offline else Client(blocking)
    exchange = Exchange(At(), client, Cache(folder), blocking)
    try:
        yield exchange
    finally:
        await exchange.aclose()


async def surveyed(
    answers: Mapping[str, Any],
    folder: Path | None = None,
    *,
    hours: float | None = 24.0,
    limit_s: float = 30.0,
    environ: Mapping[str, str] | None = None,
    **settings: Any,
) -> tuple[Survey, list[str]]:
    """A survey of a fresh process, and the paths that were asked."""
    made = Settings(**({"location": "DE"} | settings))
    async with LocalServer(answers) as server, exchanging(folder, is_offline=made.offline) as exchange:
        arguments = {"location": made.location} if made.location else {}
        found = await survey(
            exchange, made, arguments, hours=hours, limit_s=limit_s, environ=server.environ | dict(environ or {})
        )
        return found, server.paths


def shown(found: Survey, *, hours: float = 24.0, width: int | None = None, blocks: bool = True) -> str:
    return "\n".join(text_lines(found, hours, width=width, blocks=blocks, tz=COPENHAGEN))


# -- what sources do ---------------------------------------------------------------------------------------------


async def test_source_that_answers_is_what_a_run_would_use_now() -> None:
    found, _ = await surveyed({ENERGYCHARTS: germany()})
    assert (found.now.g_per_kwh, found.now.source, found.now.quality) == (400.0, "Energy-Charts", "live")
    told = {one.name: one for one in found.told}
    assert told["energycharts"].word == "answered"
    assert told["energycharts"].latency_s is not None
    assert told["energycharts"].value == found.now
    assert told["energycharts"].forecast_until_s == NOW_S // QUARTER_S * QUARTER_S + 97 * QUARTER_S


async def test_curve_joins_past_present_and_forecast_without_a_gap() -> None:
    found, _ = await surveyed({ENERGYCHARTS: germany()})
    assert all(a.to_s == b.from_s for a, b in zip(found.curve, found.curve[1:], strict=False))
    assert found.curve[0].from_s == NOW_S // QUARTER_S * QUARTER_S - 4 * QUARTER_S
    assert found.curve[-1].to_s == NOW_S + 24 * 3600.0
    assert {100.0, 300.0, 400.0} == {piece.value.g_per_kwh for piece in found.curve}


async def test_every_source_of_the_chain_is_asked_though_the_first_one_answers() -> None:
    latest = {
        "zone": "DE", "carbonIntensity": 333, "datetime": "2026-11-21T13:00:00.000Z", "isEstimated": False,
        "updatedAt": "2026-11-21T13:10:00.000Z", "emissionFactorType": "lifecycle",
    }  # fmt: skip
    found, _ = await surveyed(
        {ENERGYCHARTS: germany(), f"{ELECTRICITYMAPS}latest": latest, ELECTRICITYMAPS: repeating(403)},
        environ={"AIOCARBON_ELECTRICITYMAPS_TOKEN": TOKEN},
    )
    told = {one.name: one for one in found.told}
    second = told["electricitymaps"]
    assert second.value is not None
    assert (second.word, second.value.g_per_kwh, second.value.factor_basis) == ("answered", 333.0, "life-cycle")
    assert "answered 403" in second.forecast_why
    assert found.now.source == "Energy-Charts"


@pytest.mark.parametrize(
    ("answer", "word", "why"),
    [
        (404, "refuses", "answered 404"),
        ({"unix_seconds": [1], "co2eq": [9e9], "co2eq_forecast": [None]}, "answers nonsense", "not in 0..3000"),
        (germany(NOW_S - 86400.0, ahead=1), "has no data", "too old"),
    ],
)
async def test_source_that_fails_is_told_with_its_reason_and_the_average_counts(
    answer: Any, word: str, why: str
) -> None:
    found, _ = await surveyed({ENERGYCHARTS: answer})
    one = next(one for one in found.told if one.name == "energycharts")
    assert one.word == word
    assert why in one.why
    assert one.value is None
    assert found.now == found.fallback
    assert f"Energy-Charts (DE): {word}: " in shown(found)


async def test_server_that_hangs_costs_no_more_than_the_limit() -> None:
    found, asked = await surveyed({ENERGYCHARTS: hang}, limit_s=0.4)
    one = next(one for one in found.told if one.name == "energycharts")
    assert asked
    assert (one.word, one.why) == ("does not answer", "no answer within 0.4 s")
    assert found.now == found.fallback


async def test_server_that_fails_while_it_is_tried_again_is_told_with_its_last_error() -> None:
    found, _ = await surveyed({ENERGYCHARTS: 500}, limit_s=0.4)  # the first pause is half a second at least
    one = next(one for one in found.told if one.name == "energycharts")
    assert one.word == "does not answer"
    assert "answered 500" in one.why
    assert one.is_asked


async def test_nobody_at_home_is_said_and_no_failure() -> None:
    dead = environ_at("http://127.0.0.1:1")
    found, _ = await surveyed({}, limit_s=0.4, environ=dead)
    one = next(one for one in found.told if one.name == "energycharts")
    assert one.word == "does not answer"
    assert "cannot be reached" in one.why
    assert found.now.quality == "average"


async def test_source_that_this_machine_asked_a_moment_ago_is_told_as_not_asked(tmp_path: Path) -> None:
    stamp = datetime.fromtimestamp(NOW_S // 300 * 300, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    areas = [{"Minutes5UTC": stamp, "PriceArea": area, "CO2Emission": 50.0} for area in ("DK1", "DK2")]
    told = []
    async with LocalServer({"/dataset/": {"records": areas}}) as server:
        for zone in ("DK-DK1", "DK-DK2"):
            async with exchanging(tmp_path) as exchange:
                settings = Settings(location=zone)
                found = await survey(exchange, settings, {"location": zone}, environ=server.environ)
                told.append(found.told[0])
    first, second = told
    assert (first.word, second.word, second.is_asked) == ("answered", "not asked", False)
    assert "this machine asked it a moment ago and may ask it again in 61 s" in second.why


async def test_source_that_is_left_alone_is_not_asked_by_the_next_process(tmp_path: Path) -> None:
    told = []
    async with LocalServer({ENERGYCHARTS: {"unix_seconds": [1], "co2eq": [9e9], "co2eq_forecast": [None]}}) as server:
        for _ in range(2):
            async with exchanging(tmp_path) as exchange:
                found = await survey(exchange, Settings(location="DE"), {"location": "DE"}, environ=server.environ)
                told.append(next(one for one in found.told if one.name == "energycharts"))
        asked = len(server.paths)
    first, second = told
    assert (first.word, second.word, asked) == ("answers nonsense", "does not answer", 1)
    assert "not in 0..3000" in second.why
    assert "it is left alone for another" in second.why
    assert (first.is_asked, second.is_asked) == (True, False)


async def test_offline_sends_nothing_and_shows_what_was_known_last(tmp_path: Path) -> None:
    url = {"AIOCARBON_ENERGYCHARTS_URL": "http://127.0.0.1:9"}
    none, asked = await surveyed({ENERGYCHARTS: germany()}, tmp_path, offline=True, location=None, environ=url)
    assert asked == []
    assert none.place_asked == ()
    one, asked = await surveyed({ENERGYCHARTS: germany()}, tmp_path, offline=True)
    assert asked == []
    told = next(told for told in one.told if told.name == "energycharts")
    assert (told.word, told.why) == ("not asked", "no packet may be sent (offline)")
    assert one.now == one.fallback


async def test_offline_after_an_answer_uses_it(tmp_path: Path) -> None:
    async with LocalServer({ENERGYCHARTS: germany()}) as server:
        for is_offline in (False, True):
            async with exchanging(tmp_path, is_offline=is_offline) as exchange:
                settings = Settings(location="DE", offline=is_offline)
                found = await survey(exchange, settings, {"location": "DE"}, hours=24.0, environ=server.environ)
        asked = len(server.paths)
    assert found.now.g_per_kwh == 400.0
    assert next(told for told in found.told if told.name == "energycharts").word == "from the cache"
    assert asked == 2  # now and the forecast, both before


# -- the place ---------------------------------------------------------------------------------------------------


async def test_place_that_was_given_is_asked_of_nobody() -> None:
    found, asked = await surveyed({ENERGYCHARTS: germany()})
    assert (found.place_asked, found.place_note) == ((), "nothing was asked: the location was given")
    assert not [path for path in asked if "geo" in path or path == "/json"]


async def test_place_that_is_asked_for_is_told_with_whom_and_once_a_day(tmp_path: Path) -> None:
    answers = {"/v1/ip/geo.json": {"country_code": "DE"}, "/json": {"country": "DE"}, ENERGYCHARTS: germany()}
    async with LocalServer(answers) as server:
        told = []
        for _ in range(2):
            async with exchanging(tmp_path) as exchange:
                told.append(await survey(exchange, Settings(), {}, environ=server.environ))
        asked = server.paths
    first, second = told
    assert (first.location.zone, first.location.how) == ("DE", "geolocation")
    assert server.url in first.place_asked
    assert "two web services" in first.place_note
    assert (second.location.zone, asked.count("/json")) == ("DE", 1)
    assert "nothing more was asked" in second.place_note


async def test_place_that_could_not_be_asked_for_is_told_with_when_it_will_be_asked_again(tmp_path: Path) -> None:
    async with LocalServer({"/v1/ip/geo.json": {"country_code": "DE"}}) as server:
        told = []
        for _ in range(2):
            async with exchanging(tmp_path) as exchange:
                told.append(await survey(exchange, Settings(), {}, environ=server.environ))
        asked = server.paths
    first, second = told
    assert asked.count("/json") == 1
    for found in told:
        assert found.location.is_guess
        assert "ipinfo.io answered 404" in found.place_note
    assert "they did not settle it: " in first.place_note
    assert re.search("they did not settle it at [0-9:]{8} UTC: ", second.place_note)
    (when,) = {re.findall("they are asked again from ([0-9:]{8}) UTC on", found.place_note)[0] for found in told}
    assert when
    assert (server.url in first.place_asked, second.place_asked) == (True, ())


async def test_geolocation_that_hangs_leaves_time_for_the_sources() -> None:
    found, _ = await surveyed({"/v1/ip/geo.json": hang, "/json": hang}, limit_s=0.4, location=None)
    assert found.place_note == "the services that were asked did not answer in time"
    assert found.location.is_guess


async def test_number_of_the_user_is_all_there_is_to_say() -> None:
    found, asked = await surveyed({}, intensity=449.06, location=None)
    assert asked == []
    assert (found.now.g_per_kwh, found.told, found.curve) == (449.06, (), ())
    text = shown(found)
    assert "aiocarbon: 449.1 gCO2eq/kWh now" in text
    assert "none for the next 24 h: the intensity was given as a number" in text


async def test_file_of_the_user_is_shown_with_the_hours_it_knows(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("time,g_per_kwh\n2026-11-21T13:00Z,111\n2026-11-21T14:00Z,222\n2026-11-22T14:00Z,0\n")
    found, _ = await surveyed({ENERGYCHARTS: germany()}, intensity=str(path), location=None)
    assert found.now.g_per_kwh == 111.0
    assert found.told[0].word == "answered"
    assert found.place_asked == ()
    assert "111 to 222 gCO2eq/kWh" in shown(found)


async def test_file_that_cannot_be_read_is_told_with_its_line_and_the_place_s_sources_count(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("time,g_per_kwh\nyesterday,100\n")
    found, _ = await surveyed({ENERGYCHARTS: germany()}, intensity=str(tmp_path / "mine.csv"))
    assert found.told[0].word == "answers nonsense"
    assert "line 2" in found.told[0].why
    assert found.now.source == "Energy-Charts"


# -- what is shown -----------------------------------------------------------------------------------------------


async def test_text_tells_value_source_age_forecast_and_each_source() -> None:
    found, _ = await surveyed({ENERGYCHARTS: germany()})
    text = shown(found)
    for words in (
        "aiocarbon: 400 gCO2eq/kWh now in Germany (DE)",
        "  value       live, 90 % range 380 to 420",
        "  source      Energy-Charts, of DE, average, factors not told",
        "  time        of 14:30 local time, 7 min old, valid until 14:45",
        "  location    Germany (DE), as given",
        "forecast: the next 24 h, gCO2eq/kWh by local time (CET)",
        "  range       100 to 400 gCO2eq/kWh",
        "  cleanest    the hour from 23:45 to Sun 00:45: 100 gCO2eq/kWh, 75 % less than now",
        "electricitymaps: Electricity Maps wants a token",
        "export AIOCARBON_ELECTRICITYMAPS_TOKEN=",
    ):
        assert words in text


@pytest.mark.parametrize("width", [None, 40, 72, 200])
async def test_no_line_is_wider_than_the_terminal_but_one_to_copy(width: int | None) -> None:
    found, _ = await surveyed({ENERGYCHARTS: germany()})
    lines = shown(found, width=width).splitlines()
    plotted = [line for line in lines if "│" in line or "└" in line]
    assert len(plotted) == 7
    assert max(map(len, plotted)) <= (width or 72)
    if width is not None:
        wide = [line for line in lines if len(line) > width and not line.strip().startswith("export ")]
        assert all(line.startswith(("aiocarbon: ", "forecast: ")) for line in wide)


async def test_plot_is_ascii_where_blocks_cannot_be_shown() -> None:
    found, _ = await surveyed({ENERGYCHARTS: germany()})
    assert shown(found, blocks=False).isascii()


async def test_source_without_forecast_is_why_there_is_none() -> None:
    found, _ = await surveyed({}, environ={"AIOCARBON_ENERGYCHARTS_URL": "http://127.0.0.1:1"}, offline=True)
    assert why_no_forecast(found, 24.0) == "Energy-Charts: no packet may be sent (offline)"
    assert "none for the next 24 h: Energy-Charts: no packet may be sent (offline)" in shown(found)
    nowhere, _ = await surveyed({}, location="WORLD")
    assert "no source covers it" in shown(nowhere)
    assert "none covers this place" in shown(nowhere)


async def test_no_secret_is_shown() -> None:
    for answer in (repeating(401), repeating(403), f'"{TOKEN}"'):
        found, asked = await surveyed(
            {ELECTRICITYMAPS: answer}, environ={"AIOCARBON_ELECTRICITYMAPS_TOKEN": TOKEN}, limit_s=2.0
        )
        assert any(ELECTRICITYMAPS in path for path in asked)
        assert TOKEN not in shown(found) + json.dumps(to_dict(found, 24.0)) + repr(found)


async def test_json_is_what_the_text_says() -> None:
    found, _ = await surveyed({ENERGYCHARTS: germany()})
    data = json.loads(json.dumps(to_dict(found, 24.0), allow_nan=False))
    assert set(data) == {
        "schema", "version", "at", "location", "now", "fallback", "forecast_hours", "no_forecast",
        "cleanest_hour", "curve", "sources",
    }  # fmt: skip
    assert (data["schema"], data["at"], data["no_forecast"]) == (
        "aiocarbon.intensity/1",
        "2026-11-21T13:37:00+00:00",
        "",
    )
    assert data["now"] == {
        "g_per_kwh": 400.0, "g_per_kwh_low": 380.0, "g_per_kwh_high": 420.0, "source": "Energy-Charts", "zone": "DE",
        "quality": "live", "kind": "average", "factor_basis": "unknown", "note": "",
        "valid_from": "2026-11-21T13:30:00+00:00", "valid_to": "2026-11-21T13:45:00+00:00",
    }  # fmt: skip
    assert data["cleanest_hour"] == {"from": "2026-11-21T22:45:00+00:00", "g_per_kwh": pytest.approx(100.0)}
    assert set(data["curve"][0]) == {"from", "to", "g_per_kwh", "source", "zone", "quality"}
    assert {"name", "title", "zone", "state", "why", "remedy", "url", "latency_s", "value"} <= set(data["sources"][0])


# -- the command -------------------------------------------------------------------------------------------------


async def command(
    *options: str, environ: Mapping[str, str], folder: Path, **more: str
) -> subprocess.CompletedProcess[bytes]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("AIOCARBON_")}
    return await anyio.run_process(
        [sys.executable, "-m", "aiocarbon", "intensity", *options],
        cwd=folder,
        env=clean | {"PYTHONPATH": ROOT, "AIOCARBON_CACHE": str(folder / "kept")} | dict(environ) | more,
        check=False,
    )


async def test_command_shows_and_writes_and_asks_once(tmp_path: Path) -> None:
    async with LocalServer({ENERGYCHARTS: germany(time.time())}) as server:
        text = await command("--location", "DE", environ=server.environ, folder=tmp_path)
        asked = len(server.paths)
        data = await command("--location", "DE", "--forecast", "6h", "--json", environ=server.environ, folder=tmp_path)
        assert len(server.paths) == asked  # what one process asked, the next one has
    assert (text.returncode, text.stderr) == (0, b"")
    assert text.stdout.decode().startswith("aiocarbon: 400 gCO2eq/kWh now in Germany (DE)\n")
    assert b"\x1b" not in text.stdout
    assert (data.returncode, data.stderr) == (0, b"")
    assert json.loads(data.stdout)["forecast_hours"] == 6.0


async def test_command_shows_the_average_where_nothing_answers_and_that_is_no_failure(tmp_path: Path) -> None:
    done = await command("--location", "DE", "--offline", environ={}, folder=tmp_path, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    assert "yearly average" in done.stdout.decode("ascii")


async def test_command_writes_json_to_a_file_that_is_named(tmp_path: Path) -> None:
    done = await command(
        "--location", "DE", "--offline", "--json", str(tmp_path / "o.json"), environ={}, folder=tmp_path
    )
    assert (done.returncode, done.stdout) == (0, b"")
    assert json.loads((tmp_path / "o.json").read_text())["location"]["zone"] == "DE"
    full = await command("--offline", "--json", "/dev/full", environ={}, folder=tmp_path)
    assert (full.returncode, full.stdout) == (1, b"")


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["--forecast", "97h"], "at most 96h"),
        (["--forecast", "0h"], "above 0"),
        (["--forecast", "24"], "is no time such as"),
        (["--forecast", "-1h"], "--forecast"),
        (["--location", "XX"], "location"),
        (["--intensity", "-3"], "intensity"),
        (["--json", "no/such/folder/f"], "there is no folder"),
        (["stray"], "unrecognized arguments"),
    ],
)
def test_wrong_usage_is_one_line(argv: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["intensity", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert word in err
    assert err.count("\n") == 1

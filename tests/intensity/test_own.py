"""The user's own file or URL: what could be misread is refused with its line, and what is missing stays missing."""

from __future__ import annotations

import json
import os
import random
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import web

from aiocarbon._core.answer import Answer
from aiocarbon._core.grid import Grid
from aiocarbon._core.intensity import FactorBasis, IntensityKind, Quality
from aiocarbon.errors import BadAnswerError, ConfigError, NoDataError, SourceDownError, SourceRefusedError
from aiocarbon.intensity.base import MOST_SAMPLES, Source
from aiocarbon.intensity.client import Client
from aiocarbon.intensity.guesses import guessed_stretch
from aiocarbon.intensity.own import MOST_BYTES, beside, checked, open_own, read_series
from aiocarbon.intensity.own_rows import RowsError
from aiocarbon.intensity.table import average, parse_zone

pytestmark = pytest.mark.anyio

PLACE = parse_zone("DK-DK1")
T0 = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
HOUR = 3600.0


async def blocking(function: Callable[..., Any], *args: Any) -> Any:
    return await anyio.to_thread.run_sync(function, *args)


@asynccontextmanager
async def a_client() -> AsyncIterator[Client]:
    client = Client(blocking, proxies=dict)
    try:
        yield client
    finally:
        await client.aclose()


def iso(hours: float) -> str:
    return datetime.fromtimestamp(T0 + hours * HOUR, UTC).isoformat()


def rows_of(text: str) -> list[tuple[float, float, float]]:
    """From and to in hours since T0, and the value."""
    series = read_series(text)
    return [((s.from_s - T0) / HOUR, (s.to_s - T0) / HOUR, s.g_per_kwh) for s in series.between(0.0, 5e9)[0]]


THREE = [(0.0, 1.0, 100.0), (1.0, 3.0, 0.0), (3.0, 5.0, 300.5)]


@pytest.mark.parametrize(
    "text",
    [
        f"time,value\n{iso(0)},100\n{iso(1)},0\n{iso(3)},300.5\n",
        f"time,value\r\n{iso(0)},100\r\n{iso(1)},0\r\n{iso(3)},300.5",
        f"# from my meter, \"calibrated\n\ntime,value\n\n# it's in g\n{iso(3)},300.5\n{iso(0)},100\n{iso(1)},0\n",
        f"Date-Time;Carbon Intensity (gCO2eq/kWh)\n{iso(0)};100\n{iso(1)};0\n{iso(3)};300.5\n",
        f"zone\tFrom\tG_per_kWh\nDE\t{iso(0)}\t100\nDE\t{iso(1)}\t0\nDE\t{iso(3)}\t300.5\n",
        f"{iso(0)},100\n{iso(1)},0\n{iso(3)},300.5\n",
        f"timestamp,co2\n{T0:.0f},100\n{T0 + HOUR},0\n{T0 + 3 * HOUR:.0f},3.005e2\n",
        'time_utc,value\n2026-03-01,100\n2026-03-01 01:00,0\n2026-03-01T03:00:00,300.5\n',
        'UTC,value\n2026-03-01,100\n2026-03-01T01:00Z,0\n2026-03-01T04:00+01:00,300.5\n',
        "Minutes5UTC,Minutes5DK,CO2Emission\n"
        "2026-03-01T00:00,x,100\n2026-03-01T01:00,x,0\n2026-03-01T03:00,x,300.5\n",
        f'"time","value"\n"{iso(0)}","100"\n"{iso(0)}","100"\n"{iso(1)}"," 0 "\n"{iso(3)}","300.5"\n',
        json.dumps([{"time": iso(0), "value": 100}, {"time": iso(1), "value": 0}, {"time": iso(3), "value": "300.5"}]),
        json.dumps([[T0, 100], [T0 + HOUR, 0], [iso(3), 300.5]], indent=2),
        json.dumps({"zone": "DE", "meta": {"a": [1, [2]]}, "forecast": [
            {"carbonIntensity": 100, "datetime": iso(0), "updatedAt": "x"},
            {"datetime": iso(1), "carbonIntensity": 0}, {"datetime": iso(3), "carbonIntensity": 300.5},
        ], "updatedAt": "2026"}),
        ' \n{"records" :\n[ {"Minutes5UTC":"2026-03-01T00:00:00","CO2Emission":100.0} ,'
        '{"Minutes5UTC":"2026-03-01T01:00:00","CO2Emission":0},\n{"Minutes5UTC":"2026-03-01T03:00:00","CO2Emission":300.5}]}\n',
    ],
)  # fmt: skip
def test_rows_are_read_in_every_usual_form(text: str) -> None:
    assert rows_of(text) == THREE


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "it is empty"),
        (" \n\n", 1, "it is empty"),
        ("<html><body>log in</body></html>", 1, "HTML"),
        ("time,value\n", 1, "no row with a value"),
        ("[]", 1, "no row with a value"),
        (f"time,value\n{iso(0)},\n", 1, "no row with a value"),
        # Times that are two hours of the year, or none.
        ("time,value\n2026-10-25T02:30:00,100\n", 2, "without its offset"),
        ("2026-03-01 00:00,100\n", 1, "without its offset"),
        ('[{"time":"2026-03-01T00:00Z","value":1},\n{"time":"2026-03-01T01:00","value":2}]', 2, "without its offset"),
        ("time,value\n\n# c\n01/03/2026 00:00,100\n", 4, "ISO 8601"),
        ("time,value\n2026,100\n", 2, "Unix seconds"),
        ("time,value\n20260301,100\n", 2, "Unix seconds"),
        ("time,value\n1772323200000,100\n", 2, "not milliseconds"),
        ("time,value\n1999-01-01T00:00Z,100\n", 2, "2001 to 2103"),
        ("time,value\n,100\n", 2, "ISO 8601"),
        ("[[123.4, 1772323200]]", 1, "Unix seconds"),
        ("[[true, 100]]", 1, "ISO 8601"),
        # Values that are none.
        (f"time,value\n{iso(0)},100\n{iso(1)},-0.1\n", 3, "0 to 3000"),
        (f"time,value\n{iso(0)},3000.1\n", 2, "0 to 3000"),
        (f"time,value\n{iso(0)},1e99\n", 2, "0 to 3000"),
        (f"time,value\n{iso(0)},inf\n", 2, "0 to 3000"),
        (f"time,value\n{iso(0)},dirty\n", 2, "0 to 3000"),
        (f"time;value\n{iso(0)};123,4\n", 2, "a number with a point"),
        (f'[["{iso(0)}", true]]', 1, "0 to 3000"),
        (f'[["{iso(0)}", 1{"0" * 400}]]', 1, "0 to 3000"),
        (f'[{{"time":"{iso(0)}","intensity":{{"forecast":5}}}}]', 1, "0 to 3000"),
        (f'[["{iso(0)}", Infinity]]', 1, "Infinity is no number"),
        # Headers that could mean two things, or nothing.
        ("when,value\n", 1, "none of the names is the time's"),
        (f"time,kg_per_kwh\n{iso(0)},0.1\n", 1, "none of the names is the value's"),
        ("time,value,co2\n", 1, "value and co2 could each be the value"),
        ("date,hour,value\n", 1, "could each be the time"),
        ("time,value,value\n", 1, "stands twice"),
        (f'[{{"zeit":"{iso(0)}","value":1}}]', 1, "none of the names is the time's"),
        # Two zones in one file, or a change of heart.
        (f"time,value\n{iso(0)},100\n{iso(1)},7\n{iso(0)},101\n", 4, "another value for 2026-03-01 00:00:00 UTC"),
        (f"time,value,kind\n{iso(0)},100,average\n{iso(1)},100,marginal\n", 3, "one in all rows"),
        (f"time,value,kind\n{iso(0)},100,dirty\n", 2, "average or marginal"),
        (f"time,value,quality\n{iso(0)},100,good\n", 2, "given or live"),
        (f"time,value,to\n{iso(1)},100,{iso(1)}\n", 2, "to is not after time"),
        # Broken texts.
        (f"time,value\n{iso(0)},100,5\n", 2, "3 fields; expected 2"),
        (f"time,value\n{iso(0)}\n", 2, "1 fields; expected 2"),
        (f'time,value\n"{iso(0)},100\n{iso(1)},100\n', 3, "no CSV"),
        (f"time,value\n{iso(0)},1\0\n", 2, ""),
        ('[{"time":"2026-03-01T00:00Z","value":1},\n{"time":"2026', 2, "no JSON"),
        ('[{"time":"2026-03-01T00:00Z","value":1}\n', 2, "cut off"),
        ('[{"time":"2026-03-01T00:00Z","value":1},\n]', 2, "no JSON"),
        ('[["2026-03-01T00:00Z",1]]\n[["2026-03-01T01:00Z",1]]', 2, "more after its end"),
        ('{"data":[["2026-03-01T00:00Z",1]],\n"values":[]}', 2, "data and values"),
        ('{"data":{"x":1}}', 1, "no list in it"),
        ('{"data"', 1, "no JSON"),
        ("{5:[]}", 1, "no JSON"),
        ("[1, 2]", 1, "expected {time, value}"),
        ("[[1,2,3]]", 1, "a list of 3"),
        ("[" * 100_000, 1, "no JSON"),
        ('[{"a":' * 50_000, 1, "no JSON"),
    ],
)  # fmt: skip
def test_what_could_be_misread_is_refused_with_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(RowsError) as caught:
        read_series(text)
    assert str(caught.value).startswith(f"line {line}: ")
    assert words in str(caught.value)
    assert "expected" in str(caught.value)


@pytest.mark.parametrize("missing", ["", "NaN", "null", "n/a", " "])
def test_a_row_without_a_value_is_a_gap_and_ends_the_row_before_it(missing: str) -> None:
    text = f"time,value\n{iso(0)},100\n{iso(1)},{missing}\n{iso(2)},200\n"
    assert rows_of(text) == [(0.0, 1.0, 100.0), (2.0, 3.0, 200.0)]
    literal = "NaN" if missing == "NaN" else "null"
    assert rows_of(f'[["{iso(0)}",100],["{iso(1)}",{literal}],["{iso(2)}",200]]') == rows_of(text)


def test_the_end_that_a_row_names_counts_but_never_overlaps_the_next() -> None:
    text = f"from,to,value\n{iso(0)},{iso(0.5)},100\n{iso(1)},{iso(9)},50\n{iso(2)},,200\n{iso(3)},{iso(3.25)},7\n"
    assert rows_of(text) == [(0.0, 0.5, 100.0), (1.0, 2.0, 50.0), (2.0, 3.0, 200.0), (3.0, 3.25, 7.0)]


def test_a_single_row_holds_an_hour() -> None:
    assert rows_of(f"time,value\n{iso(0)},100\n") == [(0.0, 1.0, 100.0)]


def test_the_night_that_has_one_hour_twice_has_two_rows_for_it() -> None:
    local = ["2026-10-25T01:00+02:00", "2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00", "2026-10-25T03:00+01:00"]
    series = read_series("time,value\n" + "".join(f"{time},{i}\n" for i, time in enumerate(local)))
    samples, _ = series.between(0.0, 5e9)
    assert [s.g_per_kwh for s in samples] == [0.0, 1.0, 2.0, 3.0]
    assert {s.to_s - s.from_s for s in samples} == {HOUR}
    spring = ["2026-03-29T01:00+01:00", "2026-03-29T03:00+02:00", "2026-03-29T04:00+02:00"]
    samples = read_series("time,value\n" + "".join(f"{time},{i}\n" for i, time in enumerate(spring))).between(0, 5e9)[0]
    assert {s.to_s - s.from_s for s in samples} == {HOUR}


def test_kind_basis_and_quality_may_be_columns() -> None:
    text = f"time,value,kind,factor_basis,quality\n{iso(0)},1,marginal,lifecycle,\n{iso(1)},2,marginal,,forecast\n"
    series = read_series(text)
    assert (series.common.kind, series.common.factor_basis) == (IntensityKind.MARGINAL, FactorBasis.LIFE_CYCLE)
    assert [s.quality for s in series.between(0.0, 5e9)[0]] == [Quality.GIVEN, Quality.FORECAST]


def test_many_rows_in_any_order_are_those_of_the_sorted_file_and_others_get_turns() -> None:
    times = [T0 + 300.0 * i for i in range(9000)]
    lines = [f"{time:.0f},{i % 700}" for i, time in enumerate(times)]
    random.Random(7).shuffle(lines)
    turns = []
    series = read_series("time,value\n" + "\n".join(lines), lambda: turns.append(1))
    assert list(series.from_s) == times
    assert [series.g_per_kwh[i] for i in (0, 1, 699, 700, 8999)] == [0.0, 1.0, 699.0, 0.0, 8999 % 700]
    assert series.step_s == 300.0
    assert len(turns) > 90
    samples, whole = series.between(0.0, 5e9)
    assert len(samples) == MOST_SAMPLES
    assert whole == (0.0, times[MOST_SAMPLES])  # not all of what was asked for
    samples, whole = series.between(times[10] + 1, times[12])
    assert [sample.from_s for sample in samples] == times[10:12]
    assert whole == (times[10] + 1, times[12])


# -- the source ------------------------------------------------------------------------------------------------


def write(path: Path, *rows: tuple[float, float]) -> None:
    path.write_text("time,value\n" + "".join(f"{iso(hours)},{g}\n" for hours, g in rows))


async def g_now(source: Source, client: Client, hours: float) -> float:
    now_s = T0 + hours * HOUR
    answer = await source.now(client, now_s)
    (sample,) = (sample for sample in answer.samples if sample.from_s <= now_s < sample.to_s)
    return sample.g_per_kwh


async def test_a_file_answers_for_past_present_and_future(tmp_path: Path) -> None:
    path = tmp_path / "grid.csv"
    write(path, (0, 100), (1, 0), (2, 300), (3, 400))
    async with a_client() as client:
        source = open_own(str(path), PLACE, blocking)
        assert isinstance(source, Source)
        assert await g_now(source, client, 0.0) == 100
        assert await g_now(source, client, 1.99) == 0
        assert await g_now(source, client, 3.99) == 400
        past = await source.past(client, T0 + 0.5 * HOUR, T0 + 2 * HOUR, T0 + 3 * HOUR)
        assert [s.g_per_kwh for s in past.samples] == [100, 0]
        ahead = await source.forecast(client, T0 + 1.5 * HOUR, 1.0)
        assert [s.g_per_kwh for s in ahead.samples] == [0, 300]
    assert isinstance(past, Answer)
    assert (past.source, past.title, past.zone) == ("own", "grid.csv", "DK-DK1")
    assert {s.quality for s in (*past.samples, *ahead.samples)} == {Quality.GIVEN}
    traits = source.traits
    assert (traits.name, traits.title, traits.zone, traits.step_s) == ("own", "grid.csv", "DK-DK1", HOUR)
    assert (traits.has_past, traits.has_forecast, traits.is_remote, traits.stale_s) == (True, True, False, 0.0)


async def test_the_next_rows_come_with_the_present_one_and_a_year_of_them_does_not(tmp_path: Path) -> None:
    path = tmp_path / "grid.csv"
    write(path, *((float(hours), hours % 500) for hours in range(8760)))
    async with a_client() as client:
        answer = await open_own(str(path), PLACE, blocking).now(client, T0 + 4000.5 * HOUR)
        begins = [(sample.from_s - T0) / HOUR for sample in answer.samples]
    assert begins == [float(hours) for hours in range(3976, 4003)]


@pytest.mark.parametrize(("hours", "why"), [(-0.01, "begins at 2026-03-01 00:00"), (2.0, "ends at 2026-03-01 02:00")])
async def test_before_and_after_its_rows_a_file_has_nothing(tmp_path: Path, hours: float, why: str) -> None:
    path = tmp_path / "grid.csv"
    write(path, (0, 100), (1, 200))
    async with a_client() as client:
        source = open_own(str(path), PLACE, blocking)
        with pytest.raises(NoDataError, match=why):
            await source.now(client, T0 + hours * HOUR)
        if hours > 0:
            with pytest.raises(NoDataError, match="no value"):
                await source.forecast(client, T0 + hours * HOUR, 24.0)
        else:
            with pytest.raises(NoDataError, match="no value"):
                await source.past(client, T0 - 9 * HOUR, T0, T0)


async def test_a_gap_in_a_file_is_not_the_value_before_it(tmp_path: Path) -> None:
    path = tmp_path / "grid.csv"
    path.write_text(f"time,value\n{iso(0)},100\n{iso(1)},\n{iso(2)},200\n")
    async with a_client() as client:
        source = open_own(str(path), PLACE, blocking)
        with pytest.raises(NoDataError, match="ends at 2026-03-01 01:00:00 UTC"):
            await source.now(client, T0 + 1.5 * HOUR)
        past = await source.past(client, T0, T0 + 3 * HOUR, T0)
        assert [(s.from_s - T0, s.to_s - T0) for s in past.samples] == [(0.0, HOUR), (2 * HOUR, 3 * HOUR)]


async def test_a_file_is_read_again_when_it_was_changed_and_only_then(tmp_path: Path) -> None:
    path = tmp_path / "grid.csv"
    write(path, (0, 100))
    async with a_client() as client:
        source = open_own(str(path), PLACE, blocking)
        assert await g_now(source, client, 0.5) == 100
        before = path.stat()
        write(path, (0, 222))  # of the same size
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert await g_now(source, client, 0.5) == 100, "it looks unchanged"
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
        assert await g_now(source, client, 0.5) == 222
        other = tmp_path / "new"
        write(other, (0, 333))
        os.replace(other, path)
        assert await g_now(source, client, 0.5) == 333
        path.write_text("time,value\nbroken")
        with pytest.raises(BadAnswerError, match=r"grid\.csv: line 2: 1 fields"):
            await source.now(client, T0)
        with pytest.raises(BadAnswerError, match=r"grid\.csv: line 2: 1 fields"):
            await source.now(client, T0)
        write(path, (0, 444))
        assert await g_now(source, client, 0.5) == 444


def test_a_corrected_file_is_another_question_to_another_run(tmp_path: Path) -> None:
    path = tmp_path / "grid.csv"
    write(path, (0, 100))
    first, second = (open_own(str(path), PLACE, blocking).traits.asked_at for _ in range(2))
    write(path, (0, 1000))
    assert first == second != open_own(str(path), PLACE, blocking).traits.asked_at


async def test_files_that_cannot_be_read_say_which_and_why(tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    async with a_client() as client:
        source = open_own(str(bad), PLACE, blocking)
        with pytest.raises(SourceDownError, match=r"bad\.csv cannot be read: No such file"):
            await source.now(client, T0)
        bad.mkdir()
        with pytest.raises(SourceRefusedError, match=r"bad\.csv is no file"):
            await source.now(client, T0)
        bad.rmdir()
        os.mkfifo(bad)
        with pytest.raises(SourceRefusedError, match="is no file"):
            await source.now(client, T0)
        bad.unlink()
        bad.write_bytes(b"time,value\n" + b"#" * MOST_BYTES)
        with pytest.raises(BadAnswerError, match="larger than 4 MiB"):
            await source.now(client, T0)
        bad.write_bytes("time,value\nMärz,5\n".encode("latin-1"))
        with pytest.raises(BadAnswerError, match=r"bad\.csv: line 2: no UTF-8"):
            await source.now(client, T0)
        bad.write_bytes(f"time,value\n{iso(0)},7\n".encode("utf-8-sig"))
        assert await g_now(source, client, 0.5) == 7


class Server:
    """A URL of the user's: what it answers, and how often it was asked."""

    def __init__(self, text: str = "", status: int = 200) -> None:
        self.text, self.status, self.asked = text, status, 0

    async def answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        return web.Response(text=self.text, status=self.status)


@asynccontextmanager
async def served(server: Server) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/{tail:.*}", server.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_url_answers_as_a_file_does_and_its_query_is_shown_to_nobody() -> None:
    server = Server(json.dumps([[iso(0), 100], [iso(1), 200]]))
    async with served(server) as base, a_client() as client:
        source = open_own(f"{base}/grid.json?key=s3cret", PLACE, blocking)
        other = open_own(f"{base}/grid.json?key=other", PLACE, blocking)
        assert await g_now(source, client, 0.5) == 100
        ahead = await source.forecast(client, T0 + 0.5 * HOUR, 24.0)
        assert [s.g_per_kwh for s in ahead.samples] == [100, 200]
        assert server.asked == 1, "what was just answered serves for the forecast"
        assert await g_now(source, client, 1.5) == 200
        await source.past(client, T0, T0 + HOUR, T0 + 3 * HOUR)
        assert server.asked == 3
        assert source.traits.is_remote
        assert source.traits.title == base.removeprefix("http://") + "/grid.json"
        assert source.traits.asked_at != other.traits.asked_at
        assert "s3cret" not in repr(source.traits)
        for text, status, kind in (
            ("<html>", 200, BadAnswerError),
            ("x", 500, SourceDownError),
            ("", 404, SourceRefusedError),
        ):
            server.text, server.status = text, status
            with pytest.raises(kind) as caught:
                await source.now(client, T0)
            assert "s3cret" not in str(caught.value)
            assert "/grid.json" in str(caught.value)


@pytest.mark.parametrize(("quality", "is_asked_again"), [("estimated", True), ("forecast", True), ("", False)])
async def test_of_a_url_s_past_what_was_no_last_word_is_asked_again(quality: str, is_asked_again: bool) -> None:
    def rows(first_g: float, said: str) -> str:
        return f"time,value,quality\n{iso(0)},{first_g},{said}\n{iso(1)},200,{said}\n{iso(2)},300,{said}\n"

    server, at_s = Server(rows(100.0, quality)), T0 + 1.5 * HOUR
    async with served(server) as base, a_client() as client:
        source = open_own(f"{base}/grid.csv", PLACE, blocking)
        grid = Grid(average("DK"))
        grid.learn(0, await source.now(client, at_s), grace_s=0.0, stale_s=0.0)
        steps = [(T0 + h * HOUR, T0 + (h + 1.0) * HOUR, grid.value_at(T0 + h * HOUR)) for h in (0.0, 1.0)]
        window = guessed_stretch(steps, source.traits, at_s + HOUR)
        assert (window == (T0, T0 + 2.0 * HOUR)) is is_asked_again
        assert (window is None) is not is_asked_again
        # A correction of any row of the day before comes along with the next look at the present.
        server.text = rows(90.0, "live")
        grid.learn(0, await source.now(client, at_s + HOUR), grace_s=0.0, stale_s=0.0)
        assert grid.value_at(T0).g_per_kwh == 90.0


async def test_what_a_url_told_before_counts_on_where_it_shows_the_newest_row_alone() -> None:
    server, grid = Server(), Grid(average("DK"))
    async with served(server) as base, a_client() as client:
        source = open_own(f"{base}/now.csv", PLACE, blocking)
        for hours, g in ((0, 100.0), (1, 200.0), (2, 300.0)):
            server.text = f"time,value\n{iso(hours)},{g}\n"
            grid.learn(0, await source.now(client, T0 + (hours + 0.5) * HOUR), grace_s=0.0, stale_s=0.0)
        assert [grid.value_at(T0 + h * HOUR).g_per_kwh for h in (0.5, 1.5, 2.5)] == [100.0, 200.0, 300.0]
        # A row that was taken out between others is gone, and one before them is still what was told.
        server.text = f"time,value\n{iso(1)},210\n{iso(1.5)},\n{iso(2)},300\n"
        grid.learn(0, await source.now(client, T0 + 2.4 * HOUR), grace_s=0.0, stale_s=0.0)
        assert [grid.value_at(T0 + h * HOUR).g_per_kwh for h in (0.5, 1.25)] == [100.0, 210.0]
        assert grid.value_at(T0 + 1.75 * HOUR).quality is Quality.AVERAGE


SECRET = "S3CRETKEY12345-and-a-long-one"


@pytest.mark.parametrize(
    "text",
    [
        f"error: invalid api key {SECRET}\n",
        f"time,value,{'x' * 80}{SECRET}\n".replace("value", "valeur"),
        f"time,value\n{'x' * 30}{SECRET},3\n",
        f"time,value\n{iso(0)},{'x' * 30}{SECRET}\n",
        f"time,value,kind\n{iso(0)},3,{'x' * 30}{SECRET}\n",
        f'["{"x" * 30}{SECRET}"]',
        f'[{{"time": {{"key": "{SECRET}"}}, "value": 3}}]',
    ],
)
async def test_a_key_that_comes_back_in_an_answer_is_told_nowhere(text: str) -> None:
    async with served(Server(text)) as base, a_client() as client:
        source = open_own(f"{base}/grid.csv?key={SECRET}", PLACE, blocking)
        with pytest.raises(BadAnswerError, match=r"line [12]") as caught:
            await source.now(client, T0)
    told = "".join(traceback.format_exception(caught.value))
    assert SECRET[:5] not in told
    assert SECRET[:5].lower() not in told


# -- the setting -----------------------------------------------------------------------------------------------


def test_a_setting_is_a_url_a_source_or_a_file(tmp_path: Path) -> None:
    path = tmp_path / "grid.csv"
    path.write_text("time,value\n")
    assert checked(str(path)) == str(path)
    assert checked(os.path.relpath(path)) == str(path)
    assert checked(" electricitymaps ") == "electricitymaps"
    assert checked("https://example.org/grid.csv?key=1") == "https://example.org/grid.csv?key=1"
    assert checked("http://localhost:80/x") == "http://localhost:80/x"
    assert checked("http://127.0.0.1/x") == "http://127.0.0.1/x"
    assert checked("http://[::1]:9/x") == "http://[::1]:9/x"


@pytest.mark.parametrize(
    "text",
    ["http://example.org/grid.csv", "http://127.evil.example/x", "ftp://example.org/x", "https://", "file:///etc/passwd",
     "https://[::1", "https://x:port/", "http://192.168.0.1/x", "://"],
)  # fmt: skip
def test_a_url_that_anybody_on_the_way_could_change_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="begins with https://"):
        checked(text)


def test_a_refused_url_does_not_tell_its_secrets() -> None:
    with pytest.raises(ConfigError) as caught:
        checked("http://me:s3cret@example.org/x?key=s3cret")
    assert "s3cret" not in str(caught.value)
    assert "http://example.org/x" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "near"), [("electricitymap", "near: electricitymaps"), ("/no/such/wattime", "near: watttime"), ("", ""),
                       ("no\0where", ""), (".", "")]
)  # fmt: skip
def test_what_is_nothing_of_these_is_told_what_is_accepted(text: str, near: str) -> None:
    with pytest.raises(ValueError, match="a file that is there") as caught:
        checked(text)
    for word in ("0 to 3000", "https://", "energidataservice", "None"):
        assert word in str(caught.value)
    assert str(caught.value).endswith(near)


def test_a_path_of_a_configuration_file_begins_at_its_folder(tmp_path: Path) -> None:
    assert beside("grid.csv", tmp_path) == str(tmp_path / "grid.csv")
    assert beside("/abs/grid.csv", tmp_path) == "/abs/grid.csv"
    assert beside("watttime", tmp_path) == "watttime"
    assert beside("https://example.org/x", tmp_path) == "https://example.org/x"

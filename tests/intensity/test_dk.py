"""Energi Data Service against a real local server that answers in its shapes."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from aiocarbon._core.answer import Answer
from aiocarbon._core.intensity import FactorBasis, IntensityKind, Location, Quality
from aiocarbon.errors import BadAnswerError, IntensityError, NoDataError, SourceDownError, SourceRefusedError
from aiocarbon.intensity import dk
from aiocarbon.intensity.base import Access, Source
from aiocarbon.intensity.client import MOST_BYTES, MOST_VALUES, Client
from aiocarbon.testing import LocalServer

pytestmark = pytest.mark.anyio

NINE = int(datetime(2026, 7, 1, 9, tzinfo=UTC).timestamp())  # 11:00 in Denmark
FIVE = 300
DAY = 86400
COPENHAGEN = ZoneInfo("Europe/Copenhagen")


def at(zone: str) -> Location:
    return Location(zone=zone, name=zone, how="given", is_guess=False)


def bound(server: LocalServer, zone: str = "DK-DK1") -> Source:
    (source,) = dk.bind(at(zone), Access(url=server.url))
    return source


def utc(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def danish(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, COPENHAGEN).strftime("%Y-%m-%dT%H:%M:%S")


def five(at_s: float, value: Any, area: str = "DK1") -> dict[str, Any]:
    return {"Minutes5UTC": utc(at_s), "Minutes5DK": danish(at_s), "PriceArea": area, "CO2Emission": value}


def minute(at_s: float, value: Any) -> dict[str, Any]:
    return {"Minutes1UTC": utc(at_s), "Minutes1DK": danish(at_s), "CO2Emission": value, "SolarPower": 0.0}


def envelope(records: Any) -> dict[str, Any]:
    return {"total": 1903306, "sort": "...", "limit": 12, "dataset": "CO2Emis", "records": records}


def told(answer: Answer) -> list[tuple[float, float, float, Quality]]:
    return [(s.from_s - NINE, s.to_s - NINE, s.g_per_kwh, s.quality) for s in answer.samples]


def window(query: Mapping[str, str], step: int = FIVE) -> range:
    """The instants that a question with start and end is about; the end is exclusive."""
    assert query["timezone"] == "UTC"  # Danish time otherwise
    assert query["limit"] == "0"  # 100 otherwise
    begin, end = (datetime.strptime(query[key], "%Y-%m-%dT%H:%M").replace(tzinfo=UTC) for key in ("start", "end"))
    return range(int(begin.timestamp()), int(end.timestamp()), step)


def history(request: web.Request) -> dict[str, Any]:
    """Values that tell their own instant, in the columns and of the area that were asked for."""
    query = request.query
    if "filter" in query:
        (area,) = json.loads(query["filter"])["PriceArea"]
        assert query["columns"] == "Minutes5UTC,PriceArea,CO2Emission"
        rows = [{"Minutes5UTC": utc(s), "PriceArea": area, "CO2Emission": number(s)} for s in window(query)]
    else:
        assert query["columns"] == "Minutes1UTC,CO2Emission"
        rows = [{"Minutes1UTC": utc(s), "CO2Emission": number(s)} for s in window(query, 60)]
    return envelope(rows)


def number(at_s: float) -> float:
    return round((at_s - NINE) // FIVE % 2999 + 0.123456, 6)


@pytest.mark.parametrize(("zone", "value"), [("DK-DK1", 28.0), ("DK-DK2", 131.0)])
async def test_one_question_brings_both_areas_and_each_has_its_own_value(zone: str, value: float) -> None:
    records = [
        five(s, v + (s - NINE) / FIVE, area) for s in (NINE, NINE - FIVE) for area, v in (("DK2", 131.0), ("DK1", 28.0))
    ]
    server = LocalServer({"/": envelope(records)})
    async with server:
        answer = await bound(server, zone).now(server.client, NINE + 160.0)
    assert server.asked == [
        ("/dataset/CO2Emis", {"start": "now-PT30M", "sort": "Minutes5UTC desc", "limit": "12"}),
    ]
    assert told(answer) == [(-300, 0, value - 1, Quality.LIVE), (0, 300, value, Quality.LIVE)]
    assert (answer.source, answer.title) == ("energidataservice", "Energi Data Service (Energinet)")
    assert (answer.zone, answer.note) == (zone, "")
    assert (answer.kind, answer.factor_basis) == (IntensityKind.AVERAGE, FactorBasis.DIRECT)


async def test_the_country_has_the_mean_of_the_minutes_of_each_five() -> None:
    ago = {0: 107.0, 1: 110.0, 2: 104.0, 3: None, 5: 91.0, 6: 90.0, 7: None, 8: None, 9: None, 10: None, 11: None}
    server = LocalServer({"/": envelope([minute(NINE + 240 - 60 * n, value) for n, value in ago.items()])})
    async with server:
        answer = await bound(server, "DK").now(server.client, NINE + 250.0)
    assert server.asked == [("/dataset/PowerSystemRightNow", {"sort": "Minutes1UTC desc", "limit": "35"})]
    # 09:04, 09:03 and 09:02; 08:59 and 08:58, though the minute on the border is null; nothing of 08:50.
    assert told(answer) == [(-300, 0, 90.5, Quality.LIVE), (0, 300, 107.0, Quality.LIVE)]
    assert answer.zone == "DK"


async def test_the_country_has_no_mean_of_the_five_minutes_of_which_the_first_were_not_sent() -> None:
    now_s = NINE + 1000

    def newest(request: web.Request) -> dict[str, Any]:
        last = now_s // 60 * 60
        minutes = range(last, last - 60 * int(request.query["limit"]), -60)
        return envelope([minute(s, float(s // 60 % 5)) for s in minutes])

    async with LocalServer({"/": newest}) as server:
        source = bound(server, "DK")
        for now_s in range(NINE + 1000, NINE + 1600, 60):
            samples = (await source.now(server.client, now_s)).samples
            assert {s.g_per_kwh for s in samples[:-1]} == {2.0}
            assert samples[0].from_s <= now_s - 1500.0


@pytest.mark.parametrize("wrong", [-1.0, 3001.0, 10**400, "107", True, []])
async def test_a_mean_hides_no_absurd_value(wrong: Any) -> None:
    server = LocalServer({"/": envelope([minute(NINE, 100.0), minute(NINE + 60, wrong), minute(NINE + 120, 100.0)])})
    async with server:
        with pytest.raises(BadAnswerError):
            await bound(server, "DK").now(server.client, NINE + 130.0)
        server.answers["/"] = envelope([five(NINE, 100.0, "DK1"), five(NINE, wrong, "DK2")])
        with pytest.raises(BadAnswerError):
            await bound(server, "DK").forecast(server.client, NINE, 9.0)


async def test_a_value_older_than_half_an_hour_or_of_a_time_to_come_is_none_of_now() -> None:
    server = LocalServer({"/": envelope([five(NINE, 28.0)])})
    async with server:
        source = bound(server)
        assert told(await source.now(server.client, NINE + 1800.0)) == [(0, 300, 28.0, Quality.LIVE)]
        with pytest.raises(NoDataError, match="of 2026-07-01 09:00 UTC, too old"):
            await source.now(server.client, NINE + 1801.0)
        assert told(await source.now(server.client, NINE - 300.0)) == [
            (0, 300, 28.0, Quality.LIVE)
        ]  # our clock is slow
        with pytest.raises(NoDataError):
            await source.now(server.client, NINE - 301.0)
        server.answers["/"] = envelope([five(NINE + 30 * DAY, 30.0), five(NINE, 28.0)])
        assert told(await source.now(server.client, NINE + 10.0)) == [(0, 300, 28.0, Quality.LIVE)]


async def test_a_value_that_is_not_there_yet_is_left_out_and_zero_is_one() -> None:
    server = LocalServer({"/": envelope([five(NINE, None), five(NINE - FIVE, 0), five(NINE - 2 * FIVE, 0.5)])})
    async with server:
        answer = await bound(server).now(server.client, NINE + 10.0)
    assert told(answer) == [(-600, -300, 0.5, Quality.LIVE), (-300, 0, 0.0, Quality.LIVE)]


async def test_the_forecast_begins_with_the_five_minutes_that_run() -> None:
    records = [five(NINE + n * FIVE, 100.0 + n, area) for n in range(-2, 108) for area in ("DK1", "DK2")]
    server = LocalServer({"/": envelope(records)})
    async with server:
        source = bound(server, "DK-DK2")
        answer = await source.forecast(server.client, NINE + 10.0, 0.25)
        assert server.asked == [
            ("/dataset/CO2EmisProg", {"start": "now-PT5M", "sort": "Minutes5UTC asc", "limit": "0"}),
        ]
        assert told(answer) == [
            (0, 300, 100.0, Quality.FORECAST),
            (300, 600, 101.0, Quality.FORECAST),
            (600, 900, 102.0, Quality.FORECAST),
            (900, 1200, 103.0, Quality.FORECAST),
        ]
        assert len((await source.forecast(server.client, NINE, 48.0)).samples) == 108
        with pytest.raises(NoDataError):
            await source.forecast(server.client, NINE + DAY, 48.0)


async def test_the_countrys_forecast_is_the_mean_where_both_areas_have_one() -> None:
    records = [
        five(NINE, 100.0, "DK1"),
        five(NINE, 51.0, "DK2"),
        five(NINE + FIVE, 90.0, "DK1"),
        five(NINE + 2 * FIVE, 80.0, "DK1"),
        five(NINE + 2 * FIVE, None, "DK2"),
        five(NINE + 3 * FIVE, 70.0, "DK1"),
        five(NINE + 3 * FIVE, 72.0, "DK1"),
        five(NINE + 4 * FIVE, 60.0, "DK2"),
        five(NINE + 4 * FIVE, 0.0, "DK1"),
        five(NINE + 4 * FIVE, 900.0, "SE4"),
    ]
    server = LocalServer({"/": envelope(records)})
    async with server:
        answer = await bound(server, "DK").forecast(server.client, NINE, 9.0)
    assert told(answer) == [(0, 300, 75.5, Quality.FORECAST), (1200, 1500, 30.0, Quality.FORECAST)]
    assert answer.note == "the forecast is the mean of the two price areas' forecasts"


@pytest.mark.parametrize(
    ("zone", "days", "questions"), [("DK-DK1", 7, 1), ("DK-DK2", 15, 3), ("DK", 1, 1), ("DK", 4, 3)]
)
async def test_the_past_has_each_five_minutes_once(zone: str, days: int, questions: int) -> None:
    server = LocalServer({"/": history})
    begin, end = NINE + 10.0, NINE + days * DAY - 10.0
    async with server:
        found = await bound(server, zone).past(server.client, begin, end, end + DAY)
    assert [s.from_s for s in found.samples] == list(range(NINE, NINE + days * DAY, FIVE))
    assert all(a.to_s == b.from_s for a, b in itertools.pairwise(found.samples))
    assert {s.quality for s in found.samples} == {Quality.LIVE}
    assert [s.g_per_kwh for s in found.samples] == pytest.approx([number(s.from_s) for s in found.samples], abs=1e-9)
    assert len(server.asked) == questions
    path, query = server.asked[0]
    if zone == "DK":
        assert (path, query["sort"]) == ("/dataset/PowerSystemRightNow", "Minutes1UTC asc")
    else:
        assert (path, query["sort"]) == ("/dataset/CO2Emis", "Minutes5UTC asc")
        assert query["filter"] == f'{{"PriceArea":["{zone[3:]}"]}}'
    assert query["start"] == "2026-07-01T09:00"
    # Well under the client's limits, even if the service should write each value into a line of its own.
    records = max((json.loads(body)["records"] for body in server.sent), key=len)
    assert len(json.dumps(records, indent=1)) < MOST_BYTES
    assert max(b.count(b",") + b.count(b"[") + b.count(b"{") for b in server.sent) < MOST_VALUES * 0.8


async def test_a_past_that_reaches_into_the_present_has_no_value_of_later() -> None:
    server = LocalServer({"/": history})
    async with server:
        found = await bound(server).past(server.client, NINE, NINE + 3600.0, NINE + 700.0)
    assert [s.from_s - NINE for s in found.samples] == [0, 300, 600]


@pytest.mark.parametrize("empty", [0, 1, 2])
async def test_a_piece_without_data_does_not_lose_the_others(empty: int) -> None:
    server: LocalServer = LocalServer(
        {"/": lambda request: envelope([]) if len(server.asked) == empty + 1 else history(request)}
    )
    async with server:
        found = await bound(server).past(server.client, NINE, NINE + 21 * DAY, NINE + 30 * DAY)
        begins = {s.from_s for s in found.samples}
        assert [n for n in range(21) if NINE + n * DAY in begins] == [n for n in range(21) if n // 7 != empty]
        assert len(begins) == 14 * 288
        server.answers["/"] = envelope([])
        with pytest.raises(NoDataError, match="of that time for DK-DK1"):
            await bound(server).past(server.client, NINE, NINE + 21 * DAY, NINE + 30 * DAY)
        with pytest.raises(NoDataError):
            await bound(server).past(server.client, NINE, NINE, NINE + DAY)


@pytest.mark.parametrize("status", [403, 429, 503])
async def test_what_was_found_before_it_was_asked_too_often_is_the_answer(status: int) -> None:
    server: LocalServer = LocalServer({"/": lambda request: status if len(server.asked) > 1 else history(request)})
    async with server:
        found = await bound(server).past(server.client, NINE, NINE + 21 * DAY, NINE + 30 * DAY)
        assert (len(server.asked), found.samples[-1].to_s) == (2, NINE + 7 * DAY)
        with pytest.raises(SourceDownError):
            await bound(server).past(server.client, NINE, NINE + 21 * DAY, NINE + 30 * DAY)
    assert len(server.asked) == 3


@pytest.mark.parametrize(("month", "date", "hours"), [(3, 29, 23), (10, 25, 25)])
@pytest.mark.parametrize("zone", ["DK-DK1", "DK"])
async def test_the_nights_of_the_clock_changes_have_each_five_minutes_once(
    zone: str, month: int, date: int, hours: int
) -> None:
    begin = int(datetime(2026, month, date, tzinfo=COPENHAGEN).timestamp())
    end = int(datetime(2026, month, date + 1, tzinfo=COPENHAGEN).timestamp())
    assert (end - begin) / 3600 == hours

    def day(request: web.Request) -> dict[str, Any]:
        query = request.query
        if "start" in query and "now" not in query["start"]:
            assert window(query) == range(begin, end, FIVE)
        if zone == "DK" and query["sort"].startswith("Minutes1"):
            return envelope([minute(s, float((s - begin) // FIVE)) for s in range(begin, end, 60)])
        times = range(begin, end, FIVE)
        return envelope([five(s, float((s - begin) // FIVE), area) for s in times for area in ("DK1", "DK2")])

    server = LocalServer({"/": day})
    async with server:
        source = bound(server, zone)
        past = await source.past(server.client, begin, end, end)
        ahead = await source.forecast(server.client, begin, float(hours))
        newest = await source.now(server.client, end - 1.0)
    for answer in (past, ahead, newest):
        assert [s.g_per_kwh for s in answer.samples] == [float(n) for n in range(hours * 12)]
        assert [s.from_s for s in answer.samples] == list(range(begin, end, FIVE))
        at_three = answer.samples[24 if hours == 23 else 48]
        assert at_three.from_s == datetime(2026, month, date, 3, tzinfo=COPENHAGEN).astimezone(UTC).timestamp()


@pytest.mark.parametrize(
    ("status", "headers", "pause_s"),
    [
        (403, {}, 300.0),
        (429, {}, 300.0),
        (429, {"Retry-After": "7"}, 300.0),
        (429, {"Retry-After": "900"}, 900.0),
        (500, {}, 60.0),
        (503, {"Retry-After": "2"}, 60.0),
        (503, {"Retry-After": "120"}, 120.0),
    ],
)
async def test_who_asks_too_often_waits(status: int, headers: dict[str, str], pause_s: float) -> None:
    server = LocalServer({"/": lambda _: web.Response(text="<html>Forbidden</html>", status=status, headers=headers)})
    async with server:
        with pytest.raises(SourceDownError, match=f"answered {status}") as caught:
            await bound(server).now(server.client, NINE)
    assert (caught.value.status, caught.value.retry_after_s) == (status, pause_s)
    assert ("asked too often" in str(caught.value)) is (status in {403, 429})
    assert len(server.asked) == 1


async def test_a_question_that_it_does_not_understand_is_not_asked_again() -> None:
    server = LocalServer({"/": "no such column"}, status=400)
    async with server:
        with pytest.raises(SourceRefusedError, match="answered 400: no such column"):
            await bound(server).now(server.client, NINE)


async def test_nobody_there_may_be_asked_again_soon() -> None:
    server = LocalServer()
    async with server:
        pass
    with pytest.raises(SourceDownError) as caught:
        await bound(server).now(server.client, NINE)
    await server.client.aclose()
    assert caught.value.retry_after_s is None


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (envelope([]), NoDataError),
        (envelope([five(NINE, None)]), NoDataError),
        (envelope([five(NINE, 28.0, "DK2")]), NoDataError),
        (envelope([five(NINE, -1.0)]), BadAnswerError),
        (envelope([five(NINE, 3001.0)]), BadAnswerError),
        (envelope([five(NINE, 10**400)]), BadAnswerError),
        (envelope([five(NINE, "28.0")]), BadAnswerError),
        (envelope([five(NINE, True)]), BadAnswerError),
        (envelope([five(NINE, {})]), BadAnswerError),
        (envelope([{**five(NINE, 28.0), "Minutes5UTC": None}]), BadAnswerError),
        (envelope([{**five(NINE, 28.0), "Minutes5UTC": NINE}]), BadAnswerError),
        (envelope([{**five(NINE, 28.0), "Minutes5UTC": "noon"}]), BadAnswerError),
        (envelope([{**five(NINE, 28.0), "PriceArea": ["DK1"]}]), BadAnswerError),
        (envelope([{"Minutes5UTC": utc(NINE), "CO2Emission": 28.0}]), BadAnswerError),
        (envelope([{"Minutes5UTC": utc(NINE), "PriceArea": "DK1"}]), BadAnswerError),
        (envelope([{"Minutes5DK": danish(NINE), "PriceArea": "DK1", "CO2Emission": 28.0}]), BadAnswerError),
        (envelope([{}]), BadAnswerError),
        (envelope([None]), BadAnswerError),
        (envelope([[five(NINE, 28.0)]]), BadAnswerError),
        (envelope(None), BadAnswerError),
        (envelope({}), BadAnswerError),
        (envelope("records"), BadAnswerError),
        ({"total": 0}, BadAnswerError),
        ([], BadAnswerError),
        ("null", BadAnswerError),
        ("", BadAnswerError),
        ("<html>soon</html>", BadAnswerError),
        ('{"records":[{"Minutes5UTC":"2026-07-01T09:00:00","PriceArea":"DK1","CO2Emission":NaN}]}', BadAnswerError),
        ('{"records":[{"Minutes5UTC":"2026-07-01T09:00:00","PriceArea":"DK1","CO2Emission":1e999}]}', BadAnswerError),
        ('{"records":[{"Minutes5UTC":"2026', BadAnswerError),
    ],
)
async def test_what_cannot_be_used_is_no_value(body: Any, error: type[Exception]) -> None:
    server = LocalServer({"/": body})
    async with server:
        with pytest.raises(error) as caught:
            await bound(server).now(server.client, NINE + 160.0)
    # Another try within seconds would be one too many: one question a minute is allowed.
    assert not getattr(caught.value, "may_pass", False)


@pytest.mark.parametrize("zone", ["DK-BHM", "DK-DK3", "DK-84", "SE", "SE-SE4", "DE", "GL", "FO", "WORLD", "GB:N1"])
def test_elsewhere_it_covers_nothing(zone: str) -> None:
    assert dk.bind(at(zone), Access(url="https://example.org")) == ()


@pytest.mark.parametrize("zone", ["DK", "DK-DK1", "DK-DK2"])
def test_it_is_a_source(zone: str) -> None:
    (source,) = dk.bind(at(zone), Access(url="https://me:hush@example.org/x"))
    assert isinstance(source, Source)
    traits = source.traits
    assert (traits.name, traits.zone, traits.step_s, traits.stale_s) == ("energidataservice", zone, 300.0, 1800.0)
    assert traits.has_past
    assert traits.has_forecast
    assert traits.forecast_every_s == 900.0
    assert not traits.corrects  # its values are measured as they come
    assert traits.asked_at == "https://example.org/x"
    assert "hush" not in repr(source)
    assert dk.URL == "https://api.energidataservice.dk"


class Said:
    """A client that was answered this, whatever it asks."""

    def __init__(self, body: Any) -> None:
        self.body = body

    async def json(self, url: str, **_: Any) -> Any:
        return self.body


TIMES = st.sampled_from([utc(NINE), utc(NINE + 60), "0001-01-01T00:00+23:59", "9999-12-31T23:59-23:59", "2026-07-01"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9) | TIMES
KEYS = st.sampled_from(["records", "Minutes5UTC", "Minutes1UTC", "PriceArea", "CO2Emission"])
ANY_JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=12
)
LIKELY = st.fixed_dictionaries(
    {
        "Minutes5UTC": TIMES | LEAVES,
        "Minutes1UTC": TIMES | LEAVES,
        "PriceArea": st.sampled_from(["DK1", "DK2"]) | LEAVES,
        "CO2Emission": st.floats(0.0, 3000.0) | LEAVES,
    }
)
BODIES = ANY_JSON | st.builds(lambda records: {"records": records}, st.lists(LIKELY | ANY_JSON, max_size=4))


@given(BODIES, st.sampled_from(["DK", "DK-DK1", "DK-DK2"]))
def test_whatever_json_comes_only_our_errors_leave(body: Any, zone: str) -> None:
    client = cast("Client", Said(body))
    (source,) = dk.bind(at(zone), Access(url="https://example.org"))

    async def ask() -> None:
        for question in (
            source.now(client, NINE + 160.0),
            source.past(client, NINE - FIVE, NINE + FIVE, NINE + FIVE),
            source.forecast(client, NINE + 61.0, 24.0),
        ):
            try:
                answer = await question
            except IntensityError:
                continue
            assert answer.samples
            assert all(a.to_s <= b.from_s for a, b in itertools.pairwise(answer.samples))
            assert all(0.0 <= s.g_per_kwh <= 3000.0 and s.from_s < s.to_s for s in answer.samples)

    asyncio.run(ask())

"""eCO2mix on ODRE against a real local server that answers in its shapes."""

from __future__ import annotations

import asyncio
import itertools
import re
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
from aiocarbon.intensity import odre
from aiocarbon.intensity.base import Access, Source
from aiocarbon.intensity.client import MOST_BYTES, MOST_VALUES, Client
from aiocarbon.testing import LocalServer

pytestmark = pytest.mark.anyio

NINETEEN = int(datetime(2026, 6, 14, 19, tzinfo=UTC).timestamp())  # 21:00 in France
QUARTER = 900
DAY = 86400
PATH = "/api/explore/v2.1/catalog/datasets/eco2mix-national-tr/records"
PARIS = ZoneInfo("Europe/Paris")
LIMITS = re.compile(
    r"taux_co2 is not null and date_heure >= date'(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)'"
    r" and date_heure < date'(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)'"
)


def at(zone: str) -> Location:
    return Location(zone=zone, name=zone, how="given", is_guess=False)


def bound(server: LocalServer) -> Source:
    (source,) = odre.bind(at("FR"), Access(url=server.url))
    return source


def row(at_s: float, value: Any, zone: Any = UTC) -> dict[str, Any]:
    return {"date_heure": datetime.fromtimestamp(at_s, zone).isoformat(), "taux_co2": value}


def results(*rows: Any) -> dict[str, Any]:
    return {"total_count": len(rows), "results": list(rows)}


def told(answer: Answer) -> list[tuple[float, float, float, Quality]]:
    return [(s.from_s - NINETEEN, s.to_s - NINETEEN, s.g_per_kwh, s.quality) for s in answer.samples]


def number(at_s: float) -> int:
    return int((at_s - NINETEEN) // QUARTER % 2999)


def history(request: web.Request, zone: Any = UTC) -> dict[str, Any]:
    """The quarter hours between two instants, of which one answer holds a hundred, in no order."""
    match = LIMITS.fullmatch(request.query["where"])
    assert match is not None
    begin, end = (datetime.fromisoformat(text).timestamp() for text in match.groups())
    times = [s for s in range(int(begin // QUARTER * QUARTER), int(end) + QUARTER, QUARTER) if begin <= s < end]
    rows = [row(s, number(s), zone) for s in times][: min(int(request.query["limit"]), 100)]
    return {"total_count": len(times), "results": rows[1::2] + rows[::2]}


async def test_the_newest_values_exactly_and_what_was_asked() -> None:
    server = LocalServer({"/": results(row(NINETEEN, 15), row(NINETEEN - QUARTER, 16), row(NINETEEN - 2 * QUARTER, 0))})
    async with server:
        answer = await bound(server).now(server.client, NINETEEN + 1500.0)
    asked = {
        "select": "date_heure,taux_co2",
        "where": "taux_co2 is not null",
        "order_by": "date_heure desc",
        "limit": "8",
        "timezone": "UTC",
    }
    assert server.asked == [(PATH, asked)]
    assert told(answer) == [
        (-1800, -900, 0.0, Quality.LIVE),
        (-900, 0, 16.0, Quality.LIVE),
        (0, 900, 15.0, Quality.LIVE),
    ]
    assert (answer.source, answer.title, answer.zone) == ("odre", "eCO2mix (RTE, ODRE)", "FR")
    assert (answer.kind, answer.factor_basis) == (IntensityKind.AVERAGE, FactorBasis.DIRECT)
    assert answer.note == "of production in France, imports left out"


async def test_local_times_carry_their_offset() -> None:
    server = LocalServer({"/": results({"date_heure": "2026-06-14T21:00:00+02:00", "taux_co2": 15})})
    async with server:
        assert told(await bound(server).now(server.client, NINETEEN + 5.0)) == [(0, 900, 15.0, Quality.LIVE)]


async def test_a_value_older_than_two_hours_or_of_a_time_to_come_is_none_of_now() -> None:
    server = LocalServer({"/": results(row(NINETEEN, 15))})
    async with server:
        source = bound(server)
        assert told(await source.now(server.client, NINETEEN + 7200.0)) == [(0, 900, 15.0, Quality.LIVE)]
        with pytest.raises(NoDataError, match="of 2026-06-14 19:00 UTC, too old"):
            await source.now(server.client, NINETEEN + 7201.0)
        assert told(await source.now(server.client, NINETEEN - 900.0)) == [
            (0, 900, 15.0, Quality.LIVE)
        ]  # our clock is slow
        with pytest.raises(NoDataError):
            await source.now(server.client, NINETEEN - 901.0)
        server.answers["/"] = results(row(NINETEEN + 30 * DAY, 99), row(NINETEEN, 15))
        assert told(await source.now(server.client, NINETEEN + 5.0)) == [(0, 900, 15.0, Quality.LIVE)]


async def test_the_rest_of_the_day_has_no_value_and_some_numbers_are_texts() -> None:
    rows = [
        row(NINETEEN + QUARTER, None),
        row(NINETEEN, "ND"),
        row(NINETEEN - QUARTER, ""),
        row(NINETEEN - 2 * QUARTER, "0"),
        row(NINETEEN - 3 * QUARTER, " 15 "),
        row(NINETEEN - 4 * QUARTER, "15.5"),
    ]
    server = LocalServer({"/": results(*rows)})
    async with server:
        answer = await bound(server).now(server.client, NINETEEN + 5.0)
    assert [(s.from_s - NINETEEN, s.g_per_kwh) for s in answer.samples] == [(-3600, 15.5), (-2700, 15.0), (-1800, 0.0)]


async def test_there_is_no_forecast() -> None:
    server = LocalServer({"/": results(row(NINETEEN, 15))})
    async with server:
        with pytest.raises(NoDataError, match="no forecast"):
            await bound(server).forecast(server.client, NINETEEN, 24.0)
    assert server.asked == []


@pytest.mark.parametrize(
    ("begin", "end", "questions"),
    [
        (0.0, 900.0, 1),
        (420.0, 480.0, 1),
        (0.0, 24 * 3600.0, 1),
        (420.0, 25 * 3600.0, 2),
        (899.9, 14 * DAY + 0.1, 15),
    ],
)
async def test_the_past_has_each_quarter_hour_once(begin: float, end: float, questions: int) -> None:
    server = LocalServer({"/": history})
    async with server:
        found = await bound(server).past(server.client, NINETEEN + begin, NINETEEN + end, NINETEEN + 30 * DAY)
    last = -(-end // QUARTER)
    assert [(s.from_s - NINETEEN) / QUARTER for s in found.samples] == list(range(int(last)))
    assert all(s.g_per_kwh == number(s.from_s) and s.quality is Quality.LIVE for s in found.samples)
    assert all(a.to_s == b.from_s for a, b in itertools.pairwise(found.samples))
    assert len(server.asked) == questions
    path, query = server.asked[0]
    assert path == PATH
    assert (query["select"], query["order_by"]) == ("date_heure,taux_co2", "date_heure asc")
    assert (query["limit"], query["timezone"]) == ("100", "UTC")
    assert "date_heure >= date'2026-06-14T19:00:00Z'" in query["where"]
    assert max(map(len, server.sent)) < MOST_BYTES
    assert max(b.count(b",") + b.count(b"[") + b.count(b"{") for b in server.sent) < MOST_VALUES


async def test_a_past_that_reaches_into_the_present_has_no_value_of_later() -> None:
    server = LocalServer({"/": history})
    async with server:
        found = await bound(server).past(server.client, NINETEEN, NINETEEN + 3600.0, NINETEEN + 1000.0)
    assert [s.from_s - NINETEEN for s in found.samples] == [0, 900]


@pytest.mark.parametrize("empty", [0, 1, 2])
async def test_a_piece_without_data_does_not_lose_the_others(empty: int) -> None:
    server: LocalServer = LocalServer(
        {"/": lambda request: results() if len(server.asked) == empty + 1 else history(request)}
    )
    async with server:
        found = await bound(server).past(server.client, NINETEEN, NINETEEN + 3 * DAY, NINETEEN + 9 * DAY)
        begins = {s.from_s for s in found.samples}
        assert [n for n in range(3) if NINETEEN + n * DAY in begins] == [n for n in range(3) if n != empty]
        assert len(begins) == 2 * 96
        server.answers["/"] = results(row(NINETEEN, None))
        with pytest.raises(NoDataError, match="of that time for FR"):
            await bound(server).past(server.client, NINETEEN, NINETEEN + 3 * DAY, NINETEEN + 9 * DAY)
        with pytest.raises(NoDataError):
            await bound(server).past(server.client, NINETEEN, NINETEEN, NINETEEN + DAY)


async def test_what_was_found_before_a_failure_is_the_answer() -> None:
    server: LocalServer = LocalServer({"/": lambda request: 503 if len(server.asked) > 1 else history(request)})
    async with server:
        found = await bound(server).past(server.client, NINETEEN, NINETEEN + 3 * DAY, NINETEEN + 9 * DAY)
        assert (len(server.asked), found.samples[-1].to_s) == (2, NINETEEN + DAY)
        with pytest.raises(SourceDownError, match="answered 503"):
            await bound(server).past(server.client, NINETEEN, NINETEEN + 3 * DAY, NINETEEN + 9 * DAY)
    assert len(server.asked) == 3


@pytest.mark.parametrize("zone", [UTC, PARIS])
@pytest.mark.parametrize(("month", "date", "quarters"), [(3, 29, 92), (10, 25, 100)])
async def test_the_nights_of_the_clock_changes_have_each_quarter_hour_once(
    month: int, date: int, quarters: int, zone: Any
) -> None:
    begin = int(datetime(2026, month, date, tzinfo=PARIS).timestamp())
    end = int(datetime(2026, month, date + 1, tzinfo=PARIS).timestamp())
    assert (end - begin) / QUARTER == quarters
    server = LocalServer({"/": lambda request: history(request, zone)})
    async with server:
        past = await bound(server).past(server.client, begin, end, end)
        server.answers["/"] = results(
            *(row(s, number(s), zone) for s in range(end - QUARTER, begin - QUARTER, -QUARTER))
        )
        newest = await bound(server).now(server.client, end - 1.0)
    for answer in (past, newest):
        assert [s.from_s for s in answer.samples] == list(range(begin, end, QUARTER))
        assert all(s.g_per_kwh == number(s.from_s) for s in answer.samples)
        assert all(a.to_s == b.from_s for a, b in itertools.pairwise(answer.samples))
        at_three = answer.samples[8 if quarters == 92 else 16]
        assert at_three.from_s == datetime(2026, month, date, 3, tzinfo=PARIS).astimezone(UTC).timestamp()


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (results(), NoDataError),
        (results(row(NINETEEN, None)), NoDataError),
        (results(row(NINETEEN, -1)), BadAnswerError),
        (results(row(NINETEEN, 3001)), BadAnswerError),
        (results(row(NINETEEN, 10**400)), BadAnswerError),
        (results(row(NINETEEN, True)), BadAnswerError),
        (results(row(NINETEEN, [15])), BadAnswerError),
        (results(row(NINETEEN, "fifteen")), BadAnswerError),
        (results(row(NINETEEN, "1_5")), BadAnswerError),
        (results(row(NINETEEN, "nan")), BadAnswerError),
        (results(row(NINETEEN, "inf")), BadAnswerError),
        (results(row(NINETEEN, "-1")), BadAnswerError),
        (results({"date_heure": "2026-06-14T19:00:00+00:00"}), BadAnswerError),
        (results({"taux_co2": 15}), BadAnswerError),
        (results({"date_heure": None, "taux_co2": 15}), BadAnswerError),
        (results({"date_heure": NINETEEN, "taux_co2": 15}), BadAnswerError),
        (results({"date_heure": "21:00", "taux_co2": 15}), BadAnswerError),
        (results({}), BadAnswerError),
        (results(None), BadAnswerError),
        (results(["taux_co2"]), BadAnswerError),
        ({"results": None}, BadAnswerError),
        ({"results": {}}, BadAnswerError),
        ({"results": "taux_co2"}, BadAnswerError),
        ({"nhits": 1, "records": [{"fields": row(NINETEEN, 15)}]}, BadAnswerError),
        ({"error_code": "ODSQLError", "message": "no"}, BadAnswerError),
        ([], BadAnswerError),
        ("null", BadAnswerError),
        ("", BadAnswerError),
        ("<html>soon</html>", BadAnswerError),
        ('{"results":[{"date_heure":"2026-06-14T19:00:00+00:00","taux_co2":NaN}]}', BadAnswerError),
        ('{"results":[{"date_heure":"2026-06-14T19:00:00+00:00","taux_co2":1e999}]}', BadAnswerError),
        ('{"results":[{"date_heure":"2026', BadAnswerError),
    ],
)
async def test_what_cannot_be_used_is_no_value(body: Any, error: type[Exception]) -> None:
    server = LocalServer({"/": body})
    async with server:
        with pytest.raises(error):
            await bound(server).now(server.client, NINETEEN + 5.0)


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, SourceRefusedError), (404, SourceRefusedError), (429, SourceDownError), (503, SourceDownError)],
)
async def test_a_refusal_says_why(status: int, error: type[Exception]) -> None:
    server = LocalServer({"/": {"error_code": "ODSQLError", "message": "ODSQL query is malformed"}}, status=status)
    async with server:
        with pytest.raises(error, match=f"answered {status}: .*malformed"):
            await bound(server).now(server.client, NINETEEN)
    assert len(server.asked) == 1


@pytest.mark.parametrize("zone", ["FR-COR", "FR-IDF", "FR-RE", "RE", "GP", "MC", "BE", "DE", "WORLD", "GB:N1"])
def test_elsewhere_it_covers_nothing(zone: str) -> None:
    assert odre.bind(at(zone), Access(url="https://example.org")) == ()


def test_it_is_a_source() -> None:
    (source,) = odre.bind(at("FR"), Access(url="https://me:hush@example.org/x"))
    assert isinstance(source, Source)
    traits = source.traits
    assert (traits.name, traits.zone, traits.step_s, traits.stale_s) == ("odre", "FR", 900.0, 7200.0)
    assert traits.has_past
    assert not traits.has_forecast
    assert not traits.corrects  # its values are measured as they come
    assert traits.asked_at == "https://example.org/x"
    assert "hush" not in repr(source)
    assert odre.URL == "https://odre.opendatasoft.com"


class Said:
    """A client that was answered this, whatever it asks."""

    def __init__(self, body: Any) -> None:
        self.body = body

    async def json(self, url: str, **_: Any) -> Any:
        return self.body


TIMES = st.sampled_from(
    ["2026-06-14T19:00:00+00:00", "2026-06-14T21:15:00+02:00", "0001-01-01T00:00+23:59", "9999-12-31T23:59-23:59"]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9) | TIMES
TEXTS = st.floats().map(str) | st.integers().map(str) | st.text(alphabet="0123456789.eE+-_ xNDnai", max_size=6)
KEYS = st.sampled_from(["results", "date_heure", "taux_co2"])
ANY_JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=12
)
LIKELY = st.fixed_dictionaries({"date_heure": TIMES | LEAVES, "taux_co2": st.floats(0.0, 3000.0) | LEAVES | TEXTS})
BODIES = ANY_JSON | st.builds(lambda rows: {"results": rows}, st.lists(LIKELY | ANY_JSON, max_size=4))


@given(BODIES)
def test_whatever_json_comes_only_our_errors_leave(body: Any) -> None:
    client = cast("Client", Said(body))
    (source,) = odre.bind(at("FR"), Access(url="https://example.org"))

    async def ask() -> None:
        for question in (
            source.now(client, NINETEEN + 5.0),
            source.past(client, NINETEEN - QUARTER, NINETEEN + 2 * QUARTER, NINETEEN + DAY),
            source.forecast(client, NINETEEN + 5.0, 24.0),
        ):
            try:
                answer = await question
            except IntensityError:
                continue
            assert answer.samples
            assert all(a.to_s <= b.from_s for a, b in itertools.pairwise(answer.samples))
            assert all(0.0 <= s.g_per_kwh <= 3000.0 and s.from_s < s.to_s for s in answer.samples)

    asyncio.run(ask())

"""Energy-Charts against a real local server that answers in its shapes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from aiohttp import web

from aiocarbon._core.intensity import FactorBasis, IntensityKind, Location, Quality
from aiocarbon.errors import BadAnswerError, NoDataError, SourceDownError, SourceRefusedError
from aiocarbon.intensity import energycharts
from aiocarbon.intensity.base import Access, Source
from aiocarbon.testing import LocalServer

pytestmark = pytest.mark.anyio

BEGIN = 1783893600  # 2026-07-12 22:00 UTC, midnight in Germany
QUARTER = 900
REFUSAL = "'xx' is not the code for an available country. Please refer to the API doc"


def at(zone: str) -> Location:
    return Location(zone=zone, name=zone, how="given", is_guess=False)


def bound(server: LocalServer, zone: str = "DE") -> Source:
    (source,) = energycharts.bind(at(zone), Access(url=server.url))
    return source


def day(measured: list[Any], ahead: list[Any], *, begin: float = BEGIN, step: float = QUARTER) -> dict[str, Any]:
    return {
        "unix_seconds": [begin + i * step for i in range(len(measured))],
        "co2eq": measured,
        "co2eq_forecast": ahead,
        "deprecated": False,
    }


def usual() -> dict[str, Any]:
    return day([491.5, 497.4, 502.6, None, None, None, None], [None, None, None, 505.0, 508.0, None, None])


async def test_a_day_is_what_was_measured_and_then_the_forecast() -> None:
    server = LocalServer({"/": usual()})
    async with server:
        answer = await bound(server).now(server.client, BEGIN + 2.5 * QUARTER)
    assert server.asked == [("/co2eq", {"country": "de"})]
    assert [tuple(sample) for sample in answer.samples] == [
        (BEGIN, BEGIN + 900, 491.5, Quality.LIVE),
        (BEGIN + 900, BEGIN + 1800, 497.4, Quality.LIVE),
        (BEGIN + 1800, BEGIN + 2700, 502.6, Quality.LIVE),
        (BEGIN + 2700, BEGIN + 3600, 505.0, Quality.FORECAST),
        (BEGIN + 3600, BEGIN + 4500, 508.0, Quality.FORECAST),
    ]
    assert (answer.source, answer.title, answer.zone, answer.note) == ("energycharts", "Energy-Charts", "DE", "")
    assert (answer.kind, answer.factor_basis) == (IntensityKind.AVERAGE, FactorBasis.UNKNOWN)


async def test_a_measured_value_counts_where_there_is_also_a_forecast_and_zero_is_a_value() -> None:
    server = LocalServer({"/": day([0, 10.0], [300.0, 300.0])})
    async with server:
        answer = await bound(server).now(server.client, BEGIN + 1000)
    assert [(s.g_per_kwh, s.quality) for s in answer.samples] == [(0.0, Quality.LIVE), (10.0, Quality.LIVE)]


@pytest.mark.parametrize(
    ("zone", "country", "answered"),
    [
        ("SE-SE3", "se", "SE"),
        ("DE-LU", "de", "DE"),
        ("IT-NO", "it", "IT"),
        ("IE", "ie", "IE"),
        ("GB-NIR", "nie", "GB-NIR"),
        ("GB:BT7", "nie", "GB-NIR"),
    ],
)
async def test_the_country_answers_for_its_zones_and_says_so(zone: str, country: str, answered: str) -> None:
    server = LocalServer({"/": usual()})
    async with server:
        source = bound(server, zone)
        answer = await source.now(server.client, BEGIN + 2000)
    assert server.asked[0][1] == {"country": country}
    assert answer.zone == source.traits.zone == answered
    finer = zone not in {"IE", "GB-NIR", "GB:BT7"}
    assert answer.note == (f"values of all {answered}: there are none of {zone}" if finer else "")


@pytest.mark.parametrize(
    "zone",
    [
        "WORLD",
        "US",
        "US-CA",
        "GB",
        "GB:N1",
        "GB-SCT",
        "CN",
        "ES-CN-TE",
        "PT-AC",
        "FR-COR",
        "FR-2A",
        "FR-974",
        "RE",
        "FI-01",
        "RU",
        "UK",
    ],
)
def test_elsewhere_it_covers_nothing(zone: str) -> None:
    assert energycharts.bind(at(zone), Access(url="https://example.org")) == ()


async def test_values_that_came_to_a_halt_are_not_carried_on_by_their_forecast() -> None:
    server = LocalServer({"/": day([400.0, None, None, None], [None, 410.0, 420.0, 430.0], step=3600)})
    async with server:
        source = bound(server)
        assert (await source.now(server.client, BEGIN + 2 * 3600)).samples[0].g_per_kwh == 400.0
        with pytest.raises(NoDataError, match="of 2026-07-12 22:00 UTC, too old"):
            await source.now(server.client, BEGIN + 2 * 3600 + 1)


async def test_just_after_midnight_the_forecast_holds_until_something_is_measured() -> None:
    server = LocalServer({"/": day([None, None, None], [300.0, 310.0, None])})
    async with server:
        source = bound(server)
        answer = await source.now(server.client, BEGIN + 1000)
        assert [(s.g_per_kwh, s.quality) for s in answer.samples] == [
            (300.0, Quality.FORECAST),
            (310.0, Quality.FORECAST),
        ]
        with pytest.raises(NoDataError, match="no measured value"):
            await source.now(server.client, BEGIN + 2 * QUARTER)  # of this quarter hour it says nothing
        server.answers["/"] = day([None] * 20, [300.0] * 20)
        with pytest.raises(NoDataError, match="no measured value"):
            await source.now(server.client, BEGIN + 3 * 3600)


async def test_the_forecast_begins_now_and_is_as_long_as_asked() -> None:
    server = LocalServer({"/": day([490.0, 491.0, None, None, None, None], [None, None, 500.0, 501.0, 502.0, 503.0])})
    async with server:
        source = bound(server)
        answer = await source.forecast(server.client, BEGIN + 3.5 * QUARTER, 0.25)
        assert [(s.from_s - BEGIN, s.g_per_kwh) for s in answer.samples] == [(2700, 501.0), (3600, 502.0)]
        assert {s.quality for s in answer.samples} == {Quality.FORECAST}
        with pytest.raises(NoDataError):
            await source.forecast(server.client, BEGIN + 6 * QUARTER, 24.0)
        server.answers["/"] = day([1.0], [None])
        with pytest.raises(NoDataError):
            await source.forecast(server.client, BEGIN, 24.0)


async def test_the_past_is_asked_for_in_weeks_and_gives_only_what_was_measured() -> None:
    def answer(request: web.Request) -> dict[str, Any]:
        begin, end = int(request.query["start"]), int(request.query["end"])
        times = range(begin, end + QUARTER, QUARTER)  # the end itself may be in it
        return {
            "unix_seconds": list(times),
            "co2eq": [None if at == BEGIN + QUARTER else (at - BEGIN) / 1e4 for at in times],
            "co2eq_forecast": [1.0 for _ in times],
        }

    server = LocalServer({"/": answer})
    begin, end, week = BEGIN + 100.0, BEGIN + 8 * 86400 + 50.0, 7 * 86400
    async with server:
        found = await bound(server).past(server.client, begin, end, end + 1)
    assert [query for _, query in server.asked] == [
        {"country": "de", "start": f"{BEGIN}", "end": f"{BEGIN + week}"},
        {"country": "de", "start": f"{BEGIN + week}", "end": f"{BEGIN + 8 * 86400 + QUARTER}"},
    ]
    assert len(found.samples) == 8 * 96  # one quarter hour more, one of them null
    assert [s.from_s - BEGIN for s in found.samples[:2]] == [0, 1800]
    assert found.samples[-1].from_s == BEGIN + 8 * 86400
    assert {s.quality for s in found.samples} == {Quality.LIVE}
    assert all(s.g_per_kwh == (s.from_s - BEGIN) / 1e4 for s in found.samples)


async def test_a_past_of_nulls_is_no_data() -> None:
    server = LocalServer({"/": day([None, None], [300.0, 300.0])})
    async with server:
        with pytest.raises(NoDataError, match="of that time"):
            await bound(server).past(server.client, BEGIN, BEGIN + 1800, BEGIN + 86400)


@pytest.mark.parametrize(("month", "date", "quarters"), [(3, 29, 92), (10, 25, 100)])
async def test_the_nights_of_the_clock_changes_have_each_quarter_hour_once(
    month: int, date: int, quarters: int
) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    begin = datetime(2026, month, date, tzinfo=berlin).timestamp()
    end = datetime(2026, month, date + 1, tzinfo=berlin).timestamp()
    assert (end - begin) / QUARTER == quarters
    server = LocalServer({"/": day([float(i) for i in range(quarters)], [None] * quarters, begin=begin)})
    async with server:
        answer = await bound(server).now(server.client, end)
        past = await bound(server).past(server.client, begin, end, end)
    assert past.samples == answer.samples
    assert [s.g_per_kwh for s in answer.samples] == [float(i) for i in range(quarters)]
    assert answer.samples[0].from_s == begin
    assert answer.samples[-1].to_s == end
    assert all(a.to_s == b.from_s for a, b in zip(answer.samples, answer.samples[1:], strict=False))
    at_three = answer.samples[8 if quarters == 92 else 16]
    assert at_three.from_s == datetime(2026, month, date, 3, tzinfo=berlin).astimezone(UTC).timestamp()


async def test_a_hole_in_the_times_is_not_filled_with_the_value_before_it() -> None:
    body = day([100.0, 200.0, 300.0], [None] * 3)
    body["unix_seconds"] = [BEGIN, BEGIN + 900, BEGIN + 3600]
    server = LocalServer({"/": body})
    async with server:
        answer = await bound(server).now(server.client, BEGIN + 4000)
    assert [(s.from_s - BEGIN, s.to_s - BEGIN) for s in answer.samples] == [(0, 900), (900, 1800), (3600, 4500)]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"unix_seconds": [], "co2eq": [], "co2eq_forecast": []}, NoDataError),
        (day([None, None], [None, None]), NoDataError),
        (day([-1.0], [None]), BadAnswerError),
        (day([3001.0], [None]), BadAnswerError),
        (day(["491.5"], [None]), BadAnswerError),
        (day([True], [None]), BadAnswerError),
        (day([100.0, None], [None, "x"]), BadAnswerError),
        ({**day([1.0, 2.0], [None, None]), "co2eq": [1.0]}, BadAnswerError),
        ({**day([1.0, 2.0], [None, None]), "co2eq_forecast": [1.0]}, BadAnswerError),
        ({**day([1.0], [None]), "unix_seconds": ["2026-07-12"]}, BadAnswerError),
        ({**day([1.0], [None]), "unix_seconds": [10**400]}, BadAnswerError),
        ({**day([1.0], [None]), "unix_seconds": [BEGIN * 1000]}, BadAnswerError),
        ({**day([1.0, 2.0], [None, None]), "unix_seconds": [BEGIN, BEGIN]}, BadAnswerError),
        ({**day([1.0, 2.0], [None, None]), "unix_seconds": [BEGIN, BEGIN - 900]}, BadAnswerError),
        (day([1.0], [None], begin=BEGIN + 30 * 86400), BadAnswerError),
        ({"unix_seconds": 1}, BadAnswerError),
        ({"unix_seconds": [1], "co2eq": None}, BadAnswerError),
        ([], BadAnswerError),
        (None, BadAnswerError),
        ("", BadAnswerError),
        ("<html>soon</html>", BadAnswerError),
        ('{"unix_seconds": [1783893600], "co2eq": [NaN], "co2eq_forecast": [null]}', BadAnswerError),
        ('{"unix_seconds": [1783893600], "co2eq": [1', BadAnswerError),
    ],
)
async def test_what_cannot_be_used_is_no_value(body: Any, error: type[Exception]) -> None:
    server = LocalServer({"/": body})
    async with server:
        with pytest.raises(error):
            await bound(server).now(server.client, BEGIN + 1000)


@pytest.mark.parametrize(
    ("status", "body", "error", "said"),
    [
        (400, REFUSAL, SourceRefusedError, "answered 400: 'xx' is not the code"),
        (404, "nothing here", SourceRefusedError, "answered 404"),
        (429, "slowly", SourceDownError, "answered 429"),
        (503, "<html>down</html>", SourceDownError, "answered 503"),
    ],
)
async def test_a_refusal_says_why(status: int, body: str, error: type[Exception], said: str) -> None:
    server = LocalServer({"/": body}, status=status)
    async with server:
        with pytest.raises(error, match=said):
            await bound(server).now(server.client, BEGIN)
    assert len(server.asked) == 1


def test_it_is_a_source() -> None:
    (source,) = energycharts.bind(at("FR"), Access(url="https://example.org"))
    assert isinstance(source, Source)
    traits = source.traits
    assert (traits.name, traits.zone, traits.step_s, traits.stale_s) == ("energycharts", "FR", 900.0, 7200.0)
    assert traits.has_past
    assert traits.has_forecast
    assert traits.corrects
    (finer,) = energycharts.bind(at("SE-SE3"), Access(url="https://me:hush@example.org"))
    assert finer.traits.asked_at == "https://example.org SE-SE3"
    assert "hush" not in repr(finer)
    assert energycharts.URL == "https://api.energy-charts.info"

"""Electricity Maps against a real local server that answers in its shapes."""

from __future__ import annotations

import traceback
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from aiocarbon._core.intensity import FactorBasis, IntensityKind, Location, Quality
from aiocarbon.errors import BadAnswerError, IntensityError, NoDataError, SourceDownError, SourceRefusedError
from aiocarbon.intensity import electricitymaps
from aiocarbon.intensity.base import Access, Source
from aiocarbon.testing import LocalServer

pytestmark = pytest.mark.anyio

TOKEN = "s3cret-t0ken"
NOW = datetime(2025, 11, 4, 10, 20, tzinfo=UTC).timestamp()
TEN = datetime(2025, 11, 4, 10, tzinfo=UTC).timestamp()
HOUR = 3600.0
DAY = 24 * HOUR
NOTE = "consumption-based, flow-traced"


def at(zone: str, latitude: float | None = None, longitude: float | None = None) -> Location:
    return Location(zone=zone, name=zone, how="given", is_guess=False, latitude=latitude, longitude=longitude)


def bound(server: LocalServer, place: Location | None = None, *, base: str = "/v4") -> Source:
    (source,) = electricitymaps.bind(place or at("DE"), Access(url=server.url + base, token=TOKEN))
    return source


def iso(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def point(at_s: float, value: Any, *, estimated: bool = False, **more: Any) -> dict[str, Any]:
    return {
        "zone": "DE",
        "carbonIntensity": value,
        "datetime": iso(at_s),
        "updatedAt": iso(at_s + 321),
        "createdAt": iso(at_s - 3 * DAY),
        "emissionFactorType": "lifecycle",
        "isEstimated": estimated,
        "estimationMethod": "TIME_SLICER_AVERAGE" if estimated else None,
        **more,
    }


def latest(server: LocalServer, body: Any, base: str = "/v4") -> None:
    server.answers[f"{base}/carbon-intensity/latest"] = body


async def test_the_newest_value_exactly_and_what_was_asked() -> None:
    server = LocalServer()
    latest(server, point(TEN, 302, estimated=True, temporalGranularity="hourly"))
    async with server:
        answer = await bound(server).now(server.client, NOW)
    assert server.asked == [("/v4/carbon-intensity/latest", {"zone": "DE", "emissionFactorType": "lifecycle"})]
    assert server.headers[0]["auth-token"] == TOKEN
    assert [tuple(s) for s in answer.samples] == [(TEN, TEN + HOUR, 302.0, Quality.ESTIMATED)]
    assert (answer.source, answer.title, answer.zone, answer.note) == (
        "electricitymaps",
        "Electricity Maps",
        "DE",
        NOTE,
    )
    assert (answer.kind, answer.factor_basis) == (IntensityKind.AVERAGE, FactorBasis.LIFE_CYCLE)


@pytest.mark.parametrize(
    ("more", "length", "quality", "basis"),
    [
        ({}, HOUR, Quality.LIVE, FactorBasis.LIFE_CYCLE),
        ({"temporalGranularity": "5_minutes"}, 300.0, Quality.LIVE, FactorBasis.LIFE_CYCLE),
        ({"temporalGranularity": "15_minutes"}, 900.0, Quality.LIVE, FactorBasis.LIFE_CYCLE),
        ({"temporalGranularity": None, "isEstimated": True}, HOUR, Quality.ESTIMATED, FactorBasis.LIFE_CYCLE),
        ({"emissionFactorType": "direct"}, HOUR, Quality.LIVE, FactorBasis.DIRECT),
        ({"emissionFactorType": None}, HOUR, Quality.LIVE, FactorBasis.LIFE_CYCLE),
        ({"emissionFactorType": "half"}, HOUR, Quality.LIVE, FactorBasis.UNKNOWN),
        ({"carbonIntensity": 0, "zone": "de"}, HOUR, Quality.LIVE, FactorBasis.LIFE_CYCLE),
    ],
)
async def test_the_answer_says_what_it_is(
    more: dict[str, Any], length: float, quality: Quality, basis: FactorBasis
) -> None:
    server = LocalServer()
    latest(server, {**point(TEN, 216), **more})
    async with server:
        answer = await bound(server).now(server.client, NOW)
    (sample,) = answer.samples
    assert sample == (TEN, TEN + length, float(more.get("carbonIntensity", 216)), quality)
    assert (answer.factor_basis, answer.zone) == (basis, "DE")


async def test_the_hour_that_begins_next_is_the_newest_but_none_later() -> None:
    server = LocalServer()
    latest(server, point(TEN + HOUR, 216, updatedAt=iso(TEN + 2908)))
    async with server:
        source = bound(server)
        assert (await source.now(server.client, NOW)).samples[0].from_s == TEN + HOUR
        with pytest.raises(BadAnswerError, match="time to come"):
            await source.now(server.client, TEN - 1)


async def test_a_value_older_than_three_hours_is_none() -> None:
    server = LocalServer()
    latest(server, point(TEN, 216))
    async with server:
        source = bound(server)
        assert (await source.now(server.client, TEN + 3 * HOUR)).samples[0].g_per_kwh == 216.0
        with pytest.raises(NoDataError, match="too old"):
            await source.now(server.client, TEN + 3 * HOUR + 1)


@pytest.mark.parametrize(
    ("base", "works", "paths"),
    [
        ("", "/v4", ["/v4"]),
        ("", "/v3", ["/v4", "/v3"]),
        ("", "", ["/v4", "/v3", ""]),
        ("/v3", "/v3", ["/v3"]),
        ("/v4/", "/v4", ["/v4"]),
        ("/free-tier", "/free-tier", ["/free-tier/v4", "/free-tier/v3", "/free-tier"]),
    ],
)
async def test_the_version_is_found_once(base: str, works: str, paths: list[str]) -> None:
    server = LocalServer()
    latest(server, point(TEN, 216), works)
    server.answers[f"{works}/carbon-intensity/history"] = {"zone": "DE", "history": [point(TEN, 216)]}
    async with server:
        source = bound(server, base=base)
        for _ in range(2):
            assert (await source.now(server.client, NOW)).samples[0].g_per_kwh == 216.0
        await source.past(server.client, TEN, NOW, NOW)
    assert [path for path, _ in server.asked] == [
        *(f"{path}/carbon-intensity/latest" for path in paths),
        f"{works}/carbon-intensity/latest",
        f"{works}/carbon-intensity/history",
    ]


async def test_a_refusal_is_no_reason_to_try_another_version() -> None:
    server = LocalServer({"/v4/carbon-intensity/latest": web.Response(text="Access denied", status=403)})
    latest(server, point(TEN, 216), "/v3")
    async with server:
        with pytest.raises(SourceRefusedError, match="403: Access denied"):
            await bound(server, base="").now(server.client, NOW)
    assert len(server.asked) == 1


async def test_an_unknown_zone_is_refused() -> None:
    server = LocalServer()
    async with server:
        with pytest.raises(SourceRefusedError, match="404") as caught:
            await bound(server, at("DE-BY"), base="").now(server.client, NOW)
    assert caught.value.status == 404
    assert {query["zone"] for _, query in server.asked} == {"DE-BY"}


@pytest.mark.parametrize(
    ("zone", "sent"),
    [
        ("DK-DK1", "DK-DK1"),
        ("SE-SE3", "SE-SE3"),
        ("CA-ON", "CA-ON"),
        ("US-CAL-CISO", "US-CAL-CISO"),
        ("US-AK", "US-AK"),
        ("US", "US"),
        ("GB", "GB"),
        ("GB:N1", "GB"),
        ("GB-SCT", "GB"),
        ("GB-NIR", "GB-NIR"),
        ("GB:BT1", "GB-NIR"),
        ("NA", "NA"),
    ],
)
async def test_the_zone_sent(zone: str, sent: str) -> None:
    server = LocalServer()
    latest(server, {**point(TEN, 216), "zone": sent})
    async with server:
        source = bound(server, at(zone))
        answer = await source.now(server.client, NOW)
    assert server.asked[0][1]["zone"] == sent
    assert source.traits.zone == answer.zone == sent
    assert answer.note == (NOTE if sent == zone else f"{NOTE}; values of all {sent}: there are none of {zone}")


async def test_coordinates_go_before_the_zone_and_the_answer_names_it() -> None:
    server = LocalServer()
    latest(server, {**point(TEN, 216), "zone": "US-CAL-CISO"})
    async with server:
        source = bound(server, at("US-CA", 37.774929, -122.419418))
        answer = await source.now(server.client, NOW)
        assert server.asked[0][1] == {
            "lat": "37.77",
            "lon": "-122.42",
            "shouldUseFallbackCallerLookup": "false",
            "emissionFactorType": "lifecycle",
        }
        assert (source.traits.zone, answer.zone, answer.note) == ("US-CA", "US-CAL-CISO", NOTE)
        elsewhere = bound(server, at("US-CA", 34.05, -118.24))
        assert source.traits.asked_at == bound(server, at("US-CA", 37.7749, -122.4194)).traits.asked_at
        assert source.traits.asked_at != elsewhere.traits.asked_at
        on_the_equator = bound(server, at("WORLD", 0.0, 0.0))
        await on_the_equator.now(server.client, NOW)
        assert server.asked[1][1]["lat"] == "0.00"
        latest(server, {**point(TEN, 216), "zone": None})
        with pytest.raises(BadAnswerError):
            await source.now(server.client, NOW)


@pytest.mark.parametrize("zone", ["WORLD", "US-CA", "US-TX", "CN-GD"])
def test_places_that_it_has_no_zone_for_are_not_covered(zone: str) -> None:
    assert electricitymaps.bind(at(zone), Access(url="https://example.org", token=TOKEN)) == ()
    assert electricitymaps.bind(at(zone), Access(url="https://example.org")) == ()


@pytest.mark.parametrize("place", [at("DE"), at("US-CA", 37.0, -122.0), at("US-CAL-CISO")])
def test_without_a_token_the_remedy_is_the_line_to_type(place: Location) -> None:
    with pytest.raises(SourceRefusedError) as caught:
        electricitymaps.bind(place, Access(url=electricitymaps.URL))
    assert caught.value.source == "electricitymaps"
    assert (
        caught.value.remedy == "export AIOCARBON_ELECTRICITYMAPS_TOKEN=...  # free at https://www.electricitymaps.com"
    )


def history(server: LocalServer, body: Any) -> None:
    server.answers["/v4/carbon-intensity/history"] = body


async def test_the_last_day_comes_from_the_free_history() -> None:
    server = LocalServer()
    hours = [point(TEN - i * HOUR, 300 + i, estimated=i < 2) for i in range(23, -1, -1)]
    hours[5]["carbonIntensity"] = None
    history(server, {"zone": "DE", "history": hours})
    async with server:
        answer = await bound(server).past(server.client, NOW - DAY, NOW, NOW)
        some = await bound(server).past(server.client, TEN - 1.5 * HOUR, TEN - HOUR, NOW)
    assert [path for path, _ in server.asked] == ["/v4/carbon-intensity/history"] * 2
    assert "start" not in server.asked[0][1]
    assert [s.g_per_kwh for s in answer.samples] == [300.0 + i for i in range(23, -1, -1) if i != 18]
    assert [s.quality for s in answer.samples[-3:]] == [Quality.LIVE, Quality.ESTIMATED, Quality.ESTIMATED]
    assert [tuple(s) for s in some.samples] == [(TEN - 2 * HOUR, TEN - HOUR, 302.0, Quality.LIVE)]


@pytest.mark.parametrize("key", ["data", "history", "forecast"])
async def test_older_times_come_from_the_range_in_pieces_of_ten_days(key: str) -> None:
    def answer(request: web.Request) -> Any:
        begin = datetime.fromisoformat(request.query["start"]).timestamp()
        end = datetime.fromisoformat(request.query["end"]).timestamp()
        times = [begin + i * HOUR for i in range(int((end - begin) / HOUR))]
        return {"zone": "DE", key: [point(t, (t - TEN) % 1000) for t in times], "temporalGranularity": "hourly"}

    server = LocalServer({"/v4/carbon-intensity/past-range": answer})
    async with server:
        found = await bound(server).past(server.client, TEN - 12 * DAY + 60, TEN - DAY - 60, NOW)
    assert [(query["start"], query["end"]) for _, query in server.asked] == [
        ("2025-10-23T10:00:00Z", "2025-11-02T10:00:00Z"),
        ("2025-11-02T10:00:00Z", "2025-11-03T10:00:00Z"),
    ]
    assert len(found.samples) == 11 * 24
    assert (found.samples[0].from_s, found.samples[-1].to_s) == (TEN - 12 * DAY, TEN - DAY)
    assert all(s.g_per_kwh == (s.from_s - TEN) % 1000 for s in found.samples)


async def test_a_plan_without_a_range_still_mends_the_last_day_and_is_not_asked_for_it_again() -> None:
    refusal = {"error": "Request unauthorized for zoneKey=DE,requestType=past-range,dataType=carbon-intensity."}
    server = LocalServer({"/v4/carbon-intensity/past-range": lambda _: web.json_response(refusal, status=401)})
    history(server, {"zone": "DE", "history": [point(TEN - HOUR, 300), point(TEN, 310)]})
    async with server:
        source = bound(server)
        answer = await source.past(server.client, NOW - 2 * DAY, NOW, NOW)
        assert [s.g_per_kwh for s in answer.samples] == [300.0, 310.0]
        await source.past(server.client, NOW - 2 * DAY, NOW, NOW)
        with pytest.raises(SourceRefusedError, match="past-range") as caught:
            await source.past(server.client, NOW - 3 * DAY, NOW - 2 * DAY, NOW)
    assert caught.value.status == 401
    assert caught.value.remedy == electricitymaps.PLAN_REMEDY
    assert [path.rpartition("/")[2] for path, _ in server.asked] == ["past-range", "history", "history"]


@pytest.mark.parametrize(
    ("hours", "horizon"), [(1, "6"), (6, "6"), (6.5, "24"), (24, "24"), (30, "48"), (72, "72"), (300, "72")]
)
async def test_the_smallest_horizon_that_is_enough(hours: float, horizon: str) -> None:
    body = {
        "zone": "DE",
        "forecast": [{"carbonIntensity": 351 - i, "datetime": iso(TEN + (i - 1) * HOUR)} for i in range(4)],
        "updatedAt": iso(TEN + 600),
        "temporalGranularity": "hourly",
    }
    server = LocalServer({"/v4/carbon-intensity/forecast": body})
    async with server:
        answer = await bound(server).forecast(server.client, NOW, hours)
    assert server.asked[0][1]["horizonHours"] == horizon
    assert [tuple(s) for s in answer.samples] == [
        (TEN + i * HOUR, TEN + (i + 1) * HOUR, 350.0 - i, Quality.FORECAST) for i in range(3)
    ]
    assert (answer.factor_basis, answer.note) == (FactorBasis.LIFE_CYCLE, NOTE)


async def test_a_second_day_that_repeats_the_first_is_told() -> None:
    values = [300 + i % 24 for i in range(48)]
    points = [{"carbonIntensity": v, "datetime": iso(TEN + i * HOUR)} for i, v in enumerate(values)]
    server = LocalServer({"/v4/carbon-intensity/forecast": {"zone": "DE", "forecast": points}})
    async with server:
        answer = await bound(server).forecast(server.client, NOW, 48)
        assert answer.note == f"{NOTE}; its second day repeats the first"
        points[47]["carbonIntensity"] = 1
        assert (await bound(server).forecast(server.client, NOW, 48)).note == NOTE


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, '{"error": "Request unauthorized for zoneKey=DE,requestType=forecast,dataType=carbon-intensity."}'),
        (403, "Access denied"),
    ],
)
async def test_a_forecast_that_the_plan_lacks_is_asked_for_once_and_the_rest_goes_on(status: int, body: str) -> None:
    server = LocalServer({"/v4/carbon-intensity/forecast": lambda _: web.Response(text=body, status=status)})
    latest(server, point(TEN, 216))
    async with server:
        source = bound(server)
        said = []
        for _ in range(3):
            with pytest.raises(SourceRefusedError) as caught:
                await source.forecast(server.client, NOW, 24)
            said.append((str(caught.value), caught.value.remedy, caught.value.status))
        assert len(server.asked) == 1
        assert len(set(said)) == 1
        assert said[0][1:] == (electricitymaps.PLAN_REMEDY, status)
        assert f"answered {status}" in said[0][0]
        assert (await source.now(server.client, NOW)).samples[0].g_per_kwh == 216.0


async def test_patience_is_not_remembered_as_a_refusal() -> None:
    server = LocalServer({"/v4/carbon-intensity/forecast": "slowly"}, status=429)
    async with server:
        source = bound(server)
        for _ in range(2):
            with pytest.raises(SourceDownError):
                await source.forecast(server.client, NOW, 24)
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (point(TEN, None), NoDataError),
        (point(TEN, -1), BadAnswerError),
        (point(TEN, 3001), BadAnswerError),
        (point(TEN, "302"), BadAnswerError),
        (point(TEN, True), BadAnswerError),
        (point(TEN, 302, zone="FR"), BadAnswerError),
        (point(TEN, 302, zone=""), BadAnswerError),
        (point(TEN, 302, zone=None), BadAnswerError),
        (point(TEN, 302, zone=7), BadAnswerError),
        (point(TEN, 302, datetime="today"), BadAnswerError),
        (point(TEN, 302, datetime=None), BadAnswerError),
        (point(TEN, 302, datetime=TEN), BadAnswerError),
        (point(TEN, 302, temporalGranularity="yearly"), BadAnswerError),
        (point(TEN, 302, temporalGranularity=["hourly"]), BadAnswerError),
        ({"zone": "DE"}, BadAnswerError),
        ({"status": "no-data"}, BadAnswerError),
        ([point(TEN, 302)], BadAnswerError),
        ("null", BadAnswerError),
        ("", BadAnswerError),
        ("<html>soon</html>", BadAnswerError),
        ('{"zone": "DE", "carbonIntensity": 30', BadAnswerError),
    ],
)
async def test_what_cannot_be_used_is_no_value(body: Any, error: type[Exception]) -> None:
    server = LocalServer()
    latest(server, body)
    async with server:
        with pytest.raises(error):
            await bound(server).now(server.client, NOW)


@pytest.mark.parametrize(
    "body",
    [
        {"zone": "FR", "history": [point(TEN, 1)]},
        {"zone": "DE"},
        {"zone": "DE", "history": None},
        {"zone": "DE", "history": [7]},
        {"zone": "DE", "history": [point(TEN, 1), point(TEN - HOUR, 1, emissionFactorType="direct")]},
    ],
)
async def test_lists_that_cannot_be_used_are_no_values(body: Any) -> None:
    server = LocalServer()
    history(server, body)
    async with server:
        with pytest.raises(BadAnswerError):
            await bound(server).past(server.client, TEN - HOUR, NOW, NOW)
        history(server, {"zone": "DE", "history": []})
        with pytest.raises(NoDataError):
            await bound(server).past(server.client, TEN - HOUR, NOW, NOW)


async def test_an_empty_range_is_no_data() -> None:
    server = LocalServer({"/v4/carbon-intensity/past-range": {"zone": "DE", "data": []}})
    async with server:
        with pytest.raises(NoDataError):
            await bound(server).past(server.client, NOW - 3 * DAY, NOW - 2 * DAY, NOW)


async def test_the_made_up_values_of_a_sandbox_are_refused() -> None:
    server = LocalServer()
    latest(server, point(TEN, 302, estimationMethod="SANDBOX_MODE_DATA", isEstimated=True))
    async with server:
        with pytest.raises(BadAnswerError, match="sandbox") as caught:
            await bound(server).now(server.client, NOW)
    assert "made up" in caught.value.remedy


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 429, 500])
async def test_a_token_that_comes_back_in_an_answer_is_told_nowhere(status: int) -> None:
    server = LocalServer({"/v4/carbon-intensity/latest": f"no such token: {TOKEN}"}, status=status)
    async with server:
        source = bound(server)
        with pytest.raises(IntensityError) as caught:
            await source.now(server.client, NOW)
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + caught.value.remedy
    assert TOKEN not in told + repr(source) + repr(source.traits) + str(source)


@pytest.mark.parametrize("field", ["carbonIntensity", "datetime", "temporalGranularity", "zone"])
@pytest.mark.parametrize("place", [at("DE"), replace(at("DE"), latitude=52.5, longitude=13.4)])
async def test_a_token_that_comes_back_as_a_value_is_told_nowhere(field: str, place: Location) -> None:
    server = LocalServer()
    latest(server, point(TEN, 216) | {field: f"{'x' * 34}{TOKEN}"})  # the quotation is cut off inside it
    async with server:
        with pytest.raises(BadAnswerError) as caught:
            await bound(server, place).now(server.client, NOW)
    assert TOKEN[:6] not in "".join(traceback.format_exception(caught.value))


def test_a_password_in_the_base_url_is_told_nowhere() -> None:
    (source,) = electricitymaps.bind(at("FR"), Access(url="https://me:hush@example.org", token=TOKEN))
    assert "hush" not in repr(source)
    assert source.traits.asked_at == "https://example.org FR FR"


def test_it_is_a_source() -> None:
    (source,) = electricitymaps.bind(at("FR"), Access(url="https://example.org", token=TOKEN))
    assert isinstance(source, Source)
    traits = source.traits
    assert (traits.name, traits.step_s, traits.offset_s, traits.stale_s) == ("electricitymaps", 3600.0, 600.0, 10800.0)
    assert traits.has_past
    assert traits.has_forecast
    assert electricitymaps.URL == "https://api.electricitymaps.com"

"""Carbon Intensity GB against a real local server that answers in its shapes."""

from __future__ import annotations

import asyncio
import itertools
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
from aiocarbon.intensity import gb
from aiocarbon.intensity.base import Access, Source
from aiocarbon.intensity.client import MOST_BYTES, MOST_VALUES, Client
from aiocarbon.testing import LocalServer

pytestmark = pytest.mark.anyio

TEN = int(datetime(2026, 4, 6, 10, tzinfo=UTC).timestamp())
HALF = 1800
DAY = 86400
FUELS = ("biomass", "coal", "imports", "gas", "nuclear", "other", "hydro", "solar", "wind")


def at(zone: str) -> Location:
    return Location(zone=zone, name=zone, how="given", is_guess=False)


def bound(server: LocalServer, zone: str = "GB") -> Source:
    return gb.bind(at(zone), Access(url=server.url))[0]


def iso(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%MZ")


def seconds(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%dT%H:%MZ").replace(tzinfo=UTC).timestamp()


def half(from_s: float, forecast: Any, actual: Any = None) -> dict[str, Any]:
    intensity = {"forecast": forecast, "actual": actual, "index": "low"}
    return {"from": iso(from_s), "to": iso(from_s + HALF), "intensity": intensity}


def regional_half(from_s: float, forecast: Any) -> dict[str, Any]:
    mix = [{"fuel": fuel, "perc": 11.1} for fuel in FUELS]
    intensity = {"forecast": forecast, "index": "very high"}
    return {"from": iso(from_s), "to": iso(from_s + HALF), "intensity": intensity, "generationmix": mix}


def region(halves: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"regionid": 13, "dnoregion": "UKPN London", "shortname": "London", "postcode": "N1", "data": halves, **more}


def told(answer: Answer, since: float = TEN) -> list[tuple[float, float, float, Quality]]:
    return [(s.from_s - since, s.to_s - since, s.g_per_kwh, s.quality) for s in answer.samples]


def ranged(path: str, *, begins_before: bool = True, ends_after: bool = False) -> list[float]:
    """The half hours that a range brings: known is that one asked for from a border has the one before it too."""
    start, end = (seconds(part) for part in path.split("/")[-2 if "regional" not in path else -4 :][:2])
    first = start // HALF * HALF - (HALF if begins_before and start % HALF == 0 else 0)
    halves = [first + n * HALF for n in range(int((end - first) // HALF) + 2)]
    return [f for f in halves if (f < end if ends_after else f + HALF <= end)]


async def test_the_half_hour_that_runs_is_an_estimate_until_it_is_metered() -> None:
    server = LocalServer({"/": {"data": [half(TEN, 72)]}})
    async with server:
        source = bound(server)
        answer = await source.now(server.client, TEN + 61.0)
        assert server.asked == [("/intensity", {})]
        assert told(answer) == [(0, 1800, 72.0, Quality.ESTIMATED)]
        assert (answer.source, answer.title, answer.zone) == ("carbonintensity_gb", "Carbon Intensity GB (NESO)", "GB")
        assert (answer.kind, answer.factor_basis) == (IntensityKind.AVERAGE, FactorBasis.DIRECT)
        assert answer.note == "the half hour's forecast counts until its actual value is published"
        server.answers["/"] = {"data": [half(TEN, 72, 75)]}
        metered = await source.now(server.client, TEN + 1700.0)
        assert told(metered) == [(0, 1800, 75.0, Quality.LIVE)]
        assert metered.note == ""
        server.answers["/"] = {"data": [half(TEN, 0, 0)]}
        assert told(await source.now(server.client, TEN + 1.0)) == [(0, 1800, 0.0, Quality.LIVE)]


async def test_of_several_half_hours_the_one_that_runs_is_among_those_told() -> None:
    server = LocalServer({"/": {"data": [half(TEN - HALF, 60, 61), half(TEN, 70), half(TEN + HALF, 80)]}})
    async with server:
        source = bound(server)
        for now_s, running in ((TEN, 70.0), (TEN + 1799.9, 70.0), (TEN + HALF, 80.0)):
            answer = await source.now(server.client, now_s)
            assert [s.g_per_kwh for s in answer.samples if s.from_s <= now_s < s.to_s] == [running]
            ahead = [s for s in answer.samples if s.from_s > now_s]
            assert all(s.quality is Quality.FORECAST for s in ahead)


async def test_the_last_half_hour_that_is_over_counts_up_to_ninety_minutes_after_its_begin() -> None:
    server = LocalServer({"/": {"data": [half(TEN, 66, 68)]}})
    async with server:
        source = bound(server)
        assert told(await source.now(server.client, TEN + 5400.0)) == [(0, 1800, 68.0, Quality.LIVE)]
        with pytest.raises(NoDataError, match="of 2026-04-06 10:00 UTC, too old"):
            await source.now(server.client, TEN + 5401.0)
        assert told(await source.now(server.client, TEN - 60.0)) == [(0, 1800, 68.0, Quality.LIVE)]  # our clock is slow
        with pytest.raises(NoDataError):
            await source.now(server.client, TEN - 1801.0)  # that is no value of now


@pytest.mark.parametrize(
    ("zone", "path", "is_object"),
    [
        ("GB:N1", "regional/postcode/N1", False),
        ("GB:N1", "regional/postcode/N1", True),
        ("GB:SW1A", "regional/postcode/SW1A", False),
        ("GB-ENG", "regional/regionid/15", False),
        ("GB-SCT", "regional/regionid/16", True),
        ("GB-WLS", "regional/regionid/17", False),
    ],
)
async def test_a_region_comes_as_an_object_or_in_a_list_of_one(zone: str, path: str, *, is_object: bool) -> None:
    who = {"regionid": int(path[-2:])} if "regionid" in path else {"postcode": path[18:]}
    part = region([regional_half(TEN, 0)], **who)
    server = LocalServer({"/": {"data": part if is_object else [part]}})
    async with server:
        answer = await bound(server, zone).now(server.client, TEN + 61.0)
    assert server.asked == [(f"/{path}", {})]
    assert told(answer) == [(0, 1800, 0.0, Quality.ESTIMATED)]
    assert answer.zone == zone
    assert "no actual values" in answer.note


async def test_an_answer_for_another_region_is_none() -> None:
    server = LocalServer({"/": {"data": [region([regional_half(TEN, 100)], regionid=13, postcode="E1")]}})
    async with server:
        with pytest.raises(BadAnswerError, match="another region"):
            await bound(server, "GB-ENG").now(server.client, TEN)
        assert told(await bound(server, "GB:E1W").now(server.client, TEN)) == [(0, 1800, 100.0, Quality.ESTIMATED)]
        server.answers["/"] = {"data": [region([regional_half(TEN, 100)]), region([regional_half(TEN, 200)])]}
        with pytest.raises(BadAnswerError, match="several regions"):
            await bound(server, "GB:N1").now(server.client, TEN)
        server.answers["/"] = {"data": [{"from": iso(TEN), "to": iso(TEN + HALF), "regions": []}]}
        with pytest.raises(BadAnswerError, match="unknown shape"):
            await bound(server, "GB:N1").now(server.client, TEN)


@pytest.mark.parametrize(
    ("zone", "zones"),
    [
        ("GB", ["GB"]),
        ("GB-ORK", ["GB"]),
        ("GB-ENG", ["GB-ENG", "GB"]),
        ("GB:N1", ["GB:N1", "GB"]),
        ("GB:BS1", ["GB:BS1", "GB"]),
        ("GB-NIR", []),
        ("GB:BT7", []),
        ("GB:JE2", []),
        ("GB:GY1", []),
        ("GB:IM1", []),
        ("IE", []),
        ("WORLD", []),
        ("JE", []),
        ("DE", []),
    ],
)
def test_the_region_is_asked_before_the_nation_and_nothing_elsewhere(zone: str, zones: list[str]) -> None:
    sources = gb.bind(at(zone), Access(url="https://me:hush@example.org/x"))
    assert [source.traits.zone for source in sources] == zones
    for source in sources:
        traits = source.traits
        assert isinstance(source, Source)
        assert (traits.name, traits.step_s, traits.stale_s) == ("carbonintensity_gb", 1800.0, 5400.0)
        assert traits.has_past
        assert traits.has_forecast
        assert traits.corrects is (traits.zone == "GB")
        # By the title it is told whose estimate a value is: a region's is not corrected by what the nation metered.
        assert (traits.title == "Carbon Intensity GB (NESO)") is (traits.zone == "GB")
        assert traits.asked_at == "https://example.org/x"
        assert "hush" not in repr(source)
    assert gb.URL == "https://api.carbonintensity.org.uk"


async def test_the_forecast_begins_with_the_half_hour_that_runs() -> None:
    def answer(request: web.Request) -> dict[str, Any]:
        start, page = request.path.split("/")[2:4]
        first, hours = seconds(start) // HALF * HALF, int(page[2:4])
        return {"data": [half(first + n * HALF, 100 + n) for n in range(2 * hours)]}

    server = LocalServer({"/": answer})
    async with server:
        source = bound(server)
        found = await source.forecast(server.client, TEN + 1500.0, 1.0)
        assert told(found) == [
            (0, 1800, 100.0, Quality.ESTIMATED),
            (1800, 3600, 101.0, Quality.FORECAST),
            (3600, 5400, 102.0, Quality.FORECAST),
        ]
        assert found.note == ""  # it would be told of metered values too
        full = await source.forecast(server.client, TEN, 24.0)
        assert (full.samples[0].from_s, full.samples[-1].to_s) == (TEN, TEN + DAY)
        longer = await source.forecast(server.client, TEN + 60.0, 24.0)  # to ten past midday: more than 24 h from 10:00
        assert longer.samples[-1].to_s == TEN + DAY + HALF
        assert len((await source.forecast(server.client, TEN + 60.0, 96.0)).samples) == 96
    assert server.asked == [
        ("/intensity/2026-04-06T10:01Z/fw24h", {}),
        ("/intensity/2026-04-06T10:01Z/fw24h", {}),
        ("/intensity/2026-04-06T10:01Z/fw48h", {}),
        ("/intensity/2026-04-06T10:01Z/fw48h", {}),
    ]


async def test_a_forecast_that_begins_earlier_or_has_metered_the_future() -> None:
    server = LocalServer({"/": {"data": [half(TEN - HALF, 90), half(TEN, 100), half(TEN + 10 * HALF, 110, 999)]}})
    async with server:
        answer = await bound(server).forecast(server.client, TEN + 5.0, 24.0)
    assert told(answer) == [(0, 1800, 100.0, Quality.ESTIMATED), (18000, 19800, 110.0, Quality.FORECAST)]


@pytest.mark.parametrize(("zone", "end"), [("GB:N1", "postcode/N1"), ("GB-SCT", "regionid/16")])
async def test_a_regions_forecast(zone: str, end: str) -> None:
    halves = [regional_half(TEN + n * HALF, n) for n in range(96)]
    server = LocalServer({"/": {"data": region(halves, regionid=16)}})
    async with server:
        answer = await bound(server, zone).forecast(server.client, TEN + 5.0, 48.0)
    assert server.asked == [(f"/regional/intensity/2026-04-06T10:01Z/fw48h/{end}", {})]
    assert [s.g_per_kwh for s in answer.samples] == [float(n) for n in range(96)]
    assert [s.quality for s in answer.samples] == [Quality.ESTIMATED] + [Quality.FORECAST] * 95


@pytest.mark.parametrize("begins_before", [True, False])
@pytest.mark.parametrize("ends_after", [True, False])
@pytest.mark.parametrize("zone", ["GB", "GB:N1"])
async def test_the_past_has_each_half_hour_once_whatever_the_service_does_at_borders(
    zone: str, *, begins_before: bool, ends_after: bool
) -> None:
    begin, end = TEN + 700.0, TEN + 30 * DAY + 1900.0

    def answer(request: web.Request) -> dict[str, Any]:
        found = ranged(request.path, begins_before=begins_before, ends_after=ends_after)
        numbers = [(f, (f - TEN) / HALF % 3000 + 1.0) for f in found]
        if zone == "GB":
            return {"data": [half(f, 5, n) for f, n in numbers]}
        return {"data": region([regional_half(f, n) for f, n in numbers])}

    server = LocalServer({"/": answer})
    async with server:
        found = await bound(server, zone).past(server.client, begin, end, end + DAY)
    assert [(s.from_s - TEN) / HALF for s in found.samples] == list(range(30 * 48 + 2))
    assert all(s.g_per_kwh == (s.from_s - TEN) / HALF % 3000 + 1.0 for s in found.samples)
    assert all(a.to_s == b.from_s for a, b in itertools.pairwise(found.samples))
    assert {s.quality for s in found.samples} == {Quality.LIVE if zone == "GB" else Quality.ESTIMATED}
    assert server.asked[0] == (
        "/intensity/2026-04-06T10:00Z/2026-04-19T10:01Z"
        if zone == "GB"
        else "/regional/intensity/2026-04-06T10:00Z/2026-04-11T10:01Z/postcode/N1",
        {},
    )
    assert len(server.asked) == (3 if zone == "GB" else 7)
    # Well under the client's limits, with what the service sends beyond what is read.
    assert max(map(len, server.sent)) < MOST_BYTES / 2
    assert max(b.count(b",") + b.count(b"[") + b.count(b"{") for b in server.sent) < MOST_VALUES * 0.8


async def test_the_past_without_an_actual_is_an_estimate_and_nothing_of_it_is_a_forecast() -> None:
    server = LocalServer({"/": {"data": [half(TEN, 70, 71), half(TEN + HALF, 80), half(TEN + 2 * HALF, 90)]}})
    async with server:
        answer = await bound(server).past(server.client, TEN, TEN + 3 * HALF, TEN + 2 * HALF - 1.0)
    assert told(answer) == [(0, 1800, 71.0, Quality.LIVE), (1800, 3600, 80.0, Quality.ESTIMATED)]
    assert answer.note.startswith("the half hour's forecast counts")


async def test_the_note_on_an_estimate_in_an_early_piece_stays() -> None:
    def answer(request: web.Request) -> dict[str, Any]:
        return {"data": [half(f, 5, None if f == TEN else 6) for f in ranged(request.path)]}

    server = LocalServer({"/": answer})
    async with server:
        found = await bound(server).past(server.client, TEN, TEN + 14 * DAY, TEN + 20 * DAY)
    assert len(server.asked) == 2
    assert [s.from_s for s in found.samples if s.quality is Quality.ESTIMATED] == [TEN]
    assert found.note.startswith("the half hour's forecast counts")


@pytest.mark.parametrize("empty", [0, 1, 2])
async def test_a_piece_without_data_does_not_lose_the_others(empty: int) -> None:
    def answer(request: web.Request) -> dict[str, Any]:
        return {"data": [] if len(server.asked) == empty + 1 else [half(f, 5, 6) for f in ranged(request.path)]}

    server = LocalServer({"/": answer})
    async with server:
        found = await bound(server).past(server.client, TEN, TEN + 39 * DAY, TEN + 40 * DAY)
        days = [n for n in range(39) if any(s.from_s == TEN + n * DAY for s in found.samples)]
        assert days == [n for n in range(39) if n // 13 != empty]
        server.answers["/"] = {"data": []}
        with pytest.raises(NoDataError, match="of that time for GB"):
            await bound(server).past(server.client, TEN, TEN + 39 * DAY, TEN + 40 * DAY)
        with pytest.raises(NoDataError):
            await bound(server).past(server.client, TEN, TEN, TEN + DAY)


async def test_what_was_found_before_a_failure_is_the_answer() -> None:
    def answer(request: web.Request) -> Any:
        if len(server.asked) == failing:
            return web.Response(status=500, text='{"error":{"code":"500","message":"Requested resource not found."}}')
        return {"data": [half(f, 5, 6) for f in ranged(request.path)]}

    server = LocalServer({"/": answer})
    async with server:
        failing = 2
        found = await bound(server).past(server.client, TEN, TEN + 39 * DAY, TEN + 40 * DAY)
        assert (len(server.asked), found.samples[-1].to_s) == (2, TEN + 13 * DAY)
        server.asked.clear()
        failing = 1
        with pytest.raises(SourceDownError, match="answered 500"):
            await bound(server).past(server.client, TEN, TEN + 39 * DAY, TEN + 40 * DAY)
        assert len(server.asked) == 1


@pytest.mark.parametrize(("month", "date", "halves"), [(3, 29, 46), (10, 25, 50)])
async def test_the_nights_of_the_clock_changes_have_each_half_hour_once(month: int, date: int, halves: int) -> None:
    london = ZoneInfo("Europe/London")
    begin = datetime(2026, month, date, tzinfo=london).timestamp()
    end = datetime(2026, month, date + 1, tzinfo=london).timestamp()
    assert (end - begin) / HALF == halves
    server = LocalServer(
        {"/": lambda request: {"data": [half(f, 5, (f - begin) / HALF + 1) for f in ranged(request.path)[1:]]}}
    )
    async with server:
        past = await bound(server).past(server.client, begin, end, end)
        server.answers["/"] = {"data": [half(begin + n * HALF, n + 1.0) for n in range(halves)]}
        ahead = await bound(server).forecast(server.client, begin, (end - begin) / 3600.0)
    for answer in (past, ahead):
        assert [s.g_per_kwh for s in answer.samples] == [n + 1.0 for n in range(halves)]
        assert (answer.samples[0].from_s, answer.samples[-1].to_s) == (begin, end)
        assert all(a.to_s == b.from_s for a, b in itertools.pairwise(answer.samples))
        at_two = answer.samples[2 if halves == 46 else 6]
        assert at_two.from_s == datetime(2026, month, date, 2, tzinfo=london).astimezone(UTC).timestamp()


async def test_of_a_half_hour_that_comes_twice_the_later_one_counts() -> None:
    server = LocalServer({"/": {"data": [half(TEN, 5, 6), half(TEN, 5, 7)]}})
    async with server:
        assert told(await bound(server).now(server.client, TEN + 5)) == [(0, 1800, 7.0, Quality.LIVE)]


def changed(**more: Any) -> dict[str, Any]:
    return {"data": [{**half(TEN, 70), **more}]}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"data": []}, NoDataError),
        ({"data": [half(TEN, None)]}, NoDataError),
        ({"data": [half(TEN + DAY, 70)]}, NoDataError),
        ({"data": [half(TEN - 2 * DAY, 70, 71)]}, NoDataError),
        ({"data": [half(TEN, -1)]}, BadAnswerError),
        ({"data": [half(TEN, 3001)]}, BadAnswerError),
        ({"data": [half(TEN, 70, 3001)]}, BadAnswerError),
        ({"data": [half(TEN, 10**400)]}, BadAnswerError),
        ({"data": [half(TEN, "70")]}, BadAnswerError),
        ({"data": [half(TEN, True)]}, BadAnswerError),
        ({"data": [half(TEN, [])]}, BadAnswerError),
        (changed(intensity={}), BadAnswerError),
        (changed(intensity=None), BadAnswerError),
        (changed(intensity=70), BadAnswerError),
        (changed(to=iso(TEN)), BadAnswerError),
        (changed(to=iso(TEN - HALF)), BadAnswerError),
        (changed(to=iso(TEN + DAY)), BadAnswerError),
        (changed(to=None), BadAnswerError),
        (changed(**{"from": "now"}), BadAnswerError),
        (changed(**{"from": TEN}), BadAnswerError),
        ({"data": [{"intensity": {"forecast": 70}}]}, BadAnswerError),
        ({"data": {}}, BadAnswerError),
        ({"data": None}, BadAnswerError),
        ({"data": 7}, BadAnswerError),
        ({"data": "intensity"}, BadAnswerError),
        ({"data": [[]]}, BadAnswerError),
        ({"data": ["intensity"]}, BadAnswerError),
        ({"data": region([half(TEN, 70)])}, BadAnswerError),
        ({"error": {"code": "400 Bad Request", "message": "no"}}, BadAnswerError),
        ([], BadAnswerError),
        ("null", BadAnswerError),
        ("", BadAnswerError),
        ("<html>soon</html>", BadAnswerError),
        (
            '{"data":[{"from":"2026-04-06T10:00Z","to":"2026-04-06T10:30Z","intensity":{"forecast":NaN}}]}',
            BadAnswerError,
        ),
        (
            '{"data":[{"from":"2026-04-06T10:00Z","to":"2026-04-06T10:30Z","intensity":{"forecast":1e999}}]}',
            BadAnswerError,
        ),
        ('{"data":[{"from":"2026-04-06T10:00Z"', BadAnswerError),
    ],
)
async def test_what_cannot_be_used_is_no_value(body: Any, error: type[Exception]) -> None:
    server = LocalServer({"/": body})
    async with server:
        with pytest.raises(error):
            await bound(server).now(server.client, TEN + 61.0)


@pytest.mark.parametrize(
    "part",
    [
        {},
        {"data": None},
        {"data": {}},
        {"data": "from"},
        {"data": 7},
        {"data": [None]},
        {"data": ["intensity"]},
        {"data": [{"intensity": {"index": "low"}, "from": iso(TEN), "to": iso(TEN + HALF)}]},
    ],
)
async def test_a_region_of_an_unknown_shape_is_no_value(part: Any) -> None:
    server = LocalServer({"/": {"data": [part]}})
    async with server:
        with pytest.raises(BadAnswerError):
            await bound(server, "GB:N1").now(server.client, TEN + 61.0)
        server.answers["/"] = {"data": [{"data": []}]}
        with pytest.raises(NoDataError):
            await bound(server, "GB:N1").now(server.client, TEN + 61.0)


@pytest.mark.parametrize(
    ("status", "message", "error", "said"),
    [
        (400, "No postcode match can be found.", SourceRefusedError, "answered 400: .*No postcode match"),
        (400, "Please enter a valid region ID i.e. 1-17.", SourceRefusedError, "valid region ID"),
        (500, "Requested resource not found.", SourceDownError, "answered 500"),
        (503, "<html>", SourceDownError, "answered 503"),
    ],
)
async def test_a_refusal_says_why(status: int, message: str, error: type[Exception], said: str) -> None:
    server = LocalServer({"/": {"error": {"code": f"{status}", "message": message}}}, status=status)
    async with server:
        with pytest.raises(error, match=said):
            await bound(server, "GB:W7").now(server.client, TEN)
    assert server.asked == [("/regional/postcode/W7", {})]


class Said:
    """A client that was answered this, whatever it asks."""

    def __init__(self, body: Any) -> None:
        self.body = body

    async def json(self, url: str, **_: Any) -> Any:
        return self.body


TIMES = st.sampled_from(
    [iso(TEN), iso(TEN + HALF), "0001-01-01T00:00+23:59", "9999-12-31T23:59-23:59", "2026-04-06", ""]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9) | TIMES
KEYS = st.sampled_from(["data", "intensity", "from", "to", "forecast", "actual", "regionid", "postcode"])
ANY_JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=12
)
LIKELY = st.fixed_dictionaries(
    {
        "from": TIMES | LEAVES,
        "to": TIMES | LEAVES,
        "intensity": st.fixed_dictionaries({"forecast": LEAVES, "actual": LEAVES}),
    }
)
LISTS = st.lists(LIKELY | ANY_JSON, max_size=3)
BODIES = ANY_JSON | st.builds(lambda data: {"data": data}, LISTS) | st.builds(lambda d: {"data": [{"data": d}]}, LISTS)


@given(BODIES, st.sampled_from(["GB", "GB:N1", "GB-ENG"]))
def test_whatever_json_comes_only_our_errors_leave(body: Any, zone: str) -> None:
    client = cast("Client", Said(body))
    source = gb.bind(at(zone), Access(url="https://example.org"))[0]

    async def ask() -> None:
        for question in (
            source.now(client, TEN + 61.0),
            source.past(client, TEN - HALF, TEN + HALF, TEN + HALF),
            source.forecast(client, TEN + 61.0, 24.0),
        ):
            try:
                answer = await question
            except IntensityError:
                continue
            assert answer.samples
            assert all(a.to_s <= b.from_s for a, b in itertools.pairwise(answer.samples))
            assert all(0.0 <= s.g_per_kwh <= 3000.0 and s.from_s < s.to_s for s in answer.samples)

    asyncio.run(ask())

"""WattTime against a real local server that answers in its shapes."""

from __future__ import annotations

import traceback
from base64 import b64encode
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
from aiohttp import web

from aiocarbon import data
from aiocarbon._core.intensity import FactorBasis, IntensityKind, Location, Quality
from aiocarbon.errors import BadAnswerError, IntensityError, NoDataError, SourceDownError, SourceRefusedError
from aiocarbon.intensity import watttime
from aiocarbon.intensity.base import Access, Source
from aiocarbon.testing import LocalServer

pytestmark = pytest.mark.anyio

USER, PASSWORD = "somebody", "hush:h\N{LATIN SMALL LETTER U WITH DIAERESIS}sh"
ACCOUNT = f"{USER}:{PASSWORD}"
BASIC = "Basic " + b64encode(ACCOUNT.encode()).decode()
TEN = datetime(2026, 7, 15, 10, tzinfo=UTC).timestamp()
NOW = TEN + 420.0
STEP = 300.0
DAY = 86400.0
NOTE = "marginal: what one more kWh causes"
G_PER_LB_PER_MWH = 0.45359237


class Server(LocalServer):
    """Gives out numbered tokens and takes only the last one."""

    def __init__(self, answers: dict[str, Any] | None = None, *, bearer: str = "") -> None:
        super().__init__(answers)
        self.bearer = bearer
        self.logins = 0

    def answer(self, request: web.Request) -> object:
        authorization = request.headers.get("Authorization", "")
        if request.path == "/login" and "/login" not in self.answers:
            if authorization != BASIC:
                return web.json_response({"error": "no such account"}, status=401)
            self.logins += 1
            self.bearer = f"token-{self.logins}"
            return {"token": self.bearer}
        if request.path != "/login" and authorization != f"Bearer {self.bearer}":
            return web.json_response({"message": f"not authorized: {authorization}"}, status=401)
        return super().answer(request)


def at(zone: str, latitude: float | None = None, longitude: float | None = None) -> Location:
    return Location(zone=zone, name=zone, how="given", is_guess=False, latitude=latitude, longitude=longitude)


def bound(server: Server, place: Location | None = None, *, token: str = ACCOUNT, base: str = "") -> Source:
    (source,) = watttime.bind(place or at("DE"), Access(url=server.url + base, token=token))
    return source


def iso(at_s: float, suffix: str = "Z") -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S") + suffix


def point(at_s: float, value: Any, **more: Any) -> dict[str, Any]:
    return {"point_time": iso(at_s), "value": value, **more}


def answered(points: Any, region: Any = "DE", **meta: Any) -> dict[str, Any]:
    usual = {
        "data_point_period_seconds": 300,
        "region": region,
        "warnings": [],
        "signal_type": "co2_moer",
        "model": {"date": "2023-03-01"},
        "units": "lbs_co2_per_mwh",
    }
    return {"data": points, "meta": {**usual, **meta}}


async def test_now_is_what_was_found_for_the_last_hour() -> None:
    points = [
        point(TEN, 870, last_updated=iso(TEN + 600), imputed_data_used=True),
        point(TEN + STEP, 860.5, last_updated=iso(TEN + 600), imputed_data_used=False),
    ]
    points[1]["point_time"] = iso(TEN + STEP, "+00:00")
    server = Server({"/v3/historical": answered(points)})
    async with server:
        answer = await bound(server).now(server.client, NOW)
    assert server.asked == [
        ("/login", {}),
        (
            "/v3/historical",
            {"region": "DE", "start": "2026-07-15T09:05Z", "end": "2026-07-15T10:07Z", "signal_type": "co2_moer"},
        ),
    ]
    assert [headers.get("authorization", "") for headers in server.headers] == [BASIC, "Bearer token-1"]
    assert [tuple(s) for s in answer.samples] == [
        (TEN, TEN + STEP, 870 * G_PER_LB_PER_MWH, Quality.ESTIMATED),
        (TEN + STEP, TEN + 2 * STEP, 860.5 * G_PER_LB_PER_MWH, Quality.LIVE),
    ]
    assert (answer.source, answer.title, answer.zone, answer.note) == ("watttime", "WattTime", "DE", NOTE)
    assert (answer.kind, answer.factor_basis) == (IntensityKind.MARGINAL, FactorBasis.DIRECT)


@pytest.mark.parametrize(
    "nothing",
    [
        answered([]),
        answered([point(TEN - 1800, 870)]),
        answered([point(TEN, None)]),
        lambda _: web.json_response({"error": "FORBIDDEN"}, status=403),
    ],
)
async def test_where_there_is_nothing_of_the_last_hour_the_forecast_stands_in(nothing: Any) -> None:
    server = Server(
        {"/v3/historical": nothing, "/v3/forecast": answered([point(TEN + i * STEP, 870 + i) for i in range(13)])}
    )
    async with server:
        answer = await bound(server).now(server.client, NOW)
    assert server.asked[-1] == ("/v3/forecast", {"region": "DE", "horizon_hours": "1", "signal_type": "co2_moer"})
    assert len(server.asked) == 3
    assert answer.samples[0] == (TEN + STEP, TEN + 2 * STEP, 871 * G_PER_LB_PER_MWH, Quality.FORECAST)
    assert {s.quality for s in answer.samples} == {Quality.FORECAST}


async def test_a_value_older_than_half_an_hour_is_none() -> None:
    server = Server({"/v3/historical": answered([point(TEN, 870)]), "/v3/forecast": answered([])})
    async with server:
        source = bound(server)
        assert (await source.now(server.client, TEN + 1800)).samples[0].from_s == TEN
        with pytest.raises(NoDataError):
            await source.now(server.client, TEN + 1801)


async def test_the_past_is_asked_for_in_pieces_of_two_days() -> None:
    def answer(request: web.Request) -> Any:
        begin = datetime.fromisoformat(request.query["start"]).timestamp()
        end = datetime.fromisoformat(request.query["end"]).timestamp()
        count = int((end - begin) / STEP) + 1  # the end is in it
        return answered([point(begin + i * STEP, (begin + i * STEP - TEN) / 1e3 + 2000) for i in range(count)])

    server = Server({"/v3/historical": answer})
    begin, end = TEN - 20 * DAY + 100, TEN - 100
    async with server:
        found = await bound(server).past(server.client, begin, end, NOW)
    spans = [(q["start"], q["end"]) for path, q in server.asked if path == "/v3/historical"]
    assert spans[:2] == [("2026-06-25T10:00Z", "2026-06-27T10:00Z"), ("2026-06-27T10:00Z", "2026-06-29T10:00Z")]
    assert spans[-1] == ("2026-07-13T10:00Z", "2026-07-15T09:58Z")
    assert len(spans) == 10
    assert server.logins == 1
    assert len(found.samples) == 20 * 288  # more than one answer may hold
    assert (found.samples[0].from_s, found.samples[-1].to_s) == (TEN - 20 * DAY, TEN)
    assert all(a.to_s == b.from_s for a, b in zip(found.samples, found.samples[1:], strict=False))


async def test_a_past_without_values_is_no_data_and_the_future_is_not_asked_of_it() -> None:
    server = Server({"/v3/historical": answered([])})
    async with server:
        source = bound(server)
        with pytest.raises(NoDataError, match="of that time"):
            await source.past(server.client, NOW - DAY, NOW + DAY, NOW)
        assert [q["end"] for path, q in server.asked if path == "/v3/historical"] == ["2026-07-15T10:07Z"]
        with pytest.raises(NoDataError):
            await source.past(server.client, NOW + 600, NOW + DAY, NOW)


@pytest.mark.parametrize(("hours", "horizon"), [(0.5, 1), (1, 1), (24, 24), (24.5, 25), (72, 72), (200, 72)])
async def test_the_forecast_is_as_long_as_asked_and_at_most_three_days(hours: float, horizon: int) -> None:
    points = [point(TEN - STEP + i * STEP, 1000) for i in range(12 * 80)]
    server = Server({"/v3/forecast": answered(points)})
    async with server:
        answer = await bound(server).forecast(server.client, TEN, hours)
    assert server.asked[-1][1]["horizon_hours"] == str(horizon)
    assert (answer.samples[0].from_s, answer.samples[-1].to_s) == (TEN, TEN + horizon * 3600)
    assert {s.quality for s in answer.samples} == {Quality.FORECAST}
    assert answer.samples[0].g_per_kwh == 453.59237
    assert answer.kind is IntensityKind.MARGINAL


async def test_another_step_is_taken_from_the_answer() -> None:
    server = Server({"/v3/historical": answered([point(TEN, 100)], data_point_period_seconds=900)})
    async with server:
        assert (await bound(server).now(server.client, NOW)).samples[0].to_s == TEN + 900
        server.answers["/v3/historical"] = answered([point(TEN, 100)], data_point_period_seconds="often")
        assert (await bound(server).now(server.client, NOW)).samples[0].to_s == TEN + STEP


async def test_one_login_is_enough_for_25_minutes() -> None:
    server = Server({"/v3/historical": lambda _: answered([point(TEN + i * STEP, 870) for i in range(-20, 8)])})
    async with server:
        source = bound(server)
        for _ in range(3):
            await source.now(server.client, NOW)
        await source.now(server.client, NOW + 25 * 60 - 1)
        assert server.logins == 1
        await source.now(server.client, NOW + 25 * 60)
        assert server.logins == 2
        await source.now(server.client, NOW - 3600)  # a clock set back says nothing of the token's age
    assert server.logins == 3


async def test_two_questions_at_once_log_in_once() -> None:
    server = Server({"/v3/historical": answered([point(TEN, 870)]), "/v3/forecast": answered([point(TEN, 870)])})
    async with server:
        source = bound(server)
        async with anyio.create_task_group() as group:
            group.start_soon(source.now, server.client, TEN + 60)
            group.start_soon(source.forecast, server.client, TEN + 60, 1.0)
    assert server.logins == 1
    assert len(server.asked) == 3


async def test_a_token_that_ran_out_early_leads_to_one_new_login() -> None:
    server = Server({"/v3/historical": answered([point(TEN, 870)])})
    async with server:
        source = bound(server)
        await source.now(server.client, NOW)
        server.bearer = "another"
        assert (await source.now(server.client, NOW)).samples[0].from_s == TEN
        assert server.paths == ["/login", "/v3/historical", "/v3/historical", "/login", "/v3/historical"]


async def test_a_service_that_takes_no_token_is_asked_twice_and_no_more() -> None:
    server = Server({"/v3/historical": lambda _: web.json_response({"error": "no"}, status=401)})
    async with server:
        with pytest.raises(SourceRefusedError, match="401") as caught:
            await bound(server).now(server.client, NOW)
    assert server.paths == ["/login", "/v3/historical", "/login", "/v3/historical"]
    assert caught.value.remedy == watttime.REMEDY


async def test_a_wrong_password_is_refused_at_once() -> None:
    server = Server()
    async with server:
        with pytest.raises(SourceRefusedError, match="401") as caught:
            await bound(server, token=f"{USER}:wrong").now(server.client, NOW)
    assert server.paths == ["/login"]
    assert caught.value.remedy == watttime.REMEDY


async def test_a_bare_token_is_used_as_it_is_and_never_logs_in() -> None:
    server = Server({"/v3/historical": answered([point(TEN, 870)])}, bearer="bare")
    async with server:
        source = bound(server, token="bare")
        await source.now(server.client, NOW)
        server.bearer = "another"
        with pytest.raises(SourceRefusedError) as caught:
            await source.now(server.client, NOW)
    assert server.paths == ["/v3/historical"] * 2
    assert caught.value.remedy == watttime.REMEDY


async def test_coordinates_are_turned_into_a_region_once() -> None:
    server = Server(
        {
            "/v3/region-from-loc": {"region": "CAISO_NORTH", "region_full_name": "x", "signal_type": "co2_moer"},
            "/v3/historical": answered([point(TEN, 870)], "CAISO_NORTH"),
            "/v3/forecast": answered([point(TEN, 870)], "CAISO_NORTH"),
        }
    )
    async with server:
        source = bound(server, at("US-CA", 37.774929, -122.419418), base="/v3")
        answer = await source.now(server.client, TEN + 60)
        assert (await source.forecast(server.client, TEN + 60, 1.0)).zone == "CAISO_NORTH"
    assert server.asked[1] == (
        "/v3/region-from-loc",
        {"latitude": "37.77", "longitude": "-122.42", "signal_type": "co2_moer"},
    )
    assert server.paths == ["/login", "/v3/region-from-loc", "/v3/historical", "/v3/forecast"]
    assert (answer.zone, source.traits.zone) == ("CAISO_NORTH", "US-CA")
    elsewhere = bound(server, at("US-CA", 34.05, -118.24))
    assert source.traits.asked_at != elsewhere.traits.asked_at


@pytest.mark.parametrize("body", [{}, {"region": None}, {"region": ""}, {"region": 7}, [], "null"])
async def test_coordinates_without_a_region_are_no_answer(body: Any) -> None:
    server = Server({"/v3/region-from-loc": body})
    async with server:
        with pytest.raises(BadAnswerError):
            await bound(server, at("WORLD", 0.0, 0.0)).now(server.client, NOW)
    assert server.asked[1][1]["latitude"] == "0.00"


@pytest.mark.parametrize(
    ("zone", "region"),
    [("DE", "DE"), ("GB", "UK"), ("GB:N1", "UK"), ("SE-SE3", "SE"), ("JP-TK", "JP_TK"), ("US-NW-BPAT", "BPA")],
)
def test_the_region_of_a_zone(zone: str, region: str) -> None:
    (source,) = watttime.bind(at(zone), Access(url=watttime.URL, token=ACCOUNT))
    assert source.traits.zone == region


@pytest.mark.parametrize("zone", ["WORLD", "US-CA", "US-CAL-CISO", "US-TEX-ERCO", "GB-NIR", "GB:BT7", "NO-NO1"])
def test_a_zone_without_a_known_region_wants_coordinates(zone: str) -> None:
    with pytest.raises(SourceRefusedError) as caught:
        watttime.bind(at(zone), Access(url=watttime.URL, token=ACCOUNT))
    assert caught.value.remedy == "give coordinates as the location, such as 37.77,-122.42"


def test_the_table_has_each_zone_once() -> None:
    rows = data.rows("watttime_regions")
    assert len({row["zone"] for row in rows}) == len(rows) > 40
    assert all(row["zone"] and row["region"] for row in rows)


def test_without_an_account_the_remedy_is_the_line_to_type() -> None:
    with pytest.raises(SourceRefusedError) as caught:
        watttime.bind(at("DE"), Access(url=watttime.URL))
    assert caught.value.remedy.startswith("export AIOCARBON_WATTTIME_TOKEN=user:password")


async def test_warnings_are_told_on_one_short_line() -> None:
    warnings = [{"type": "A", "message": "first\n\tline"}, {"type": "SECOND"}, 7, {"message": "x" * 500}]
    server = Server({"/v3/historical": answered([point(TEN, 870)], warnings=warnings)})
    async with server:
        source = bound(server)
        answer = await source.now(server.client, NOW)
        assert answer.note == f"{NOTE}; " + ("first line; SECOND; " + "x" * 500)[:200]
        nothing: list[Any] = [None, [], {}, "x", 5, [None], [{}]]
        for none in nothing:
            server.answers["/v3/historical"] = answered([point(TEN, 870)], warnings=none)
            assert (await source.now(server.client, NOW)).note == NOTE


@pytest.mark.parametrize(
    "body",
    [
        answered([point(TEN, 870)], units="percentile"),
        answered([point(TEN, 870)], units=None),
        answered([point(TEN, 870)], "FR"),
        answered([point(TEN, 870)], region=None),
        answered([point(TEN, 870)], signal_type="health_damage"),
        answered([point(TEN, -1)]),
        answered([point(TEN, 6615)]),
        answered([point(TEN, 1e300)]),
        answered([point(TEN, 10**400)]),
        answered([point(TEN, "870")]),
        answered([point(TEN, True)]),
        answered([point(TEN, 870, point_time="now")]),
        answered([point(TEN, 870, point_time=None)]),
        answered([[TEN, 870]]),
        answered(None),
        answered({}),
        {"data": [point(TEN, 870)]},
        {"data": [point(TEN, 870)], "meta": []},
        [],
        "null",
        "",
        "<html>soon</html>",
        '{"data": [{"value": 87',
    ],
)
async def test_what_cannot_be_used_is_no_value(body: Any) -> None:
    server = Server({"/v3/historical": body, "/v3/forecast": body})
    async with server:
        source = bound(server)
        with pytest.raises(BadAnswerError):
            await source.now(server.client, NOW)
        with pytest.raises(BadAnswerError):
            await source.forecast(server.client, TEN + 60, 1.0)


async def test_zero_is_a_value() -> None:
    server = Server({"/v3/historical": answered([point(TEN, 0)])})
    async with server:
        assert (await bound(server).now(server.client, NOW)).samples[0].g_per_kwh == 0.0


@pytest.mark.parametrize("body", [{}, {"token": None}, {"token": ""}, {"token": "a\nb"}, {"token": "t\u00fc"}, []])
async def test_a_login_without_a_token_is_no_answer(body: Any) -> None:
    server = Server({"/login": body})
    async with server:
        with pytest.raises(BadAnswerError):
            await bound(server).now(server.client, NOW)
    assert server.paths == ["/login"]


@pytest.mark.parametrize(
    ("status", "error", "remedy"),
    [
        (403, SourceRefusedError, watttime.PLAN_REMEDY),
        (404, SourceRefusedError, ""),
        (400, SourceRefusedError, ""),
        (429, SourceDownError, ""),
        (503, SourceDownError, ""),
    ],
)
async def test_a_refusal_keeps_its_status(status: int, error: type[Exception], remedy: str) -> None:
    server = Server({"/v3/forecast": lambda _: web.Response(text="Access denied", status=status)})
    async with server:
        with pytest.raises(error, match=f"answered {status}: Access denied") as caught:
            await bound(server).forecast(server.client, NOW, 1.0)
    assert isinstance(caught.value, SourceRefusedError | SourceDownError)
    assert (caught.value.status, caught.value.remedy) == (status, remedy)


@pytest.mark.parametrize("status", [200, 400, 401, 403, 429, 500])
@pytest.mark.parametrize("path", ["/login", "/v3/historical"])
async def test_what_an_answer_repeats_of_the_account_is_told_nowhere(path: str, status: int) -> None:
    secrets = [ACCOUNT, PASSWORD, BASIC.removeprefix("Basic ")]
    tokens = ["token-1", "token-2"]

    def answer(_: dict[str, str]) -> web.Response:
        return web.Response(text=" ".join([*secrets, *tokens[: server.logins]]), status=status)

    server = Server({path: answer})
    server.answers["/v3/forecast"] = answered([point(TEN, 870)], units="token-1")
    async with server:
        source = bound(server)
        with pytest.raises(IntensityError) as caught:
            await source.now(server.client, NOW)
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + caught.value.remedy
    told += repr(source) + str(source) + repr(source.traits)
    assert not [secret for secret in secrets + tokens if secret in told]


async def test_a_warning_that_repeats_the_account_is_cleared() -> None:
    server = Server(
        {"/v3/historical": answered([point(TEN, 870)], warnings=[{"message": f"{ACCOUNT} {PASSWORD} token-1"}])}
    )
    async with server:
        answer = await bound(server).now(server.client, NOW)
    assert answer.note == f"{NOTE}; ... ... ..."


def test_it_is_a_source() -> None:
    (source,) = watttime.bind(at("FR"), Access(url="https://example.org", token=ACCOUNT))
    assert isinstance(source, Source)
    traits = source.traits
    assert (traits.name, traits.step_s, traits.offset_s, traits.stale_s) == ("watttime", 300.0, 300.0, 1800.0)
    assert (traits.kind, traits.has_past, traits.has_forecast) == (IntensityKind.MARGINAL, True, True)
    assert watttime.URL == "https://api.watttime.org"

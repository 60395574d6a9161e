"""Two services asked for the country: they agree, disagree, hang, ration, or are a hotel's login page."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from aiohttp import web

from aiocarbon.intensity.client import Client
from aiocarbon.intensity.geolocation import Found, asked, country

pytestmark = pytest.mark.anyio

ADDRESS = "192.0.2.77"


async def blocking(function: Callable[..., Any], *args: Any) -> Any:
    return await anyio.to_thread.run_sync(function, *args)


def geojs(code: object, region: str = "Capital Region", **more: object) -> str:
    return json.dumps(
        {"ip": ADDRESS, "country": "Denmark", "country_code": code, "region": region, "city": "Lyngby",
         "latitude": "55.77", "longitude": "12.50", "timezone": "Europe/Copenhagen", **more}
    )  # fmt: skip


def ipinfo(code: object, region: str = "Capital Region", **more: object) -> str:
    return json.dumps(
        {
            "ip": ADDRESS,
            "city": "Lyngby",
            "region": region,
            "country": code,
            "loc": "55.77,12.50",
            "postal": "2800",
            **more,
        }
    )


class Services:
    """Both services on one port."""

    def __init__(self, geojs: str | int | None, ipinfo: str | int | None) -> None:
        self.answers = {"/geojs/v1/ip/geo.json": geojs, "/ipinfo/json": ipinfo}
        self.headers: dict[str, Any] = {}
        self.asked: list[str] = []
        self.hanging = anyio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path_qs)
        self.headers[request.path] = request.headers
        answer = self.answers[request.path]
        if answer is None:
            await self.hanging.wait()
        if isinstance(answer, int):
            return web.json_response({"error": {"title": f"no more for {ADDRESS}"}}, status=answer)
        return web.Response(text=answer or "")


@asynccontextmanager
async def served(services: Services) -> AsyncIterator[tuple[Client, dict[str, str]]]:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", services.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    client = Client(blocking, proxies=dict)
    try:
        yield client, {"AIOCARBON_GEOJS_URL": f"{base}/geojs", "AIOCARBON_IPINFO_URL": f"{base}/ipinfo/"}
    finally:
        services.hanging.set()
        await client.aclose()
        await runner.cleanup()


async def found(geojs: str | int | None, ipinfo: str | int | None, **environ: str) -> Found:
    async with served(Services(geojs, ipinfo)) as (client, urls):
        return await country(client, environ={**urls, **environ})


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        (geojs("DK"), ipinfo("SE"), "geojs.io says DK, ipinfo.io says SE"),
        (429, ipinfo("DK"), "geojs.io answered 429, ipinfo.io says DK"),
        (geojs("DK"), 403, "ipinfo.io answered 403"),
        (500, 503, "geojs.io answered 500, ipinfo.io answered 503"),
        ("<html>Welcome to our hotel</html>", "<html>Welcome to our hotel</html>", "no JSON"),
        (geojs("DK"), "", "empty answer"),
        (geojs("dk"), ipinfo("dk"), "geojs.io says no country, ipinfo.io says no country"),
        (geojs("XX"), ipinfo("XX"), "says no country"),
        (geojs("WORLD"), ipinfo("WORLD"), "says no country"),
        (geojs("UK"), ipinfo("UK"), "says no country"),
        (geojs("DNK"), ipinfo("DNK"), "says no country"),
        (geojs("US-CA"), ipinfo("US-CA"), "says no country"),
        (geojs(None), ipinfo(45), "says no country"),
        (geojs("DK", error={"title": "x"}), ipinfo("DK", error=True), "says no country"),
        ("[]", "null", "says no country"),
        ('"DK"', '"DK"', "says no country"),
        (geojs("DK")[:-4], ipinfo("DK"), "no JSON"),
    ],
)
async def test_nothing_is_believed_that_two_do_not_say(one: str | int, other: str | int, why: str) -> None:
    said = await found(one, other)
    assert said.place is None
    assert why in said.why
    assert ADDRESS not in said.why


async def test_one_that_is_silent_leaves_the_other_alone_with_its_word() -> None:
    async with served(Services(None, ipinfo("DK"))) as (client, urls):
        said = await country(client, environ=urls, limit_s=0.3)
    assert said.place is None
    assert "did not answer within 0.3 s, ipinfo.io says DK" in said.why


async def test_two_that_agree_are_believed_and_all_else_is_dropped() -> None:
    said = await found(geojs("DK"), ipinfo("DK"))
    assert said.place is not None
    assert (said.place.zone, said.place.how, said.place.is_guess) == ("DK", "geolocation", False)
    assert said.place.note == "two services agreed: geojs.io, ipinfo.io"
    assert (said.place.latitude, said.place.longitude, said.place.region) == (None, None, "")
    assert not any(secret in repr(said) for secret in (ADDRESS, "Lyngby", "55.77", "2800"))


@pytest.mark.parametrize(
    ("code", "one", "other", "zone"),
    [
        ("US", "California", "california ", "US-CA"),
        ("CA", "Ontario", "Ontario", "CA-ON"),
        ("US", "California", "Oregon", "US"),
        ("US", "California", "", "US"),
        ("US", "Ontario", "Ontario", "US"),
        ("US", "CA", "CA", "US"),
        ("DK", "Capital Region", "Capital Region", "DK"),
        ("PR", "Puerto Rico", "Puerto Rico", "PR"),
        ("US", "Puerto Rico", "Puerto Rico", "US"),
        ("NA", "Khomas", "Khomas", "NA"),
    ],
)
async def test_a_state_counts_where_both_name_it(code: str, one: str, other: str, zone: str) -> None:
    said = await found(geojs(code, one), ipinfo(code, other))
    assert said.place is not None
    assert said.place.zone == zone


async def test_a_token_goes_into_a_header_of_its_own_service_alone() -> None:
    services = Services(geojs("DK"), ipinfo("DK"))
    async with served(services) as (client, urls):
        said = await country(client, environ={**urls, "AIOCARBON_IPINFO_TOKEN": "s3cret"})
    assert said.place is not None
    assert services.headers["/ipinfo/json"]["Authorization"] == "Bearer s3cret"
    assert "Authorization" not in services.headers["/geojs/v1/ip/geo.json"]
    assert sorted(services.asked) == ["/geojs/v1/ip/geo.json", "/ipinfo/json"], "each was asked once"
    assert "s3cret" not in repr(said)


async def test_a_base_url_that_is_none_is_told() -> None:
    said = await found(geojs("DK"), ipinfo("DK"), AIOCARBON_IPINFO_URL="gopher://x")
    assert said.place is None
    assert "AIOCARBON_IPINFO_URL holds no URL" in said.why
    said = await found(geojs("DK"), ipinfo("DK"), AIOCARBON_IPINFO_URL="http://198.51.100.1")
    assert "only https" in said.why, "an address is not told to strangers in the clear"


async def test_a_dead_network_is_no_error() -> None:
    client = Client(blocking, proxies=dict)
    dead = {"AIOCARBON_GEOJS_URL": "http://127.0.0.1:1", "AIOCARBON_IPINFO_URL": "http://127.0.0.1:1"}
    said = await country(client, environ=dead)
    await client.aclose()
    assert said.place is None
    assert "cannot be reached" in said.why


def test_what_was_asked_tells_settings_apart_without_showing_them() -> None:
    mine = {"AIOCARBON_IPINFO_URL": "https://user:s3cret@mirror.example"}
    assert asked({}) == asked({"AIOCARBON_IPINFO_TOKEN": "s3cret"}) != asked(mine)
    assert "s3cret" not in asked(mine)

"""The cloud's own word on where the machine is: from metadata services that answer, lie, hang or are not there."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import web

from aiocarbon import data
from aiocarbon.intensity import cloud
from aiocarbon.intensity import dmi as firmware
from aiocarbon.intensity.client import Client

pytestmark = pytest.mark.anyio

TOKEN = "AQAEAD-sixty-seconds=="


async def blocking(function: Callable[..., Any], *args: Any) -> Any:
    return await anyio.to_thread.run_sync(function, *args)


class Host:
    """The link-local services of a host: which of them answer, and what they were asked."""

    def __init__(self, **answers: str | int | None) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.flavor: str | None = "Google"
        self.token = TOKEN
        self.hanging = anyio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(f"{request.method} {request.path_qs}")
        name = {"latest": "aws", "computeMetadata": "gcp", "metadata": "azure"}[request.path.split("/")[1]]
        answer = self.answers.get(name, 404)
        if answer is None:
            await self.hanging.wait()
        if isinstance(answer, int):
            return web.Response(status=answer, text="<html>no</html>")
        if name == "aws" and request.method == "PUT":
            assert request.headers["X-aws-ec2-metadata-token-ttl-seconds"].isdigit()
            return web.Response(text=self.token)
        if name == "aws" and request.headers.get("X-aws-ec2-metadata-token") != TOKEN:
            return web.Response(status=401)
        if name == "gcp":
            assert request.headers["Metadata-Flavor"] == "Google"
            return web.Response(text=answer, headers={"Metadata-Flavor": self.flavor} if self.flavor else {})
        if name == "azure":
            assert request.headers["Metadata"] == "true"
        return web.Response(text=answer or "")


@asynccontextmanager
async def served(host: Host) -> AsyncIterator[tuple[Client, dict[str, str]]]:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", host.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]

    def no_proxy_may_be_asked() -> dict[str, str]:
        raise AssertionError("a proxy was looked up for a metadata service")

    client = Client(blocking, proxies=no_proxy_may_be_asked)
    try:
        yield client, {f"AIOCARBON_{name}_URL": f"http://127.0.0.1:{port}" for name in ("AWS", "GCP", "AZURE")}
    finally:
        host.hanging.set()
        await client.aclose()
        await runner.cleanup()


@pytest.mark.parametrize("found", [None, "alibaba", "oracle", "", "ovh"])
async def test_no_packet_is_sent_on_a_machine_that_is_no_cloud(found: str | None) -> None:
    host = Host(aws="eu-north-1", gcp="projects/1/zones/us-central1-a", azure="westus")
    async with served(host) as (client, urls):
        assert await cloud.region(client, found, environ={**urls, "AWS_REGION": "eu-north-1"}) is None
    assert host.asked == []


@pytest.mark.parametrize(
    ("answers", "region"),
    [
        ({"aws": "eu-north-1"}, ("aws", "eu-north-1")),
        ({"aws": "us-gov-west-1\n"}, ("aws", "us-gov-west-1")),
        ({"gcp": "projects/705208488469/zones/us-central1-a"}, ("gcp", "us-central1")),
        ({"gcp": "projects/1/zones/northamerica-northeast2-ai1a"}, ("gcp", "northamerica-northeast2")),
        ({"azure": "westus"}, ("azure", "westus")),
        ({"azure": "AustraliaCentral2"}, ("azure", "australiacentral2")),
        # The others hang or fail: the one that answers is not held up.
        ({"aws": None, "gcp": None, "azure": "westus3"}, ("azure", "westus3")),
        ({"aws": "eu-west-1", "gcp": None, "azure": None}, ("aws", "eu-west-1")),
        ({"aws": 500, "gcp": "projects/1/zones/europe-west4-b", "azure": 429}, ("gcp", "europe-west4")),
    ],
)
async def test_the_metadata_says_the_region(answers: dict[str, str | int | None], region: tuple[str, str]) -> None:
    host = Host(**answers)
    async with served(host) as (client, urls):
        found = await cloud.region(client, region[0], environ=urls)
    assert found is not None
    assert (found.provider, found.name, found.note) == (*region, "")


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {"aws": 401},
        {"aws": None, "gcp": None, "azure": None},
        {"aws": "<html>log in first</html>", "gcp": "<html>", "azure": "<html>"},
        {"aws": "nova", "gcp": "us-central1-a", "azure": "west us!"},
        {"aws": "eu-north-1; rm -rf", "gcp": "projects/1/zones/x/us-central1-a", "azure": "../../etc"},
        {"aws": "a" * 2000, "gcp": "projects/1/zones/" + "a" * 2000, "azure": "a" * 2000},
        {"aws": "", "gcp": "", "azure": ""},
        {"aws": "EU-NORTH-1", "gcp": "projects//zones/us-central1-a"},
    ],
)
async def test_what_is_no_region_is_not_taken_for_one(answers: dict[str, str | int | None]) -> None:
    host = Host(**answers)
    async with served(host) as (client, urls):
        for provider in ("aws", "gcp", "azure"):
            assert await cloud.region(client, provider, environ=urls) is None


async def test_a_server_without_googles_header_is_not_googles() -> None:
    host = Host(gcp="projects/1/zones/us-central1-a")
    for flavor in (None, "Amazon"):
        host.flavor = flavor
        async with served(host) as (client, urls):
            assert await cloud.region(client, "gcp", environ=urls) is None


async def test_a_token_that_is_none_is_not_sent_on() -> None:
    host = Host(aws="eu-north-1")
    host.token = "<html>\nlog in</html>"
    async with served(host) as (client, urls):
        assert await cloud.region(client, "aws", environ=urls) is None
    assert "PUT /latest/api/token" in host.asked
    assert not any("region" in line for line in host.asked)


async def test_nothing_but_the_region_is_asked_for() -> None:
    host = Host()
    async with served(host) as (client, urls):
        await cloud.region(client, "aws", environ=urls)
    assert {line.partition("?")[0] for line in host.asked} == {
        "PUT /latest/api/token",
        "GET /computeMetadata/v1/instance/zone",
        "GET /metadata/instance/compute/location",
    }


@pytest.mark.parametrize(
    ("found", "environ", "region"),
    [
        ("aws", {"AWS_REGION": "eu-north-1", "AWS_DEFAULT_REGION": "us-east-1"}, "eu-north-1"),
        ("aws", {"AWS_REGION": " ", "AWS_DEFAULT_REGION": "us-east-1"}, "us-east-1"),
        ("gcp", {"GOOGLE_CLOUD_REGION": "europe-west4"}, "europe-west4"),
        ("gcp", {"CLOUDSDK_COMPUTE_REGION": "us-west1"}, "us-west1"),
        ("azure", {"REGION_NAME": "West Europe"}, "westeurope"),
        ("azure", {"AWS_REGION": "eu-north-1"}, None),
        ("aws", {"REGION_NAME": "West Europe"}, None),
        ("aws", {"AWS_REGION": "$(hostname)"}, None),
    ],
)
async def test_a_container_that_cannot_reach_it_has_the_variable_of_its_own_cloud(
    found: str, environ: dict[str, str], region: str | None
) -> None:
    async with served(Host()) as (client, urls):
        said = await cloud.region(client, found, environ={**urls, **environ})
    if region is None:
        assert said is None
    else:
        assert said is not None
        assert (said.provider, said.name) == (found, region)
        assert "metadata service did not answer" in said.note


async def test_a_base_url_that_is_none_costs_only_that_service() -> None:
    async with served(Host(azure="westus")) as (client, urls):
        said = await cloud.region(client, "azure", environ={**urls, "AIOCARBON_AWS_URL": "not a url"})
    assert said == ("azure", "westus", "")


async def test_a_dead_port_is_no_error() -> None:
    client = Client(blocking)
    dead = {f"AIOCARBON_{name}_URL": "http://127.0.0.1:1" for name in ("AWS", "GCP", "AZURE")}
    assert await cloud.region(client, "gcp", environ=dead) is None
    await client.aclose()


def test_a_region_has_a_place() -> None:
    place = cloud.place_of("aws", "eu-north-1")
    assert place is not None
    assert (place.zone, place.how, place.is_guess, place.region) == ("SE-SE3", "cloud", False, "aws eu-north-1")
    assert place.name.startswith("Sweden")
    assert place.latitude is None
    other = cloud.place_of("aws", "us-west-2", "by AWS_REGION")
    assert other is not None
    assert other.note == "by AWS_REGION; the Green Software Foundation's table says US-NW-BPAT"


@pytest.mark.parametrize(
    ("provider", "region"), [("aws", "eu-nowhere-9"), ("gcp", "eu-north-1"), ("", ""), ("oracle", "eu-frankfurt-1")]
)
def test_a_region_that_the_table_lacks_has_none(provider: str, region: str) -> None:
    assert cloud.place_of(provider, region) is None


def test_every_region_of_the_table_has_the_shape_that_is_believed() -> None:
    for row in data.rows("cloud_regions"):
        if row["provider"] in cloud.PATTERNS:
            assert re.fullmatch(cloud.PATTERNS[row["provider"]], row["region"]), row


def test_the_provider_is_told_by_firmware_alone(tmp_path: Path) -> None:
    assert firmware.provider(tmp_path / "missing") is None
    (tmp_path / "sys_vendor").write_text("Amazon EC2\n")
    assert firmware.provider(tmp_path) == "aws"
    (tmp_path / "sys_vendor").write_text("Google\n")
    assert firmware.provider(tmp_path) is None, "a Chromebook"

"""The live page's server: for its own machine and its own page alone, whatever is asked, and it ends at once."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from yarl import URL

from aiocarbon.errors import AiocarbonError
from aiocarbon.page import server
from aiocarbon.page.server import serve
from benchmarks.made_runs import put

pytestmark = pytest.mark.anyio


@contextlib.asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    address: list[str] = []
    is_up = anyio.Event()

    def started(url: str) -> None:
        address.append(url)
        is_up.set()

    async with anyio.create_task_group() as group:
        group.start_soon(serve, folder, 0, started)
        await is_up.wait()
        async with aiohttp.ClientSession() as session:
            yield address[0], session
        group.cancel_scope.cancel()


async def events(session: aiohttp.ClientSession, address: str) -> AsyncIterator[dict[str, Any]]:
    async with session.get(f"{address}events") as answer:
        assert answer.content_type == "text/event-stream"
        async for line in answer.content:
            if line.startswith(b"data: "):
                yield json.loads(line[6:])


async def test_the_page_and_a_run_and_its_list(tmp_path: Path) -> None:
    put(tmp_path, hours=1.0, epochs=3)
    async with served(tmp_path) as (address, session):
        async with session.get(address) as answer:
            assert answer.status == 200
            assert "aiocarbon" in await answer.text()
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
            assert answer.headers["Cache-Control"] == "no-store"
        async for told in events(session, address):
            if told["runs"]:
                break
        assert told["runs"][0]["name"] == "resnet-50 on 8 GPUs"
        async with session.get(f"{address}run/{told['runs'][0]['n']}") as answer:
            assert (await answer.json())["kpis"]
        async with session.get(f"{address}run/7") as answer:
            assert answer.status == 404


async def test_a_folder_without_runs_is_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    async with served(folder) as (address, session):
        seen = 0
        async for told in events(session, address):
            seen += 1
            if seen == 1:
                assert told == {"runs": [], "problems": [], "folder": str(folder), "is_there": False, "unread": 0}
                put(folder, hours=0.5, epochs=0, gpus=1, spans=())
            elif told["runs"]:
                break
        assert told["is_there"]


async def test_several_pages_hear_the_same(tmp_path: Path) -> None:
    put(tmp_path, hours=0.5, epochs=0, gpus=1, spans=())
    async with served(tmp_path) as (address, session):
        told = []

        async def hear() -> None:
            async for one in events(session, address):
                if one["runs"]:
                    told.append(one)
                    return

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(hear)
        assert told[0] == told[1] == told[2]


@pytest.mark.parametrize(
    "name", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1.evil.example:{port}", ""]
)
@pytest.mark.parametrize("path", ["", "events", "run/0"])
async def test_no_other_name_is_answered(tmp_path: Path, name: str, path: str) -> None:
    async with served(tmp_path) as (address, session):
        host = name.format(port=URL(address).port)
        async with session.get(f"{address}{path}", headers={"Host": host}) as answer:
            assert answer.status == 403
            assert "own machine" in await answer.text()


async def test_its_own_names_are(tmp_path: Path) -> None:
    async with served(tmp_path) as (address, session):
        port = URL(address).port
        for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"LOCALHOST:{port}"):
            async with session.get(address, headers={"Host": host}) as answer:
                assert answer.status == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_other_sites_read_nothing(tmp_path: Path, site: str) -> None:
    async with served(tmp_path) as (address, session):
        for path in ("run/0", "events"):
            async with session.get(f"{address}{path}", headers={"Sec-Fetch-Site": site}) as answer:
                assert answer.status == 403


@pytest.mark.parametrize(
    "path",
    ["../../etc/passwd", "run/../../../etc/passwd", "run/..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "run/-1",
     "run/0/../../x", "run/9999999999999", "run/0.json", "//etc/passwd", "favicon.ico", "run/"],
)  # fmt: skip
async def test_no_file_is_asked_for_by_its_name(tmp_path: Path, path: str) -> None:
    put(tmp_path, hours=0.5, epochs=0, gpus=1, spans=())
    async with served(tmp_path) as (address, session):
        async with session.get(URL(f"{address}{path}", encoded=True)) as answer:
            assert answer.status == 404
            assert "root:" not in await answer.text()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_nothing_is_written(tmp_path: Path, method: str) -> None:
    async with served(tmp_path) as (address, session):
        for path in ("", "run/0", "events"):
            async with session.request(method, f"{address}{path}", data=b"x") as answer:
                assert answer.status == 405
    assert os.listdir(tmp_path) == []


async def test_a_port_that_is_taken_is_told_with_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((server.ADDRESS, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(AiocarbonError, match=rf"port {port} of 127.0.0.1 cannot be had: something else.*--port 0"):
            await serve(tmp_path, port, lambda address: None)


async def test_it_listens_on_the_loopback_address_alone(tmp_path: Path) -> None:
    async with served(tmp_path) as (address, _):
        port = URL(address).port
        assert port
        with socket.socket() as other:  # the same port of another address is free
            other.bind(("127.0.0.2", port))


async def test_too_many_pages_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_PAGES", 1)  # a constant that nobody hands in; 33 connections would be slow
    async with served(tmp_path) as (address, session):
        async with session.get(f"{address}events") as first:
            await first.content.readline()
            async with session.get(f"{address}events") as second:
                assert second.status == 503


async def test_it_ends_while_pages_are_open(tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as outside:
        async with served(tmp_path) as (address, _):
            answer = await outside.get(f"{address}events")
            await answer.content.readline()
        with contextlib.suppress(aiohttp.ClientError):
            assert await answer.content.read() is not None
        answer.close()

"""The one way out, against real local servers on their worst days: what gets through, and what is said."""

from __future__ import annotations

import asyncio
import base64
import gzip
import itertools
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import traceback
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote, urlsplit

import anyio
import pytest
from aiohttp import web
from hypothesis import example, given
from hypothesis import strategies as st

import aiocarbon
from aiocarbon.errors import BadAnswerError, IntensityError, SourceDownError, SourceRefusedError
from aiocarbon.intensity.base import Access, shown
from aiocarbon.intensity.client import MOST_BYTES, MOST_VALUES, Client, Reply, decoded
from aiocarbon.intensity.headers import MOST_PATIENCE_S, date_s, patience_s
from aiocarbon.intensity.sources import access_of
from aiocarbon.intensity.wording import Sent

ROOT = str(Path(aiocarbon.__file__).parents[1])
BUSY = 503
TOKEN = "tok-4Zq9/Yx+7=Lw"
USER, PASSWORD = "me", "pw1"

Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def blocking(function: Callable[..., Any], *args: Any) -> Any:
    return await anyio.to_thread.run_sync(function, *args, abandon_on_cancel=True)


@asynccontextmanager
async def served(answer: Answering, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """The base URL of a server."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def raw(talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[int]:
    """The port of a server that speaks as badly as a test wants."""
    tasks: list[Any] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.current_task())
        try:
            await talk(reader, writer)
        except ConnectionError:
            pass  # the client had enough
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            for task in tasks:
                await task
        await server.wait_closed()


def saying(*parts: bytes, then: Callable[[], Awaitable[Any]] | None = None) -> Any:
    """A server that reads a question, says what it is told, and then hangs or closes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
            await writer.drain()
        if then is not None:
            await then()

    return talk


@asynccontextmanager
async def a_client(worker: Any = blocking, proxies: Any = dict, **options: Any) -> AsyncIterator[Client]:
    client = Client(worker, proxies=proxies, **options)
    try:
        yield client
    finally:
        await client.aclose()


def always(text: str | bytes = "", *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answering:
    body = text.encode() if isinstance(text, str) else text

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status, headers=headers)

    return answer


async def told(url: str, *, client: Client | None = None, **question: Any) -> IntensityError:
    """The error that a question ends in."""
    async with AsyncExitStack() as stack:
        asker: Client = client if client is not None else await stack.enter_async_context(a_client())
        with pytest.raises(IntensityError) as caught:
            if "direct" in question:
                await asker.ask("GET", url, source="test", **question)
            else:
                await asker.json(url, source="test", **question)
    assert caught.value.source == "test"
    return caught.value


# -- what is answered ------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_an_answer_comes_with_its_status_headers_date_and_body() -> None:
    headers = {"Date": "Sat, 21 Nov 2026 07:30:00 GMT", "X-Some": "thing"}
    async with served(always("[1, 2]", headers=headers)) as url, a_client() as client:
        reply = await client.ask("GET", f"{url}/a", source="test")
        assert (reply.status, reply.body, reply.headers["x-some"], reply.date_s) == (
            200,
            b"[1, 2]",
            "thing",
            1795246200,
        )
        assert await client.json(f"{url}/a", source="test") == [1, 2]


@pytest.mark.anyio
async def test_what_is_sent_is_what_was_asked_for_and_says_who_asks() -> None:
    seen: list[tuple[str, str, dict[str, str], dict[str, str]]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append((request.method, request.path, dict(request.query), dict(request.headers)))
        return web.Response(text="{}")

    async with served(answer) as url, a_client() as client:
        await client.ask("PUT", f"{url}/a?b=1", source="test", params={"c d": "e&f"}, headers={"X-T": "t"})
        await client.ask("GET", url.replace("://", f"://{USER}:{PASSWORD}@"), source="test")
    (method, path, query, headers), other = seen
    assert (method, path, query, headers["X-T"]) == ("PUT", "/a", {"b": "1", "c d": "e&f"}, "t")
    assert headers["User-Agent"].startswith("aiocarbon/")
    assert "Cookie" not in headers
    assert "Authorization" not in headers
    assert other[3]["Authorization"] == "Basic " + base64.b64encode(b"me:pw1").decode()


@pytest.mark.parametrize(
    "body",
    [
        "",
        "   \n",
        "<html><body>Sign in</body></html>",
        '{"a": [1, 2',
        '{"a": NaN}',
        "[Infinity]",
        "[-Infinity]",
        "{'a': 1}",
        b'{"a": "\xe9"}',
        b"\xff\xfe\x00",
        b"\x00",
        "[" * 5000,
        '{"a":' * 5000,
        "9" * 5000,
    ],
)
@pytest.mark.anyio
async def test_what_is_no_json_is_told_and_may_pass(body: str | bytes) -> None:
    async with served(always(body)) as url:
        error = await told(f"{url}/now")
    assert isinstance(error, BadAnswerError)
    assert error.may_pass
    assert str(error) in {f"{url}/now sent an empty answer", f"{url}/now sent something that is no JSON"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32-be"])
@pytest.mark.anyio
async def test_json_in_any_encoding_of_unicode_is_read_whatever_the_header_says(encoding: str) -> None:
    headers = {"Content-Type": "text/html; charset=koi8-r"}
    async with served(always('{"ö": 1}'.encode(encoding), headers=headers)) as url, a_client() as client:
        assert await client.json(url, source="test") == {"ö": 1}


@pytest.mark.parametrize("unit", [b"1,", b"{},", b"[]", b'"",'])
def test_more_values_than_can_be_decoded_quickly_are_not_decoded(unit: bytes) -> None:
    fits = b"[" + b"1," * (MOST_VALUES - 2) + b"1]"
    assert len(decoded(fits, "test", "there")) == MOST_VALUES - 1
    with pytest.raises(BadAnswerError, match="there sent more than") as caught:
        decoded(b"[" + unit * MOST_VALUES + b"1]", "test", "there")
    assert not caught.value.may_pass


# -- size ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_length", [True, False])
@pytest.mark.anyio
async def test_an_endless_answer_is_cut_off(has_length: bool) -> None:
    sent = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Length": str(10**12)} if has_length else {})
        await response.prepare(request)
        try:
            while True:
                await response.write(b" " * 65536)
                sent += 65536
        except ConnectionError:
            return response

    async with served(answer) as url:
        error = await told(url)
    assert "more than 256 KiB" in str(error)
    assert isinstance(error, BadAnswerError)
    assert not error.may_pass
    assert sent < 100 * MOST_BYTES  # what lies in the buffers of two sockets


@pytest.mark.anyio
async def test_an_answer_of_the_largest_size_is_taken_and_one_byte_more_is_not() -> None:
    for headers, pack in (({}, bytes), ({"Content-Encoding": "gzip"}, gzip.compress)):
        async with served(always(pack(b" " * (MOST_BYTES - 1) + b"1"), headers=headers)) as url, a_client() as client:
            assert await client.json(url, source="test") == 1
        async with served(always(pack(b" " * MOST_BYTES + b"1"), headers=headers)) as url:
            assert "more than 256 KiB" in str(await told(url))


@pytest.mark.anyio
async def test_a_bomb_is_not_unpacked() -> None:
    packer = zlib.compressobj(wbits=31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(200)) + packer.flush()
    assert len(bomb) < MOST_BYTES
    async with served(always(bomb, headers={"Content-Encoding": "gzip"})) as url, a_client() as client:
        await client.aclose()
        tracemalloc.start()
        try:
            error = await told(url, client=client)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert "more than 256 KiB" in str(error)
    assert peak < 16 << 20


@pytest.mark.parametrize(
    ("body", "encoding", "why"),
    [
        (gzip.compress(b"[1, 2, 3]", mtime=0)[:-9], "gzip", "less than all"),
        (b"[1, 2, 3]", "gzip", "not compressed"),
        (b"", "gzip", "empty"),
        (b"[1]", "br", "not asked for"),
        (b"[1]", "zstd", "not asked for"),
        (zlib.compress(b"[1]"), "deflate", "not asked for"),
        (b"[1]", "gzip, gzip", "not asked for"),
    ],
)
@pytest.mark.anyio
async def test_an_answer_that_cannot_be_unpacked_is_told(body: bytes, encoding: str, why: str) -> None:
    async with served(always(body, headers={"Content-Encoding": encoding})) as url:
        error = await told(url)
    assert why in str(error)
    assert isinstance(error, BadAnswerError)


# -- status ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 520, 524])
@pytest.mark.anyio
async def test_what_asks_for_patience_is_down(status: int) -> None:
    async with served(always("so busy", status=status, headers={"Retry-After": "77"})) as url:
        error = await told(f"{url}/now")
    assert isinstance(error, SourceDownError)
    assert (str(error), error.status, error.retry_after_s) == (f"{url}/now answered {status}: so busy", status, 77.0)


@pytest.mark.parametrize("status", [300, 304, 400, 401, 403, 404, 410, 451, 501])
@pytest.mark.anyio
async def test_any_other_status_is_a_refusal(status: int) -> None:
    async with served(always("no" if status != 304 else "", status=status)) as url:
        error = await told(f"{url}/now")
    assert isinstance(error, SourceRefusedError)
    assert error.status == status


@pytest.mark.parametrize(
    ("body", "quoted"),
    [
        ("", ""),
        ("<!DOCTYPE html><h1>500</h1>", ""),
        (" two\n\n  lines ", ": two lines"),
        ("\x1b[31mred\x1b[0m\x07 \x00\u202e", ": [31mred [0m"),
        ("x" * 999, ": " + "x" * 200),
        (b"\xe9t\xe9", ": \ufffdt\ufffd"),
    ],
)
@pytest.mark.anyio
async def test_of_an_errors_body_a_line_is_quoted_that_no_terminal_obeys(body: str | bytes, quoted: str) -> None:
    async with served(always(body, status=500)) as url:
        assert str(await told(url)) == f"{url} answered 500{quoted}"


@pytest.mark.parametrize(
    "parts", [(b"1" * 5000,), (b"x" * 3 * MOST_BYTES,), ()], ids=["closed in its body", "too large", "closed at once"]
)
@pytest.mark.anyio
async def test_an_errors_status_and_patience_count_whatever_comes_of_its_body(parts: tuple[bytes, ...]) -> None:
    head = b"HTTP/1.1 503 Busy\r\nRetry-After: 99\r\nContent-Length: 1000000000\r\n\r\n"
    async with raw(saying(head, *parts)) as port:
        error = await told(f"http://127.0.0.1:{port}/")
    assert isinstance(error, SourceDownError)
    assert (error.status, error.retry_after_s) == (BUSY, 99.0)


@pytest.mark.anyio
async def test_an_error_whose_body_never_ends_is_an_error_all_the_same() -> None:
    gone = asyncio.Event()
    head = b"HTTP/1.1 401 No\r\nContent-Length: 1000\r\n\r\nbecause"
    async with raw(saying(head, then=gone.wait)) as port:
        error = await told(f"http://127.0.0.1:{port}/")
    assert isinstance(error, SourceRefusedError)
    assert error.status == 401


def rfc(at_s: float) -> str:
    from email.utils import formatdate

    return formatdate(at_s, usegmt=True)


@pytest.mark.parametrize(
    ("said", "taken"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 120 ", 120.0),
        ("000000000005", 5.0),
        ("99999999999999999999", MOST_PATIENCE_S),
        ("9" * 500, MOST_PATIENCE_S),
        ("-5", None),
        ("1.5", None),
        ("1e3", None),
        ("soon", None),
        ("", None),
        ("²", None),
        ("nan", None),
        (rfc(1_000_090), 90.0),
        (rfc(999_000), 0.0),
        (rfc(9_000_000), MOST_PATIENCE_S),
        ("Mon, 12 Jan 1970 13:48:10 -0000", 90.0),
        ("Mon, 12 Jan 1970 15:48:10 +0200", 90.0),
        ("Mon, 99 Jan 1970 13:48:10 GMT", None),
        ("Mon, 12 Jan 1970 13:48:10 +99999999999999999999", None),
        ("Mon, 12 Jan 99999999999999999999 13:48:10 GMT", None),
    ],
)
def test_how_long_not_to_ask_is_told_in_seconds_or_by_a_date_on_the_servers_clock(
    said: str, taken: float | None
) -> None:
    assert patience_s({"retry-after": said, "date": rfc(1_000_000)}) == taken


def test_without_the_servers_clock_this_machines_counts() -> None:
    assert patience_s({"retry-after": rfc(0)}) == 0.0
    assert patience_s({"retry-after": rfc(4e9), "date": "never"}) == MOST_PATIENCE_S
    assert patience_s({}) is None


@given(text=st.text(alphabet=" ,:+-0123456789JanMonGMT", max_size=60))
@example("Wed, 21 Oct 2015 07:28:00 +99999999999999999999")
@example("Mon, 01 Jan 0001 00:00:00 +2300")
def test_no_date_of_a_server_raises(text: str) -> None:
    for value in (date_s(text), patience_s({"retry-after": text}), Reply(200, {"date": text}, b"").date_s):
        assert value is None or abs(value) < 1e12


# -- redirects -------------------------------------------------------------------------------------------------------


def leading(where: Callable[[web.Request], str], status: int = 302) -> Answering:
    """Redirects all but /there, which answers with what it was asked."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path == "/there":
            return web.json_response(
                {"query": dict(request.query), "token": request.headers.get("X-Token"), "method": request.method}
                | {"user": request.headers.get("Authorization", "")}
            )
        return web.Response(status=status, headers={"Location": where(request)})

    return answer


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("where", ["/there?a=1", "there?a=1", "http://{host}/there?a=1", "//{host}/there?a=1"])
@pytest.mark.anyio
async def test_a_redirect_on_the_same_host_is_followed_with_headers_and_password(status: int, where: str) -> None:
    async with served(leading(lambda r: where.format(host=r.host), status)) as url, a_client() as client:
        reply = await client.ask(
            "GET",
            url.replace("://", f"://{USER}:{PASSWORD}@") + "/here",
            source="test",
            params={"b": "2"},
            headers={"X-Token": TOKEN},
        )
    assert json.loads(reply.body) == {
        "query": {"a": "1"},
        "token": TOKEN,
        "method": "GET",
        "user": "Basic bWU6cHcx",
    }


@pytest.mark.parametrize(
    ("where", "shows"),
    [
        ("https://{host}/there", "https://127.0.0.1:"),
        ("http://localhost:{port}/there", "http://localhost:"),
        ("http://127.0.0.1:1/there", "http://127.0.0.1:1,"),
        ("http://127.0.0.2:{port}/there", "http://127.0.0.2:"),
        ("http://grid.example/there", "grid.example"),
        ("//grid.example/there", "grid.example"),
        ("ftp://{host}/there", "ftp://"),
        ("file:///etc/passwd", "file://"),
        ("mailto:a@b", "mailto:"),
        ("http://[::1", "nowhere"),
        ("http://127.0.0.1:99999/", "nowhere"),
        ("http://127.0.0.1:port/", "nowhere"),
    ],
)
@pytest.mark.anyio
async def test_a_redirect_to_another_origin_is_not_followed(where: str, shows: str) -> None:
    paths = []

    def location(request: web.Request) -> str:
        paths.append(request.path)
        return where.format(host=request.host, port=request.url.port)

    async with served(leading(location)) as url:
        error = await told(f"{url}/here")
    assert isinstance(error, SourceRefusedError)
    assert str(error).startswith(f"{url}/here redirects to ")
    assert shows in str(error)
    assert error.status == 302
    assert paths == ["/here"]


@pytest.mark.anyio
async def test_https_is_never_left_for_http(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    asked = []

    def location(request: web.Request) -> str:
        asked.append(request.path)
        return f"http://{request.host}/there"

    async with served(leading(location), tls=context_of(certificate)) as url:
        said = await in_child(url, certificate[0], tmp_path)
    assert said.startswith(f"SourceRefusedError: {url} redirects to http://127.0.0.1:")
    assert asked == ["/"]


@pytest.mark.parametrize("where", ["/again", "", "?x"])
@pytest.mark.anyio
async def test_redirects_without_end_have_one(where: str) -> None:
    asked = []

    def location(request: web.Request) -> str:
        asked.append(request.path)
        return where

    async with served(leading(location)) as url:
        error = await told(url)
    assert isinstance(error, SourceRefusedError)
    assert str(error) == f"{url} redirects without end"
    assert len(asked) == 4


# -- plain HTTP ------------------------------------------------------------------------------------------------------


async def never(function: Callable[..., Any], *args: Any) -> NoReturn:
    raise AssertionError("nothing may be asked, not even a name")


@pytest.mark.parametrize(
    "url",
    [
        "http://grid.example/now",
        "http://10.0.0.1/",
        "http://192.168.1.1/",
        "http://8.8.8.8/",
        "http://[2001:db8::1]/",
        "http://0.0.0.0/",
        "http://2130706433/",
        "http://localhost.grid.example/",
        "http://127.0.0.1.grid.example/",
        "http://localhost@grid.example/",
        "http://169.255.0.1/",
        "ftp://localhost/",
        "file:///etc/passwd",
        "localhost:80",
        "//localhost/",
        "https:///now",
        "https://:443/",
        "http://[::1",
        f"https://{USER}:{PASSWORD}/x@grid.example/",
        "https://grid.example:99999/",
        "",
    ],
)
@pytest.mark.anyio
async def test_what_is_neither_https_nor_this_machine_is_not_asked(url: str) -> None:
    async with a_client(never) as client:
        error = await told(url, client=client)
    assert isinstance(error, SourceRefusedError)
    assert "https://" in error.remedy
    assert PASSWORD not in str(error)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST",
        "127.0.0.1",
        "127.9.9.9",
        "[::1]",
        "169.254.169.254",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "metadata.google.internal",
    ],
)
@pytest.mark.anyio
async def test_this_machine_and_a_clouds_metadata_are_asked_in_plain_http_and_by_no_proxy(host: str) -> None:
    asked = []

    async def worker(function: Callable[..., Any], *args: Any) -> Any:
        asked.append(function.__name__)
        if function.__name__ == "_proxy_of":
            assert function(*args) is None
            raise OSError(5, "far enough")  # before a packet is sent
        return function(*args)

    async with a_client(worker, proxies=lambda: {"http": "http://proxy:1", "all": "http://proxy:1"}) as client:
        error = await told(f"http://{host}:9/", client=client)
    assert "far enough" in str(error)
    assert "_proxy_of" in asked


# -- secrets ---------------------------------------------------------------------------------------------------------

SENT: dict[str, dict[str, Any]] = {
    "header": {"headers": {"auth-token": TOKEN}},
    "bearer": {"headers": {"Authorization": f"Bearer {TOKEN}"}},
    "param": {"params": {"token": TOKEN}},
    "user": {"at": lambda url: url.replace("://", f"://{quote(TOKEN, safe='')}:{PASSWORD}@")},
    "query": {"at": lambda url: f"{url}?token={quote(TOKEN, safe='')}"},
}
PAIR = base64.b64encode(f"{TOKEN}:{PASSWORD}".encode()).decode()
SHAPES: dict[str, Callable[[str], str]] = {
    "as it is": lambda s: f"invalid token {s}!",
    "across the cut": lambda s: "x" * 190 + s,
    "quoted": lambda s: f"no {quote(s, safe='')} {quote(s)}",
    "in JSON": lambda s: json.dumps({"detail": f"{s}"}),
    "shouted": lambda s: s.upper(),
    "often": lambda s: s * 2000,
    "split": lambda s: f"{s}\n{s}\x00{s}",
}


def ask_of(sent: str, url: str) -> tuple[str, dict[str, Any]]:
    question = dict(SENT[sent])
    at = question.pop("at", None)
    return (at(url) if at else url), question


def demand_silence(error: BaseException | None) -> None:
    """No word of a secret anywhere in an error, nor in what it came from."""
    while error is not None:
        texts = [str(error), repr(error), *map(str, vars(error).values()), *traceback.format_exception(error)]
        for text, secret in itertools.product(texts, (TOKEN, TOKEN[:8], quote(TOKEN, safe=""), PASSWORD, PAIR[:12])):
            # The lines of a traceback are this file's own.
            assert secret.lower() not in text.lower() or 'File "' in text
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sent", SENT)
@pytest.mark.parametrize("status", [401, 500])
@pytest.mark.anyio
async def test_no_secret_that_a_server_repeats_gets_into_an_error(sent: str, shape: str, status: int) -> None:
    repeated = SHAPES[shape](f"{TOKEN} {TOKEN}:{PASSWORD} {PAIR}" if sent == "user" else TOKEN)
    async with served(always(repeated, status=status)) as url:
        at, question = ask_of(sent, f"{url}/now")
        error = await told(at, **question)
    assert str(status) in str(error)
    demand_silence(error)


@pytest.mark.parametrize(
    "where",
    [
        "http://{secret}.example/",
        "https://grid.example/{secret}",
        "/{secret}",
        "/x?token={secret}",
        "http://{secret}@x:y/",
    ],
)
@pytest.mark.parametrize("sent", SENT)
@pytest.mark.anyio
async def test_no_secret_in_a_redirect_gets_into_an_error(sent: str, where: str) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path == "/now" and "x" not in request.query:
            return web.Response(status=302, headers={"Location": where.format(secret=quote(TOKEN, safe=""))})
        return web.Response(status=401, text=f"no {TOKEN} {PASSWORD if sent in {'basic', 'user'} else ''}")

    async with served(answer) as url:
        at, question = ask_of(sent, f"{url}/now")
        error = await told(at, **question)
    assert str(error).startswith(f"{url}/now ")
    demand_silence(error)


@pytest.mark.parametrize("sent", SENT)
@pytest.mark.parametrize(
    "said", [b"", b"rubbish\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", b"HTTP/1.1 200 OK\r\nA"]
)
@pytest.mark.anyio
async def test_no_secret_gets_into_an_error_of_the_transport(sent: str, said: bytes) -> None:
    async with raw(saying(said)) as port:
        at, question = ask_of(sent, f"http://127.0.0.1:{port}/now")
        error = await told(at, **question)
    assert isinstance(error, SourceDownError)
    demand_silence(error)


@pytest.mark.parametrize("token", [f"{TOKEN}\n", f"{TOKEN}\r\nX: y", f"\x00{TOKEN}"])
@pytest.mark.anyio
async def test_a_token_that_cannot_be_sent_is_told_without_it(token: str) -> None:
    async with served(always("{}")) as url:
        error = await told(url, headers={"auth-token": token})
    assert "cannot be sent" in str(error)
    demand_silence(error)


def test_what_cannot_be_a_secret_stays_readable() -> None:
    sent = Sent("https://grid.example/co2?country=de", {"hours": "24"}, {"auth-token": TOKEN})
    assert sent.quoted(f"no country de in 24 hours for {TOKEN}".encode()) == "no country de in 24 hours for ..."
    assert not sent.is_in(ValueError("other"))
    inner = ValueError(TOKEN)
    outer = OSError("x")
    outer.__cause__ = inner
    assert sent.is_in(outer)


@pytest.mark.parametrize(
    "url", [f"https://{USER}:{PASSWORD}@h:5/p?q={TOKEN}#f", f"https://me:{PASSWORD}/x@h/", "http://["]
)
def test_a_url_is_shown_without_secrets_whatever_it_is(url: str) -> None:
    for text in (shown(url), repr(Access(url=url, token=TOKEN))):
        assert PASSWORD not in text
        assert TOKEN not in text
    assert shown(f"https://me:{PASSWORD}@h:5/p?q=1") == "https://h:5/p"


@pytest.mark.parametrize(
    "url", [f"https://me:{PASSWORD}/x@h/", "https://h:99999", "https://h:x", "http://[", "h", "ftp://h"]
)
def test_a_base_url_that_is_none_is_refused_with_the_variables_name(url: str) -> None:
    with pytest.raises(SourceRefusedError, match="AIOCARBON_THIS_URL holds no URL") as caught:
        access_of("this", "https://own.example", {"AIOCARBON_THIS_URL": url})
    assert PASSWORD not in str(caught.value)
    assert "AIOCARBON_THIS_URL" in caught.value.remedy


# -- silence ---------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_server_that_never_answers_is_given_up() -> None:
    over = asyncio.Event()
    async with raw(saying(then=over.wait)) as port:
        error = await told(f"http://127.0.0.1:{port}/now", limit_s=0.05)
        assert not over.is_set()
    assert isinstance(error, SourceDownError)
    assert str(error) == f"http://127.0.0.1:{port}/now did not answer within 0.05 s"
    assert error.status is None


@pytest.mark.anyio
async def test_a_server_that_drips_is_given_up() -> None:
    drops = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal drops
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n[")
        while True:
            writer.write(b" ")
            await writer.drain()
            drops += 1
            await asyncio.sleep(0.005)  # each drop in far less than any limit of one read

    async with raw(talk) as port:
        error = await told(f"http://127.0.0.1:{port}/", limit_s=0.2)
    assert "did not answer within" in str(error)
    assert drops > 1


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[1, 2",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[1,\r\n",
    ],
)
@pytest.mark.anyio
async def test_a_server_that_closes_too_soon_is_down(said: bytes) -> None:
    async with raw(saying(said)) as port:
        error = await told(f"http://127.0.0.1:{port}/")
    assert isinstance(error, SourceDownError)
    assert "closed the connection" in str(error)


@pytest.mark.parametrize(
    "said", [b"SSH-2.0-server\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"y" * 99999 + b"\r\n\r\n", b"\0" * 99]
)
@pytest.mark.anyio
async def test_what_is_no_http_is_down(said: bytes) -> None:
    async with raw(saying(said)) as port:
        error = await told(f"http://127.0.0.1:{port}/")
    assert isinstance(error, SourceDownError)
    assert "no HTTP" in str(error)


@pytest.mark.anyio
async def test_a_port_where_nobody_listens_is_told_with_the_systems_word() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        error = await told(f"http://127.0.0.1:{port}/now")
    assert isinstance(error, SourceDownError)
    assert str(error).startswith(f"http://127.0.0.1:{port}/now cannot be reached: ")
    assert "refused" in str(error) or "Connect call failed" in str(error)


@pytest.mark.anyio
async def test_who_waits_for_an_answer_can_be_cancelled() -> None:
    over = asyncio.Event()
    async with raw(saying(then=over.wait)) as port, a_client() as client:
        with anyio.move_on_after(0.05) as scope:
            await client.json(f"http://127.0.0.1:{port}/", source="test")
        assert scope.cancelled_caught


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_name_that_there_is_not_is_told() -> None:
    error = await told("https://host.invalid/now")
    assert isinstance(error, SourceDownError)
    assert "https://host.invalid/now" in str(error)

    async def worker(function: Callable[..., Any], *args: Any) -> Any:
        if function.__name__ == "_looked_up":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return await blocking(function, *args)

    async with a_client(worker) as client:
        error = await told("https://grid.example/now", client=client)
    assert str(error) == "https://grid.example/now cannot be reached: Name or service not known"


@pytest.mark.parametrize("hanging", ["_looked_up", "_proxy_of"])
@pytest.mark.anyio
async def test_a_lookup_that_never_ends_holds_neither_the_question_nor_the_end(hanging: str) -> None:
    begun = []

    async def worker(function: Callable[..., Any], *args: Any) -> Any:
        if function.__name__ == hanging:
            begun.append(args)
            await anyio.sleep_forever()
        return await blocking(function, *args)

    async with a_client(worker) as client:
        error = await told("https://grid.example/", client=client, limit_s=0.05)
        assert "did not answer within 0.05 s" in str(error)
    assert begun


@pytest.mark.parametrize("hanging", ["_load", "decoded"])
@pytest.mark.anyio
async def test_workers_that_are_never_free_are_not_waited_for(hanging: str) -> None:
    async def worker(function: Callable[..., Any], *args: Any) -> Any:
        if function.__name__ == hanging:
            await anyio.sleep_forever()
        return await blocking(function, *args)

    async with served(always("{}")) as url, a_client(worker, load_limit_s=0.05) as client:
        error = await told(url, client=client)
    assert str(error) == "no worker was free within 0.05 s"
    assert isinstance(error, SourceDownError)


@pytest.mark.anyio
async def test_names_are_looked_up_by_the_workers_handed_in_and_never_by_the_loops_own() -> None:
    class Refusing(ThreadPoolExecutor):
        def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
            raise AssertionError("the loop's own executor is joined at exit, however long a lookup hangs")

    worked = []

    async def worker(function: Callable[..., Any], *args: Any) -> Any:
        worked.append(function.__name__)
        return await blocking(function, *args)

    asyncio.get_running_loop().set_default_executor(Refusing())
    async with served(always("7")) as url, a_client(worker, proxies=None) as client:
        assert await client.json(url.replace("127.0.0.1", "localhost"), source="test") == 7
    assert "_looked_up" in worked


# -- proxies ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def a_proxy(status: bytes = b"200 OK", *, to: int | None = None) -> AsyncIterator[tuple[str, list[str]]]:
    """A proxy for CONNECT: its URL, and the heads of what it was asked; all names lead to one local port."""
    heads: list[str] = []

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 " + status + b"\r\n\r\n")
        await writer.drain()
        if to is not None:
            target = await asyncio.open_connection("127.0.0.1", to)
            async with anyio.create_task_group() as group:
                group.start_soon(carry, reader, target[1])
                await carry(target[0], writer)
                group.cancel_scope.cancel()
            target[1].close()

    async with raw(talk) as port:
        yield f"http://127.0.0.1:{port}", heads


@pytest.mark.parametrize("scheme", ["https", "all"])
@pytest.mark.anyio
async def test_a_proxy_is_asked_with_its_password_which_nobody_is_told(scheme: str) -> None:
    async with a_proxy(b"407 Proxy Authentication Required") as (proxy, heads):
        access = proxy.replace("://", f"://{USER}:{PASSWORD}@")
        async with a_client(proxies=lambda: {scheme: access}) as client:
            error = await told("https://grid.example/now", client=client, headers={"auth-token": TOKEN})
    assert heads[0].startswith("CONNECT grid.example:443 HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic bWU6cHcx" in heads[0]
    assert TOKEN not in heads[0]
    assert isinstance(error, SourceDownError)
    assert str(error) == f"https://grid.example/now cannot be reached: the proxy answered 407 (by the proxy {proxy})"
    demand_silence(error)


@pytest.mark.anyio
async def test_a_proxy_without_a_scheme_is_one_of_http() -> None:
    async with a_proxy(b"502 Bad Gateway") as (proxy, heads):
        async with a_client(proxies=lambda: {"https": urlsplit(proxy).netloc}) as client:
            assert "the proxy answered 502" in str(await told("https://grid.example/", client=client))
    assert len(heads) == 1


@pytest.mark.parametrize(
    ("no", "direct"),
    [("*", False), ("grid.example", False), (".example", False), ("x.org, example", False), ("", True)],
)
@pytest.mark.anyio
async def test_a_proxy_is_passed_by_where_the_user_or_the_question_says_so(no: str, direct: bool) -> None:
    names = []

    async def worker(function: Callable[..., Any], *args: Any) -> Any:
        if function.__name__ == "_looked_up":
            names.append(args[0])
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return await blocking(function, *args)

    async with a_proxy() as (proxy, heads):
        async with a_client(worker, proxies=lambda: {"https": proxy, "no": no}) as client:
            error = await told("https://grid.example/", client=client, direct=direct)
    assert names == ["grid.example"]
    assert heads == []
    assert "proxy" not in str(error)


@pytest.mark.anyio
async def test_this_machine_is_asked_past_any_proxy() -> None:
    async with a_proxy() as (proxy, heads), served(always("7")) as url:
        async with a_client(proxies=lambda: {"http": proxy, "all": proxy}) as client:
            assert await client.json(url, source="test") == 7
    assert heads == []


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "socks4a://me:pw1@127.0.0.1:9"])
@pytest.mark.anyio
async def test_a_proxy_of_another_kind_is_told_with_a_remedy_and_not_passed_by(proxy: str) -> None:
    async with a_client(proxies=lambda: {"all": proxy}) as client:
        error = await told("https://grid.example/", client=client)
    assert isinstance(error, SourceRefusedError)
    assert "127.0.0.1:9 is none of HTTP" in str(error)
    assert "NO_PROXY=grid.example" in error.remedy
    demand_silence(error)


@pytest.mark.anyio
async def test_a_proxy_that_is_away_is_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{free.getsockname()[1]}"
        async with a_client(proxies=lambda: {"https": proxy}) as client:
            error = await told("https://grid.example/", client=client)
    assert isinstance(error, SourceDownError)
    assert f"(by the proxy {proxy})" in str(error)


@pytest.mark.parametrize(
    ("environ", "is_asked"),
    [
        ({}, True),
        ({"NO_PROXY": "grid.example"}, False),
        ({"no_proxy": "example"}, False),
        ({"NO_PROXY": "other.org"}, True),
    ],
)
@pytest.mark.anyio
async def test_the_environment_says_which_proxy(environ: dict[str, str], is_asked: bool, tmp_path: Path) -> None:
    async with a_proxy(b"502 Bad Gateway") as (proxy, heads):
        said = await in_child("https://grid.example/now", None, tmp_path, HTTPS_PROXY=proxy, **environ)
    assert said.startswith("SourceDownError: https://grid.example/now ")
    assert bool(heads) is is_asked
    assert ("the proxy answered 502" in said) is is_asked


# -- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate that its own key signed, for 127.0.0.1 and grid.example; and the key."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    paths = (folder / "cert.pem", folder / "key.pem")
    names = "subjectAltName=DNS:grid.example,IP:127.0.0.1"
    req = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    made = subprocess.run(
        ["openssl", *req, "-subj", "/CN=test", "-addext", names, "-out", str(paths[0]), "-keyout", str(paths[1])],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"openssl cannot make a certificate: {made.stderr.decode()[-200:]}")
    return paths


def context_of(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


CHILD = """
import sys
import anyio
from aiocarbon.errors import IntensityError
from aiocarbon.intensity.client import Client

async def blocking(function, *args):
    return await anyio.to_thread.run_sync(function, *args)

async def main():
    client = Client(blocking)
    try:
        print(await client.json(sys.argv[1], source="test"))
    except IntensityError as error:
        print(f"{type(error).__name__}: {error} | {error.remedy}")
    await client.aclose()

anyio.run(main)
"""


async def in_child(url: str, trusted: Path | None, folder: Path, **environ: str) -> str:
    """What a process says that trusts a certificate: what is trusted is read once, when a process begins to ask."""
    plain = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")} | {"PYTHONPATH": ROOT}
    trust = {} if trusted is None else {"SSL_CERT_FILE": str(trusted)}
    done = await anyio.run_process(
        [sys.executable, "-c", CHILD, url], cwd=folder, env=plain | trust | environ, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


@pytest.mark.anyio
async def test_a_server_that_nobody_vouches_for_is_not_asked(certificate: tuple[Path, Path]) -> None:
    asked = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        return web.Response(text="7")

    async with served(answer, tls=context_of(certificate)) as url:
        error = await told(f"{url}/now", headers={"auth-token": TOKEN})
    assert asked == []
    assert isinstance(error, SourceDownError)
    assert f"{url}/now cannot be reached: its certificate is not trusted (self" in str(error)
    assert "SSL_CERT_FILE" in error.remedy


@pytest.mark.anyio
async def test_a_server_that_is_vouched_for_is_asked_but_not_by_another_name(
    certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    async with served(always("7"), tls=context_of(certificate)) as url:
        assert await in_child(url, certificate[0], tmp_path) == "7"
        said = await in_child(url.replace("127.0.0.1", "localhost"), certificate[0], tmp_path)
    assert "certificate is not trusted" in said
    assert "localhost" in said


@pytest.mark.anyio
async def test_a_proxy_carries_what_it_cannot_read(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    async with served(always("7"), tls=context_of(certificate)) as url:
        async with a_proxy(to=urlsplit(url).port) as (proxy, heads):
            assert await in_child("https://grid.example/now", certificate[0], tmp_path, https_proxy=proxy) == "7"
    assert [head.split("\r\n")[0] for head in heads] == ["CONNECT grid.example:443 HTTP/1.1"]


# -- the end ---------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_closing_twice_and_before_anything_was_asked_is_fine() -> None:
    client = Client(blocking, proxies=dict)
    await client.aclose()
    async with served(always("7")) as url:
        assert await client.json(url, source="test") == 7
        await client.aclose()
        await client.aclose()
        assert await client.json(url, source="test") == 7
        await client.aclose()


@pytest.mark.anyio
async def test_many_questions_at_once_share_one_session() -> None:
    loads = []

    async def worker(function: Callable[..., Any], *args: Any) -> Any:
        loads.append(function.__name__)
        return await blocking(function, *args)

    answers = []
    async with served(always("7")) as url, a_client(worker) as client:

        async def ask() -> None:
            answers.append(await client.json(url, source="test"))

        async with anyio.create_task_group() as group:
            for _ in range(30):
                group.start_soon(ask)
    assert answers == [7] * 30

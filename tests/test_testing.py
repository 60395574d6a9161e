"""The server of `aiocarbon.testing`: what it answers, what it keeps, and that it ends whatever waits for it."""

from __future__ import annotations

import anyio
import pytest
from aiohttp import web

from aiocarbon.errors import BadAnswerError, SourceDownError, SourceRefusedError
from aiocarbon.intensity.sources import REGISTRY
from aiocarbon.testing import LocalServer, environ_at

pytestmark = pytest.mark.anyio


async def test_nobody_answers_before_and_after() -> None:
    server = LocalServer({"/": 1.5})
    assert server.url == ""
    async with server:
        assert await server.client.json(f"{server.url}/", source="it") == 1.5
    with pytest.raises(SourceDownError, match="cannot be reached"):
        await server.client.json(f"{server.url}/", source="it")
    await server.client.aclose()
    assert server.paths == ["/"]


async def test_each_kind_of_answer() -> None:
    async def later(request: web.Request) -> object:
        await anyio.lowlevel.checkpoint()
        return {"asked": request.query["zone"]}

    answers = {
        "/json": {"g": [1, None]},
        "/true": True,
        "/text": '{"g":\n2}',
        "/bytes": b"\xff",
        "/status": 503,
        "/response": web.Response(text="no", status=401),
        "/function": lambda request: request.path,
        "/later": later,
    }
    async with LocalServer(answers) as server:
        ask, at = server.client.json, server.url
        assert await ask(f"{at}/json", source="it") == {"g": [1, None]}
        assert await ask(f"{at}/true", source="it") is True
        assert await ask(f"{at}/text", source="it") == {"g": 2}
        with pytest.raises(BadAnswerError):
            await ask(f"{at}/bytes", source="it")
        with pytest.raises(SourceDownError, match="answered 503"):
            await ask(f"{at}/status", source="it")
        with pytest.raises(SourceRefusedError, match="answered 401: no"):
            await ask(f"{at}/response", source="it")
        with pytest.raises(BadAnswerError):  # a function's text is sent as it is too
            await ask(f"{at}/function", source="it")
        assert await ask(f"{at}/later", source="it", params={"zone": "D K"}, headers={"X-Key": "k"}) == {"asked": "D K"}
    assert server.asked[-2:] == [("/function", {}), ("/later", {"zone": "D K"})]
    assert (server.headers[-2].get("x-key"), server.headers[-1]["x-key"]) == (None, "k")
    assert server.sent == [b'{"g":[1,null]}', b"true", b'{"g":\n2}', b"\xff", b"/function", b'{"asked":"D K"}']


@pytest.mark.parametrize(
    ("path", "said"), [("/a", 1.0), ("/a/", 2.0), ("/a/x", 2.0), ("/a/b/x", 3.0), ("/ab", None), ("/", None)]
)
async def test_the_nearest_path_answers_and_else_none_does(path: str, said: float | None) -> None:
    async with LocalServer({"/a/": 2.0, "/a/b/": 3.0, "/a": 1.0}) as server:
        if said is None:
            with pytest.raises(SourceRefusedError, match="answered 404"):
                await server.client.json(server.url + path, source="it")
        else:
            assert await server.client.json(server.url + path, source="it") == said
        server.answers = {"/": "7"}
        assert await server.client.json(server.url + path, source="it") == 7


async def test_a_status_for_all_that_is_said() -> None:
    async with LocalServer({"/text": "busy"}, status=429) as server:
        with pytest.raises(SourceDownError, match="answered 429: busy"):
            await server.client.json(f"{server.url}/text", source="it")
        with pytest.raises(SourceRefusedError, match="answered 404"):
            await server.client.json(f"{server.url}/else", source="it")


async def test_its_end_ends_an_answer_that_never_comes() -> None:
    reached, cut_off = anyio.Event(), anyio.Event()

    async def never(_: web.Request) -> None:
        reached.set()
        try:
            await anyio.sleep_forever()
        finally:
            cut_off.set()

    async def ask(server: LocalServer) -> None:
        with pytest.raises(SourceDownError):
            await server.client.json(f"{server.url}/", source="it")

    async with anyio.create_task_group() as group:
        async with LocalServer({"/": never}) as server:
            group.start_soon(ask, server)
            await reached.wait()
    assert cut_off.is_set()


async def test_a_question_that_was_given_up_leaves_nothing_open() -> None:
    async def never(_: web.Request) -> None:
        await anyio.sleep_forever()

    async with LocalServer({"/": never}) as server:
        with pytest.raises(SourceDownError, match=r"did not answer within 0\.05 s"):
            await server.client.json(f"{server.url}/", source="it", limit_s=0.05)
    assert server.paths == ["/"]


def test_its_environment_leads_every_source_and_every_service_of_the_place_to_it() -> None:
    environ = environ_at("http://127.0.0.1:1")
    assert {f"AIOCARBON_{name.upper()}_URL" for name in REGISTRY} < set(environ)
    assert {f"AIOCARBON_{name}_URL" for name in ("GEOJS", "IPINFO", "AWS", "GCP", "AZURE")} < set(environ)
    assert set(environ.values()) == {"http://127.0.0.1:1"}
    assert LocalServer().environ.keys() == environ.keys()

"""The engine's thread: what a verb throws, whose context it runs in, and what is left when it ends."""

from __future__ import annotations

import asyncio
import contextvars
from concurrent.futures import Future
from typing import Any

import pytest

from aiocarbon._engine import host as hosts
from aiocarbon.errors import EngineError, JournalError

var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="nobody's")


def test_a_foreign_error_of_a_verb_becomes_ours_and_the_engine_goes_on() -> None:
    host = hosts.lease()
    try:

        async def foreign(engine: Any) -> None:
            raise ZeroDivisionError("inside")

        async def ours(engine: Any) -> None:
            raise JournalError("full")

        async def fine(engine: Any) -> str:
            return "fine"

        with pytest.raises(EngineError, match="inside") as seen:
            host.call(foreign).result(30)
        assert isinstance(seen.value.__cause__, ZeroDivisionError)
        with pytest.raises(JournalError, match="full"):
            host.call(ours).result(30)
        assert host.call(fine).result(30) == "fine"
        assert not host.is_dead
    finally:
        hosts.release(host)


def test_no_context_variable_of_the_caller_reaches_the_engine() -> None:
    async def seen(engine: Any) -> str:
        return var.get()

    token = var.set("the training's")
    host = hosts.lease()
    try:
        first = host.call(seen).result(30)  # one that came before the loop ran, perhaps
        assert (first, host.call(seen).result(30)) == ("nobody's", "nobody's")
    finally:
        hosts.release(host)
        var.reset(token)


def test_leases_share_one_engine_and_the_last_one_ends_it() -> None:
    first, second = hosts.lease(), hosts.lease()
    assert first is second

    async def fine(engine: Any) -> bool:
        return True

    hosts.release(first)
    assert second.call(fine).result(30)
    hosts.release(second)
    second.join()
    with pytest.raises(EngineError):
        second.call(fine).result(30)
    third = hosts.lease()
    try:
        assert third is not second
        assert third.call(fine).result(30)
    finally:
        hosts.release(third)


def test_verbs_that_come_while_the_engine_ends_keep_it_from_nothing() -> None:
    async def nothing(engine: Any) -> None:
        return None

    async def loop_of(engine: Any) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    host = hosts.lease()
    loop = host.call(loop_of).result(30)
    asked: list[Future[None]] = []

    def ask() -> None:  # at each turn of its loop, the last ones included
        asked.append(host.call(nothing))
        loop.call_soon(ask)

    loop.call_soon_threadsafe(ask)
    while len(asked) < 10:
        pass
    hosts.release(host)
    host._thread.join(30)
    assert host.is_dead
    with pytest.raises(EngineError, match=r"died|dead"):
        asked[-1].result(0)

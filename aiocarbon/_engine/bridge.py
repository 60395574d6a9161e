"""Waiting in the user's loop, on asyncio, uvloop and trio: for an answer of the engine above all.

The answer crosses by `loop.call_soon_threadsafe` or `TrioToken.run_sync_soon`; nothing of the user's loop is touched
by the engine's thread in any other way. anyio is used only where the engine has loaded it already, since its import
would stall the user's loop.
"""

from __future__ import annotations

import math
import sys
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")
TOO_LATE = "the engine did not answer within {:g} s"


async def answer(future: Future[T], limit_s: float | None) -> T:
    """Await a future of the engine in whatever loop runs here.

    Args:
        future: The engine's future.
        limit_s: Longest wait, seconds; None: no limit.

    Raises:
        TimeoutError: It did not come in time.
        Exception: What the future failed with.
    """
    if not future.done():
        if _is_trio():
            await _on_trio(future, limit_s)
        else:
            await _on_asyncio(future, limit_s)
    if not future.done():
        raise TimeoutError(TOO_LATE.format(limit_s))
    return future.result()


def _is_trio() -> bool:
    trio = sys.modules.get("trio")
    if trio is None:
        return False
    try:
        trio.lowlevel.current_trio_token()
    except RuntimeError:
        return False
    return True


async def sleep(seconds: float) -> None:
    """Sleep in the running loop."""
    if _is_trio():
        import trio

        await trio.sleep(seconds)
    else:
        import asyncio

        await asyncio.sleep(seconds)


def shield() -> AbstractContextManager[object]:
    """A scope in the running loop in which awaiting goes on although the task was cancelled."""
    if _is_trio():
        import trio

        return trio.CancelScope(shield=True)
    import anyio

    return anyio.CancelScope(shield=True)


async def _on_asyncio(future: Future[Any], limit_s: float | None) -> None:
    import asyncio

    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def wake() -> None:
        if not done.done():
            done.set_result(None)

    def tell(_: Future[Any]) -> None:
        try:
            loop.call_soon_threadsafe(wake)
        except RuntimeError:
            return  # the user's loop closed while the answer was on its way

    future.add_done_callback(tell)
    timer = None if limit_s is None else loop.call_later(limit_s, wake)
    try:
        await done
    finally:
        if timer is not None:
            timer.cancel()


async def _on_trio(future: Future[Any], limit_s: float | None) -> None:
    import trio

    token = trio.lowlevel.current_trio_token()
    done = trio.Event()

    def tell(_: Future[Any]) -> None:
        try:
            token.run_sync_soon(done.set)
        except trio.RunFinishedError:
            return

    future.add_done_callback(tell)
    with trio.move_on_after(math.inf if limit_s is None else limit_s):
        await done.wait()


def block(future: Future[T], limit_s: float) -> T:
    """Wait for a future of the engine in a thread without a loop.

    Raises:
        TimeoutError: It did not come in time.
        Exception: What the future failed with.
    """
    from concurrent.futures import CancelledError

    try:
        return future.result(limit_s)
    except CancelledError as error:
        raise TimeoutError("the engine's answer was cancelled") from error
    except TimeoutError:
        if future.done():
            raise
        raise TimeoutError(TOO_LATE.format(limit_s)) from None

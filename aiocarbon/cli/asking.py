"""How a command has the engine do something and waits for it, shortly."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from aiocarbon.errors import EngineError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from aiocarbon._engine.engine import Engine

__all__ = ["ask_engine"]

T = TypeVar("T")


def ask_engine(verb: Callable[[Engine], Awaitable[T]], limit_s: float) -> T:
    """What a verb of the engine gives.

    Args:
        verb: Called on the engine's loop.
        limit_s: Longest wait, seconds, with some patience for a busy machine.

    Raises:
        EngineError: The engine could not begin, or did not answer in time.
    """
    from aiocarbon._engine import host as hosts

    host = hosts.lease()
    try:
        future: Future[T] = host.call(verb)
        return future.result(limit_s)
    except TimeoutError as error:
        raise EngineError(f"the engine did not answer within {limit_s:g} s") from error
    finally:
        hosts.release(host)

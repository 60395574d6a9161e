"""The daemon thread `aiocarbon-engine` and its lease; the only file that starts a thread.

Guarantees: one engine a process, begun with the first lease and ended with the last; its death fails every call that
waits, once, with `EngineError`; after `fork` the child knows of no engine. Nothing happens at import.
"""

from __future__ import annotations

import atexit
import contextvars
import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from aiocarbon._logging import get_logger, why
from aiocarbon.errors import AiocarbonError, EngineError

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future

    from aiocarbon._engine.engine import Engine

T = TypeVar("T")
log = get_logger("host")

THREAD_NAME = "aiocarbon-engine"
JOIN_S = 0.5

Verb = Callable[["Engine"], Awaitable[Any]]


class Host:
    """One engine in its thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal's handler may use the tracker amid a call
        self._loop: asyncio.AbstractEventLoop | None = None
        self._engine: Engine | None = None
        self._early: deque[tuple[Verb, Future[Any]]] = deque()
        self._pending: set[Future[Any]] = set()
        self.is_dead = False
        self.leases = 0
        self._thread = threading.Thread(target=self._main, name=THREAD_NAME, daemon=True)
        self._thread.start()

    def call(self, verb: Verb) -> Future[Any]:
        """Run a coroutine function of the engine on its loop; waits for nothing.

        Returns:
            A future of its result; failed with `EngineError` if the engine is dead or dies before it answers.
        """
        from concurrent.futures import Future

        future: Future[Any] = Future()
        with self._lock:
            if self.is_dead:
                future.set_exception(EngineError("the engine is dead"))
                return future
            self._pending.add(future)
            future.add_done_callback(self._pending.discard)
            if self._loop is None:
                self._early.append((verb, future))
            else:
                try:
                    self._loop.call_soon_threadsafe(self._start, verb, future, context=self._context)
                except RuntimeError:  # the loop closed in between: whoever calls, as a span's edge, is the user's code
                    future.set_exception(EngineError("the engine is dead"))
        return future

    async def _answer(self, verb: Verb, future: Future[Any]) -> None:
        assert self._engine is not None
        try:
            result = await verb(self._engine)
        except AiocarbonError as error:
            # An error of one verb is its caller's; the engine goes on for the others.
            _settle(future, error=error)
        except Exception as error:
            # A foreign one must not reach the training as it is: it would not be taken for the instrument's.
            failure = EngineError(f"the engine failed at a verb: {type(error).__name__}: {error}")
            failure.__cause__ = error
            _settle(future, error=failure)
        else:
            _settle(future, result=result)

    def _main(self) -> None:
        try:
            from aiocarbon._forks import FORKS

            with FORKS.kept_off():
                import anyio

                import aiocarbon._engine.alone  # noqa: F401  # for where it dies, perhaps as no file can be opened
                from aiocarbon._engine.engine import Engine

            engine = Engine()
            anyio.run(self._run, engine)
        except BaseException as error:
            # The engine's death must not print a traceback into the training's output; it is logged once.
            self._die(error)
        else:
            self._die(None)

    async def _run(self, engine: Engine) -> None:
        import asyncio

        # asyncio's own handler prints into the training's output.
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: log.debug("engine.loop", why=str(context.get("exception") or context.get("message")))
        )

        def started() -> None:
            with self._lock:
                self._engine = engine
                self._loop = asyncio.get_running_loop()
                # Calls run in the engine's own context: a loop that anyio knows, and none of the caller's variables.
                self._context = contextvars.copy_context()
                for verb, future in self._early:
                    self._start(verb, future)
                self._early.clear()

        await engine.run(started)

    def _start(self, verb: Verb, future: Future[Any]) -> None:
        """Start a call that came from another thread as a task of the engine's group."""
        assert self._engine is not None
        # One that ends answers nothing any more, which `_die` tells. What is begun in a group whose tasks have all been
        # cancelled would not be: it keeps the loop spinning, and the engine from its end, for ever (anyio 4.16).
        if not self._engine.group.cancel_scope.cancel_called:
            self._engine.group.start_soon(self._answer, verb, future)

    def _die(self, error: BaseException | None) -> None:
        with self._lock:
            self.is_dead = True
            self._loop = None
            pending = list(self._pending)
        if error is not None:
            log.error("engine.dead", why=why(error))
        for future in pending:
            _settle(future, error=EngineError(f"the engine died: {why(error)}"))

    def stop(self) -> None:
        """Let the engine end; waits for its thread only shortly."""
        with self._lock:
            loop, engine = self._loop, self._engine
        if loop is not None and engine is not None:
            try:
                loop.call_soon_threadsafe(engine.stop)
            except RuntimeError:
                return  # the loop closed in between

    def join(self) -> None:
        """Wait for the thread, shortly."""
        self._thread.join(JOIN_S)


def _settle(future: Future[Any], *, result: Any = None, error: BaseException | None = None) -> None:
    from concurrent.futures import InvalidStateError

    try:
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)
    except InvalidStateError:
        pass  # cancelled by the one who waited: nobody listens any more


_lock = threading.Lock()
_host: Host | None = None
_is_registered = False


def lease() -> Host:
    """The process's engine, begun if there is none; give it back with `release`.

    Raises:
        EngineError: No thread can be started.
    """
    global _host, _is_registered
    with _lock:
        if not _is_registered:
            _is_registered = True
            atexit.register(_at_exit)
            if hasattr(os, "register_at_fork"):
                # It takes its lock before a fork, and imports may wait for that: what registers later is called first.
                import logging  # noqa: F401

                from aiocarbon._forks import FORKS

                os.register_at_fork(before=FORKS.wait, after_in_parent=FORKS.over, after_in_child=FORKS.renew)
                os.register_at_fork(after_in_child=_forget)
        if _host is None or _host.is_dead:
            try:
                _host = Host()
            except RuntimeError as error:  # the container or the user has as many as are allowed
                raise EngineError(f"no thread can be started for the engine: {error}") from error
        _host.leases += 1
        return _host


def release(host: Host) -> None:
    """Give a lease back; the last one ends the engine."""
    global _host
    with _lock:
        host.leases -= 1
        if host.leases > 0:
            return
        if _host is host:
            _host = None
    host.stop()


def _at_exit() -> None:
    """End the runs that nobody ended, with their reports and journals, and the engine."""
    with _lock:
        host = _host
    if host is not None and not host.is_dead:
        try:
            host.call(lambda engine: engine.close_all()).result(2 * JOIN_S)
        except (EngineError, TimeoutError):
            log.debug("engine.exit")
        host.stop()
        host.join()


def _forget() -> None:
    """In a forked child: there is no engine, and none of the parent's locks is ours."""
    global _host, _lock
    _host = None
    _lock = threading.Lock()

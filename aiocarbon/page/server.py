"""The page, live: a small server on this machine alone, which tells its pages over server-sent events what has changed.

Guarantees: it listens on the loopback address and nowhere else; it answers only to its own names, so that no site can
reach it by pointing a name of its own at this machine (DNS rebinding), and to no request that another site makes; it
opens no file by a name that anybody sends, since runs have numbers; it writes nothing.
"""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio import to_thread

from aiocarbon._logging import get_logger
from aiocarbon.errors import AiocarbonError
from aiocarbon.page.follow import Follower
from aiocarbon.page.html import shell

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["ADDRESS", "serve"]

ADDRESS: Final = "127.0.0.1"
EVERY_S: Final = 1.0
ALIVE_S: Final = 15.0
"""A comment goes out so often, by which a server notices that a page is gone."""

MOST_PAGES: Final = 32
END_S: Final = 0.2
HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "frame-ancestors 'none'",
}

log = get_logger("dash")


async def serve(folder: Path, port: int, started: Callable[[str], object], follower: Follower | None = None) -> None:
    """Serve until cancelled.

    Args:
        folder: Where journals are, or will be.
        port: Port on the loopback address; 0 for a free one.
        started: Called with the address once it is served.
        follower: What follows the folder.

    Raises:
        AiocarbonError: The port cannot be had.
    """
    from aiohttp import web

    dash = Dash(follower or Follower(folder))
    runner = web.AppRunner(dash.application(), access_log=None, handle_signals=False, shutdown_timeout=END_S)
    await runner.setup()
    try:
        site = web.TCPSite(runner, ADDRESS, port, reuse_address=sys.platform != "win32")
        try:
            await site.start()
        except OSError as error:
            raise _refused(port, error) from error
        dash.port = runner.addresses[0][1]
        started(f"http://{ADDRESS}:{dash.port}/")
        await dash.follow()
    finally:
        with anyio.move_on_after(2 * END_S, shield=True):
            await runner.cleanup()


def _refused(port: int, error: OSError) -> AiocarbonError:
    why = "something else listens there" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
    return AiocarbonError(
        f"port {port} of {ADDRESS} cannot be had: {why}. Give another with --port N; --port 0 takes a free one"
    )


class Dash:
    """The server's state and handlers.

    Args:
        follower: What follows the folder.

    Attributes:
        port: The port it is served at.
    """

    def __init__(self, follower: Follower) -> None:
        self.port = 0
        self._follower = follower
        self._lock = anyio.Lock()  # the follower is used by one thread at a time
        self._list = ""
        self._changed = anyio.Event()
        self._wanted = anyio.Event()
        self._pages = 0
        self._shell = ""
        self._has_ended = False

    def application(self) -> web.Application:
        """What answers."""
        from aiohttp import web

        @web.middleware
        async def guard(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            if why := self._refusal(request):
                return web.Response(status=403, text=why, headers=HEADERS)
            return await handler(request)

        application = web.Application(middlewares=[guard], client_max_size=1)
        application.on_shutdown.append(self._end)
        application.router.add_get("/", self._page)
        application.router.add_get("/events", self._events)
        application.router.add_get(r"/run/{number:\d{1,9}}", self._run)
        return application

    async def _end(self, application: web.Application) -> None:
        """Let the pages go, which else would hold the end."""
        self._has_ended = True
        self._changed.set()

    def _refusal(self, request: web.Request) -> str:
        """Why a request is not answered; empty if it is."""
        names = {f"{name}:{self.port}" for name in (ADDRESS, "localhost")}
        if request.headers.get("Host", "").lower() not in names:
            return f"this page is served to its own machine alone: open http://{ADDRESS}:{self.port}/"
        site = request.headers.get("Sec-Fetch-Site", "none")
        if request.path != "/" and site not in ("same-origin", "none"):
            return "this is no other site's business"
        return ""

    # -- following ---------------------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Look at the folder while anybody looks at the page."""
        while True:
            if not self._pages:
                await self._wanted.wait()
            is_more = await self._look()
            if not is_more:
                await anyio.sleep(EVERY_S)

    async def _look(self) -> bool:
        try:
            async with self._lock:
                is_more, found = await to_thread.run_sync(self._looked, abandon_on_cancel=True)
        except Exception as error:  # a journal of a kind that nobody thought of must not end the server
            log.warning("dash.look", why=f"{type(error).__name__}: {error}")
            return False
        text = json.dumps(found, separators=(",", ":"))
        if text != self._list:
            self._list = text
            self._changed.set()
            self._changed = anyio.Event()
        return is_more

    def _looked(self) -> tuple[bool, dict[str, Any]]:
        return self._follower.look(), self._follower.list()

    # -- answering ---------------------------------------------------------------------------------------------

    async def _page(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        if not self._shell:
            self._shell = await to_thread.run_sync(shell, abandon_on_cancel=True)
        return web.Response(text=self._shell, content_type="text/html", headers=HEADERS)

    async def _run(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        number = int(request.match_info["number"])
        async with self._lock:
            found = await to_thread.run_sync(self._follower.detail, number, abandon_on_cancel=True)
        if found is None:
            return web.Response(status=404, text="there is no such run any more", headers=HEADERS)
        return web.json_response(text=json.dumps(found, separators=(",", ":"), allow_nan=False), headers=HEADERS)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        if self._pages >= MOST_PAGES:
            return web.Response(status=503, text=f"{MOST_PAGES} pages are open already", headers=HEADERS)
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream"})
        await response.prepare(request)
        self._pages += 1
        self._wanted.set()
        try:
            told = ""
            while not self._has_ended:
                changed = self._changed
                if self._list and self._list != told:
                    told = self._list
                    await response.write(f"event: runs\ndata: {told}\n\n".encode())
                    continue
                with anyio.move_on_after(ALIVE_S) as scope:
                    await changed.wait()
                if scope.cancelled_caught:
                    await response.write(b": alive\n\n")
            return response
        except (ConnectionError, RuntimeError):
            return response  # the page was closed
        finally:
            self._pages -= 1
            if not self._pages:
                self._wanted = anyio.Event()

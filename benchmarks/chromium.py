"""A real Chromium, told what to do over its DevTools protocol: opens a page, reads it, takes pictures of it.

No driver is installed for it: the protocol is JSON over a web socket, which aiohttp speaks.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import aiohttp

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE_S: Final = 40.0
FLAGS: Final = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--disable-default-apps", "--no-default-browser-check", "--hide-scrollbars", "--remote-debugging-port=0",
)  # fmt: skip


def found() -> str:
    """The browser's path; empty where none is installed."""
    return next((path for name in NAMES if (path := shutil.which(name))), "")


class Page:
    """A tab.

    Attributes:
        errors: What it wrote to the console as an error, and what its scripts threw.
        requests: Addresses that it asked for, its own and data addresses left out.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._events: list[tuple[str, dict[str, Any]]] = []
        self._changed = asyncio.Event()
        self._url = ""

    async def listen(self) -> None:
        """Take what the browser says, until it is gone."""
        async for message in self._socket:
            told = message.json()
            if "id" in told:
                future = self._answers.pop(told["id"], None)
                if future is not None and not future.done():
                    future.set_result(told)
                continue
            self._take(told["method"], told["params"])
            self._changed.set()

    def _take(self, method: str, told: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            details = told["exceptionDetails"]
            self.errors.append(str(details.get("exception", {}).get("description") or details["text"]))
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.errors.append(" ".join(str(one.get("value", one.get("description"))) for one in told["args"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.errors.append(told["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            url = told["request"]["url"]
            if url != self._url and not url.startswith("data:"):
                self.requests.append(url)
        else:
            self._events.append((method, told))

    async def call(self, method: str, **told: Any) -> dict[str, Any]:
        """One command of the protocol, and its answer.

        Raises:
            RuntimeError: The browser refuses.
        """
        ident = next(self._numbers)
        future = self._answers[ident] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": ident, "method": method, "params": told})
        answer = await asyncio.wait_for(future, PATIENCE_S)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    async def event(self, name: str) -> None:
        """Wait for something to happen."""
        async with asyncio.timeout(PATIENCE_S):
            while not any(method == name for method, _ in self._events):
                self._changed.clear()
                await self._changed.wait()
        self._events.clear()

    async def open(self, url: str) -> None:
        """Open an address and wait until it is loaded and painted."""
        for part in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{part}.enable")
        self._url = url.partition("#")[0]
        self._events.clear()
        await self.call("Page.navigate", url=url)
        await self.event("Page.loadEventFired")
        await self.js("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    async def look(self, *, width: int, height: int = 900, dark: bool = False, phone: bool = False) -> None:
        """Have a screen of so many pixels, dark or light."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", media="", features=[scheme])

    async def js(self, expression: str) -> Any:
        """The value of an expression, awaited where it is a promise.

        Raises:
            RuntimeError: It threw.
        """
        answer = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    async def wait(self, condition: str) -> None:
        """Wait until an expression is true."""
        async with asyncio.timeout(PATIENCE_S):
            while not await self.js(f"Boolean({condition})"):
                await self.js("new Promise(done => setTimeout(done, 50))")

    async def shot(self, *, whole: bool = True) -> bytes:
        """A picture as PNG, of the whole page or of what the screen shows."""
        answer = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(answer["data"])

    async def pdf(self) -> bytes:
        """What is printed."""
        return base64.b64decode((await self.call("Page.printToPDF", printBackground=False))["data"])


@contextlib.asynccontextmanager
async def tab() -> AsyncIterator[Page]:
    """A tab of a browser of its own, which ends with it.

    Raises:
        RuntimeError: The browser did not start.
    """
    folder = tempfile.mkdtemp(prefix="chromium-")
    process = await asyncio.create_subprocess_exec(
        found(), *FLAGS, f"--user-data-dir={folder}", "about:blank",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        port = await _port(Path(folder) / "DevToolsActivePort", process)
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                target = next(one for one in await answer.json() if one["type"] == "page")
            async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=1 << 28) as socket:
                page = Page(socket)
                async with asyncio.TaskGroup() as group:
                    listening = group.create_task(page.listen())
                    try:
                        yield page
                    finally:
                        listening.cancel()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        await process.wait()
        shutil.rmtree(folder, ignore_errors=True)


async def _port(file: Path, process: asyncio.subprocess.Process) -> int:
    async with asyncio.timeout(PATIENCE_S):
        while process.returncode is None:
            with contextlib.suppress(OSError, ValueError, IndexError):
                return int(file.read_text().splitlines()[0])  # noqa: ASYNC240  # two lines, of a file on this machine
            await asyncio.sleep(0.02)
    raise RuntimeError(f"{found()} did not start")

"""What does a source of carbon intensity cost the training, however badly it answers? Stalls of the loop, and the end.

Each child runs two trackers, one after the other, against a server of its own process that answers in one way. In the
first, packages are imported (aiohttp among them); by the second they are there. A ticker in the user's loop sleeps 1 ms
again and again; how much later than asked it wakes is a stall. The same without packets (`offline`) is the control.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from benchmarks.progress import each
from benchmarks.result import ROOT, Row, at_most, child, has_loopback, info, skipped

NAME: Final = "grid"
QUESTION: Final = "for how long does a source, however it answers, stall the user's loop or hold the end of a run?"

SERVER: Final = """
import asyncio, json, sys, time
from datetime import UTC, datetime
from aiohttp import web

kind = sys.argv[1]

def stamp(at): return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%MZ")

def half_hours(n, value):
    now = time.time() // 1800 * 1800
    return {"data": [
        {"from": stamp(now + k * 1800), "to": stamp(now + (k + 1) * 1800),
         "intensity": {"forecast": value, "actual": value, "index": "moderate"}}
        for k in range(1 - n, 1)
    ]}

async def answer(request):
    if kind == "hangs":
        await asyncio.sleep(3600)
    if kind == "429":
        return web.json_response({"error": "slow down"}, status=429, headers={"Retry-After": "1"})
    if kind == "500":
        return web.Response(status=500, text="error")
    if kind == "HTML":
        return web.Response(text="<html><body>" + "<p>maintenance</p>" * 2000, content_type="text/html")
    if kind == "truncated":
        return web.Response(text=json.dumps(half_hours(600, 200))[:-40], content_type="application/json")
    if kind == "huge":
        return web.Response(text="[" + "1," * 5_000_000 + "1]", content_type="application/json")
    if kind == "nulls":
        return web.json_response(half_hours(48, None))
    if kind == "absurd":
        return web.json_response(half_hours(48, -1e30))
    if kind == "two weeks":
        return web.json_response(half_hours(672, 200))
    return web.json_response(half_hours(1, 200))

async def main():
    app = web.Application()
    app.router.add_get("/{rest:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""

CHILD: Final = """
import asyncio, json, sys, time

import aiocarbon

is_offline, seconds = sys.argv[1] == "offline", float(sys.argv[2])

class Ticker:
    def __init__(self):
        self.worst = 0.0
    async def run(self):
        while True:
            due = time.perf_counter() + 0.001
            await asyncio.sleep(0.001)
            self.worst = max(self.worst, (time.perf_counter() - due) * 1e3)
    def take(self):
        worst, self.worst = self.worst, 0.0
        return worst

async def main():
    ticker = Ticker()
    task = asyncio.create_task(ticker.run())
    heard = {}
    for turn in ("first", "later"):
        await asyncio.sleep(0.3)
        ticker.take()
        tracker = aiocarbon.Tracker(location="GB", meters="simulated:250", pue=1, offline=is_offline)
        async with tracker:
            await asyncio.sleep(seconds)
            began = time.perf_counter()
        heard[f"{turn} end"] = (time.perf_counter() - began) * 1e3
        heard[turn] = ticker.take()
    report = tracker.report()
    heard["used"] = [use.quality for use in report.intensity_sources]
    heard["warnings"] = len(report.warnings)
    task.cancel()
    return heard

print(json.dumps(asyncio.run(main())))
"""

KINDS: Final = (
    "answers", "two weeks", "hangs", "429", "500", "HTML", "truncated", "huge", "nulls", "absurd", "refuses",
    "swallows",
)  # fmt: skip
CONTROL: Final = "offline"
LIMIT_MS: Final = 3.0
IMPORT_LIMIT_MS: Final = 15.0
END_LIMIT_MS: Final = 2000.0 + 150.0 + 200.0
"""The final questions get 2 s, the last reading 150 ms, the journal and the threads the rest."""


def run(*, quick: bool) -> list[Row]:
    """Stalls and the end for each kind of answer, and without any packet."""
    if not has_loopback():
        return [skipped("longest stall by a source", "ms", "127.0.0.1 cannot be reached here: no source answers")]
    rounds, seconds = (1, "1") if quick else (5, "2")
    heard: dict[str, list[dict[str, Any]]] = {}
    for kind in each((CONTROL, *KINDS) * rounds):  # in turn, so that a slow moment of the machine meets all
        with serving(kind) as url:
            code = f"import os; os.environ.update({at_place(url)!r})\n{CHILD}"
            heard.setdefault(kind, []).append(child(code, kind, seconds))
    return [row for kind, runs in heard.items() for row in _rows(kind, runs)]


def at_place(url: str) -> dict[str, str]:
    """The environment in which the source of Great Britain is asked at a URL, each time."""
    return {"AIOCARBON_CARBONINTENSITY_GB_URL": url, "AIOCARBON_CACHE": "none"}


def _rows(kind: str, runs: list[dict[str, Any]]) -> Iterator[Row]:
    used = "used: " + ", ".join(dict.fromkeys(quality for heard in runs for quality in heard["used"]))
    ends = [max(heard["first end"], heard["later end"]) for heard in runs]
    first, later = ([heard[turn] for heard in runs] for turn in ("first", "later"))
    if kind == CONTROL:
        yield info("no packet: longest stall in the first run", *_middle(first))
        yield info("no packet: longest stall in a later run", *_middle(later))
        yield info("no packet: longest end", max(ends), "ms", used)
        return
    yield at_most(f"{kind}: longest stall in the first run", *_middle_under(first, IMPORT_LIMIT_MS))
    yield at_most(f"{kind}: longest stall in a later run", *_middle_under(later, LIMIT_MS))
    yield at_most(f"{kind}: longest end", max(ends), "ms", END_LIMIT_MS, used)


def _middle(values: list[float]) -> tuple[float, str, str]:
    """The median over processes of the longest stall in each."""
    middle = sorted(values)[len(values) // 2]
    return middle, "ms", f"median of {len(values)} processes, {min(values):.2f} to {max(values):.2f}"


def _middle_under(values: list[float], limit: float) -> tuple[float, str, float, str]:
    middle, unit, note = _middle(values)
    return middle, unit, limit, note


@contextmanager
def serving(kind: str) -> Iterator[str]:
    """The URL of a server that answers in one way, in a process of its own; or of what is none.

    Args:
        kind: One of `KINDS`. "refuses" has no server; "swallows" takes no packet: a full backlog drops who knocks.
    """
    if kind == "refuses":
        with socket.create_server(("127.0.0.1", 0)) as gone:
            port = gone.getsockname()[1]
        yield f"http://127.0.0.1:{port}"
        return
    if kind == "swallows":
        with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf, ExitStack() as knocking:
            for _ in range(3):
                caller = knocking.enter_context(socket.socket())
                caller.setblocking(False)
                caller.connect_ex(deaf.getsockname())
            yield f"http://127.0.0.1:{deaf.getsockname()[1]}"
        return
    server = subprocess.Popen([sys.executable, "-c", SERVER, kind], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
    finally:
        server.kill()
        server.wait()

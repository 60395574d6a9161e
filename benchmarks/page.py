"""How large is a day's page, how soon does it open in a real Chromium, and does it ask the network for anything?"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from aiocarbon.journal.read import gather, tell
from aiocarbon.page.html import page
from benchmarks import chromium
from benchmarks.made_runs import BEGIN_S, put
from benchmarks.result import Row, at_most, has_loopback, info, skipped

NAME: Final = "page"
QUESTION: Final = "how large is the page of a day's run, and how soon does it open?"

LIMIT_MB: Final = 6.0
OPEN_S: Final = 1.0
TIMES: Final = 11
MANY: Final = 200


def run(*, quick: bool) -> list[Row]:
    """All figures."""
    many = 10 if quick else MANY
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        put(folder / "day")
        for n in range(many):
            put(folder / "many", run_id=f"run-{n}", hours=1.0, epochs=12, begin_s=BEGIN_S + 7200 * n)
        rows = [_made(folder, "day", "24 h, 11 devices"), _made(folder, "many", f"{many} runs of an hour")]
        if not chromium.found():
            return [*rows, skipped("until a day's page is drawn whole", "s", "no Chromium is installed", OPEN_S)]
        if not has_loopback():
            why = "127.0.0.1 cannot be reached here, where Chromium listens"
            return [*rows, skipped("until a day's page is drawn whole", "s", why, OPEN_S)]
        return [*rows, *asyncio.run(_opened(folder, 3 if quick else TIMES))]


def _made(folder: Path, name: str, of: str) -> Row:
    begun = time.process_time()
    problems: list[str] = []
    processes = gather([folder / name], problems)
    text = page(tell(processes, problems), processes)
    took = time.process_time() - begun
    (folder / f"{name}.html").write_text(text, encoding="utf-8")
    size = (folder / f"{name}.html").stat().st_size
    return at_most(f"page of {of}", size / 1e6, "MB", LIMIT_MB, f"made in {took:.2f} s")


async def _opened(folder: Path, times: int) -> list[Row]:
    rows = []
    for name, of in (("day", "a day's page"), ("many", "the page of many runs")):
        async with chromium.tab() as tab:
            await tab.look(width=1280)
            found = [await _once(tab, (folder / f"{name}.html").as_uri()) for _ in range(times + 1)][1:]
            drawn = [one["drawn"] / 1e3 for one in found]
            note = f"of {times}, {min(drawn):.2f} to {max(drawn):.2f}, in a browser that runs"
            loaded = statistics.median(one["loaded"] for one in found) / 1e3
            rows += [
                at_most(f"until {of} is drawn whole", statistics.median(drawn), "s", OPEN_S, note),
                info(f"until {of} is loaded and its first charts are drawn", loaded, "s"),
                at_most(f"errors on the console of {of}", len(tab.errors), "", 0),
                at_most(f"requests of {of}", len(tab.requests), "", 0),
            ]
    return rows


async def _once(tab: chromium.Page, url: str) -> dict[str, Any]:
    """Milliseconds from the navigation on until the page was loaded, and until its last chart was drawn."""
    await tab.open(url)
    await tab.wait("waiting.length === 0")
    answer = await tab.js("""(() => {
        const loaded = performance.getEntriesByType("navigation")[0].loadEventEnd;
        const marks = performance.getEntriesByName("drawn").map(mark => mark.startTime);
        return JSON.stringify({ loaded, drawn: Math.max(loaded, ...marks) });
    })()""")
    found: dict[str, Any] = json.loads(answer)
    return found

"""The pages in a real Chromium: what a person sees, hears and prints of them, offline and live."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import struct
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from aiocarbon.journal.read import gather, tell
from aiocarbon.page.html import LIMIT, page
from aiocarbon.page.server import serve
from benchmarks import chromium
from benchmarks.made_runs import BEGIN_S, put

pytestmark = [
    pytest.mark.browser,
    pytest.mark.anyio,
    pytest.mark.skipif(not chromium.found(), reason="no Chromium is installed: apt-get install chromium"),
    pytest.mark.timeout(180),  # a browser's start on a machine that does other things too
]

DRAWN = "waiting.length === 0 && document.querySelectorAll('.chart canvas').length"
WILD = "</script><script>window.hit=1</script><img src=x onerror=window.hit=1>\"'&\u2028\n" + "x" * 10_000


def write(folder: Path, target: Path) -> str:
    problems: list[str] = []
    processes = gather([folder], problems)
    target.write_text(page(tell(processes, problems), processes), encoding="utf-8")
    return target.as_uri()


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("day")
    put(folder / "runs", is_silent=(30_000.0, 36_000.0), warnings=("one", "two", "three"))
    return write(folder / "runs", folder / "page.html")


def is_clean(tab: chromium.Page) -> None:
    assert tab.errors == []
    assert tab.requests == []


def size_of(png: bytes) -> tuple[int, int]:
    width, height = struct.unpack(">II", png[16:24])
    return width, height


async def test_a_day_s_page_shows_all_its_figures_without_a_word_of_complaint(day: str) -> None:
    async with chromium.tab() as tab:
        await tab.look(width=1280)
        await tab.open(day)
        await tab.wait(DRAWN)
        is_clean(tab)
        titles = await tab.js("[...document.querySelectorAll('figure h3')].map(h => h.textContent)")
        assert [title.split(",")[0] for title in titles] == [
            "Power over time", "Carbon intensity over time", "Energy so far", "CO2eq so far", "Energy per epoch",
            "Share by component", "Spans over time: mean power by name", "Energy by span",
            "The same run under other intensities", "The same run in other countries",
        ]  # fmt: skip
        assert await tab.js("document.querySelectorAll('.chart canvas').length") == 6
        assert await tab.js("[...document.querySelectorAll('figure')].every(f => f.querySelector('.note'))")
        text = await tab.js("document.body.innerText")
        assert "148 kWh" in text
        assert "19.2 kg" in text
        assert "ESTIMATED (model)" in text


@pytest.mark.parametrize(("width", "phone"), [(390, True), (1280, False)])
@pytest.mark.parametrize("dark", [False, True])
async def test_it_fits_the_screen_in_light_and_dark(day: str, width: int, phone: bool, dark: bool) -> None:
    async with chromium.tab() as tab:
        await tab.look(width=width, dark=dark, phone=phone)
        await tab.open(day)
        await tab.wait(DRAWN)
        is_clean(tab)
        assert await tab.js("document.documentElement.scrollWidth <= innerWidth")
        red, green, blue = json.loads(
            await tab.js("JSON.stringify(getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number))")
        )
        assert (red + green + blue < 150) == dark
        shown, _ = size_of(await tab.shot(whole=False))
        assert shown == width * (2 if phone else 1)
        # Something is drawn in each chart: its pixels are of many colours.
        drawn = """[...document.querySelectorAll('.chart canvas')].every(c => new Set(new Uint32Array(
            c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size > 8)"""
        assert await tab.js(drawn)


async def test_a_screen_reader_hears_each_chart_and_its_table(day: str) -> None:
    async with chromium.tab() as tab:
        await tab.open(day)
        await tab.wait(DRAWN)
        labels = await tab.js("[...document.querySelectorAll('.chart')].map(c => c.getAttribute('aria-label'))")
        assert all(re.search(r"from 2026-09-21 12:00:00|144 bars", label) for label in labels)
        assert any("at the end 148 kWh" in label for label in labels)
        await tab.js("document.querySelectorAll('figure details').forEach(d => d.open = true)")
        await tab.wait("[...document.querySelectorAll('figure details')].every(d => d.querySelector('table'))")
        tables = "[...document.querySelectorAll('table')]"
        assert await tab.js(f"{tables}.every(t => t.caption && t.querySelector('th[scope=col]'))")
        assert await tab.js(f"{tables}.every(t => t.querySelector('th[scope=row]'))")
        tree = (await tab.call("Accessibility.getFullAXTree"))["nodes"]
        roles = {node.get("role", {}).get("value") for node in tree}
        assert {"main", "banner", "contentinfo", "heading", "figure", "image", "table"} <= roles
        levels = await tab.js("[...document.querySelectorAll('h1,h2,h3')].map(h => Number(h.tagName[1]))")
        assert levels[0] == 1
        assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
        assert await tab.js("document.documentElement.lang === 'en' && document.title.includes('resnet-50')")


async def test_a_gap_is_said_to_be_unknown_and_not_zero(tmp_path: Path) -> None:
    put(tmp_path / "runs", hours=4.0, epochs=0, gpus=1, spans=(), is_silent=(3600.0, 7200.0))
    async with chromium.tab() as tab:
        await tab.open(write(tmp_path / "runs", tmp_path / "page.html"))
        await tab.wait(DRAWN)
        await tab.js("document.querySelector('figure details').open = true")
        await tab.wait("document.querySelector('figure details table')")
        rows = await tab.js(
            "[...document.querySelectorAll('figure table')][0].innerText.split('\\n').filter(r => r.includes('-09-21'))"
        )
        cells = [row.split("\t")[1:] for row in rows]
        assert any("-" in row for row in cells)
        assert not any("0" in row for row in cells)


async def test_wild_names_are_shown_and_do_nothing(tmp_path: Path) -> None:
    for n, run_id in enumerate(("one", "two")):
        put(tmp_path / "runs", run_id=run_id, name=WILD, hours=1.0, epochs=2, gpus=1, spans=(WILD, "b"),
            warnings=(WILD,), begin_s=BEGIN_S + 7200 * n)  # fmt: skip
    async with chromium.tab() as tab:
        await tab.look(width=390, phone=True)
        await tab.open(write(tmp_path / "runs", tmp_path / "page.html"))
        await tab.js("document.querySelectorAll('details').forEach(d => d.open = true)")
        await tab.wait(DRAWN)
        is_clean(tab)
        assert await tab.js("window.hit === undefined && document.images.length === 0")
        assert await tab.js("document.scripts.length") == 2
        text = await tab.js("document.body.innerText")
        assert "</script><script>window.hit=1</script>" in text
        assert "characters)" in text
        assert await tab.js("document.documentElement.scrollWidth <= innerWidth")


async def test_many_runs_are_a_list_whose_runs_are_drawn_when_opened(tmp_path: Path) -> None:
    for n in range(25):
        put(tmp_path / "runs", run_id=f"run-{n}", hours=1.0, epochs=3, gpus=1, begin_s=BEGIN_S + 7200 * n)
    url = write(tmp_path / "runs", tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < LIMIT
    async with chromium.tab() as tab:
        await tab.open(f"{url}#run-24")
        await tab.wait(DRAWN)
        is_clean(tab)
        assert await tab.js("document.querySelectorAll('.overview tbody tr').length") == 25
        assert await tab.js("[...document.querySelectorAll('details.runbox[open]')].map(d => d.id)") == ["run-24"]
        before = await tab.js("document.querySelectorAll('.chart').length")
        await tab.js("document.querySelector('.overview a').click()")
        await tab.wait(f"document.querySelectorAll('.chart canvas').length > {before}")
        is_clean(tab)


async def test_it_prints_in_light_with_all_charts(day: str, tmp_path: Path) -> None:
    async with chromium.tab() as tab:
        await tab.look(width=1280, dark=True)
        await tab.open(day)
        await tab.js(
            "addEventListener('beforeprint', () => { window.paper = getComputedStyle(document.body).backgroundColor;"
            " window.drawn = document.querySelectorAll('.chart canvas').length; }) || 1"
        )
        pdf = await tab.pdf()
        is_clean(tab)
        assert pdf.startswith(b"%PDF-")
        assert 3 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 9
        assert len(pdf) > 50_000
        assert await tab.js("[window.paper, window.drawn]") == ["rgb(255, 255, 255)", 6]
        assert await tab.js("document.documentElement.className === ''")


async def test_it_opens_from_a_file_and_from_a_folder_of_wild_name(day: str, tmp_path: Path) -> None:
    folder = tmp_path / "a folder #1 %41"
    await anyio.Path(folder).mkdir()
    target = folder / "pa'ge.html"
    await anyio.Path(target).write_bytes(await anyio.Path(day.removeprefix("file://")).read_bytes())
    async with chromium.tab() as tab:
        await tab.open(target.as_uri())
        await tab.wait(DRAWN)
        is_clean(tab)


CHILD = """
import sys, time
from aiocarbon.sync import Tracker
how = {"meters": "simulated:250", "location": "DK", "journal": sys.argv[1], "name": "live one", "interval_s": 0.2}
with Tracker(epochs=1000, **how) as t:
    while True:
        with t.epoch():
            time.sleep(0.1)
"""


async def test_the_live_page_waits_and_then_follows_a_run(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    address: list[str] = []
    is_up = anyio.Event()

    def started(url: str) -> None:
        address.append(url)
        is_up.set()

    async with anyio.create_task_group() as group:
        group.start_soon(serve, folder, 0, started)
        await is_up.wait()
        async with chromium.tab() as tab:
            await tab.open(address[0])
            await tab.wait("document.body.innerText.includes('is not there yet: its runs will appear here')")
            child = await asyncio.create_subprocess_exec(sys.executable, "-c", CHILD, str(folder))
            try:
                await tab.wait(f"{DRAWN} >= 4")
                time_of = "document.querySelector('.runbox .sub').innerText"
                first = await tab.js(time_of)
                assert "running" in first
                await tab.wait(f"{time_of} !== {json.dumps(first)}")
                await tab.wait(f"{DRAWN} >= 4")
            finally:
                child.kill()
                await child.wait()
            assert tab.errors == []
            assert all(url.startswith(address[0]) for url in tab.requests)
            put(folder, run_id="another", hours=1.0, epochs=3, gpus=1)
            await tab.wait("document.querySelectorAll('.overview tbody tr').length === 2")
        group.cancel_scope.cancel()


async def test_the_live_page_says_when_its_server_has_ended(tmp_path: Path) -> None:
    address: list[Any] = []
    is_up = anyio.Event()

    def started(url: str) -> None:
        address.append(url)
        is_up.set()

    async with chromium.tab() as tab:
        async with anyio.create_task_group() as group:
            group.start_soon(serve, tmp_path, 0, started)
            await is_up.wait()
            await tab.open(address[0])
            await tab.wait("document.querySelector('.live').innerText.startsWith('live')")
            group.cancel_scope.cancel()
        await tab.wait("document.querySelector('.live').innerText.includes('the connection is lost')")

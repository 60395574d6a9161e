"""One self-contained page of runs: markup, style, script, library and data in one text, which opens offline.

Guarantees: nothing in it is fetched, and its own policy forbids it; what comes from outside stands in it as JSON in
which no `<`, `>`, `&` and no line separator occurs, and the script puts it into text alone; it is at most `LIMIT` long
however many runs there are: curves get coarser first, then the oldest runs are told by their row in the list alone.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import pkgutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from aiocarbon._version import __version__
from aiocarbon.journal.process import Process
from aiocarbon.journal.read import Loaded, gather
from aiocarbon.page.comparisons import countries
from aiocarbon.page.data import SCHEMA, detail, summary
from aiocarbon.page.series import Part, runs_of
from aiocarbon.page.words import co2eq_words, cut, energy_words, state_words
from aiocarbon.render import numbers
from aiocarbon.render.text import report_text

__all__ = ["LIMIT", "html_form", "open_runs", "page", "shell"]

LIMIT: Final = 5_900_000
"""Bytes of a page at most: 6 MB with what a mail adds."""

POINTS: Final = (720, 360, 180, 90, 45)
"""Instants of a curve: what half a screen shows, and fewer where there are many runs."""

ASSETS: Final = "assets"
SCRIPTS: Final = ("uPlot.iife.min.js", "charts.js", "page.js", "live.js")
TEXTS_MOST: Final = 20
"""Runs that are told where no script runs."""


def html_form(loaded: Loaded) -> str:
    """The page of runs whose journals are still where they were read."""
    return page(loaded, gather(loaded.files, []))


def page(loaded: Loaded, processes: Sequence[Process], *, made_at: datetime | None = None, limit: int = LIMIT) -> str:
    """The page.

    Args:
        loaded: The runs and their total.
        processes: What their journals hold.
        made_at: When it is made; now by default.
        limit: Bytes that it may have.
    """
    parts, is_open = runs_of(processes), open_runs(processes)
    states = [state_words(run, is_open=run.run_id in is_open) for run in loaded.runs]
    rows = [summary(run, state) for run, state in zip(loaded.runs, states, strict=True)]
    shown: Mapping[str, Any] = {
        "schema": SCHEMA,
        "version": __version__,
        "made": f"{made_at or datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "live": False,
        "runs": rows,
        "total": _total(loaded),
        "places": countries(),
        "problems": [cut(problem, 400) for problem in loaded.problems[:200]],
    }
    texts = "\n\n".join(report_text(run) for run in loaded.runs[-TEXTS_MOST:])
    room = limit - len(_whole(shown, texts))
    _add_details(rows, loaded, parts, states, room)
    return _whole(shown, texts)


def _add_details(
    rows: Sequence[dict[str, Any]],
    loaded: Loaded,
    parts: Mapping[str, Sequence[Part]],
    states: Sequence[str],
    room: int,
) -> None:
    """Put the details of as many runs as there is room for into their rows, the newest first."""
    runs = range(len(rows))
    points = POINTS[0]
    for n in reversed(runs):
        # What one run may take so that all of them have room; coarser first, and none rather than too much.
        fair = room // (n + 1)
        for points in (choice for choice in POINTS if choice <= points):
            found = detail(loaded.runs[n], parts.get(loaded.runs[n].run_id, ()), states[n], points)
            size = len(_embedded(found))
            if size <= fair or (points == POINTS[-1] and size <= room):
                rows[n]["detail"] = found
                room -= size + len('"detail":,')
                break
        else:
            return


def open_runs(processes: Sequence[Process]) -> set[str]:
    """Ids of the runs of which a journal has no end: they run, or broke off."""
    return {process.facts.run_id for process in processes if process.end is None}


def shell() -> str:
    """The page without any run: what `aiocarbon dash` serves, which asks for the runs by itself."""
    nothing: Mapping[str, Any] = {"runs": [], "total": None, "problems": [], "places": countries()}
    told = {"schema": SCHEMA, "version": __version__, "made": "", "live": True, **nothing}
    return _whole(told, "This page needs JavaScript; `aiocarbon report DIR` tells the same as text.")


def _total(loaded: Loaded) -> dict[str, Any] | None:
    """All runs together, each instant of a device once; None for one run."""
    if len(loaded.runs) < 2:
        return None
    total = loaded.total
    return {
        "runs": len(loaded.runs),
        "kpis": [
            ["Energy of all runs", *energy_words(total), "with each run's PUE, each joule once"],
            ["CO2eq of all runs", *co2eq_words(total), "estimated from energy and intensity"],
            ["Time", numbers.duration(total.duration_s), "in which at least one ran", f"{len(loaded.runs):,} runs"],
        ],
    }


def _embedded(value: Any) -> str:
    """A value as JSON that can stand inside a script element, whatever it holds."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    # With ensure_ascii no U+2028 and no lone surrogate is left; these three are what HTML could take for markup.
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _whole(shown: Mapping[str, Any], text: str) -> str:
    names = [row["name"] or row["run_id"] for row in shown["runs"]]
    title = f"{names[0]} - aiocarbon" if len(names) == 1 else "aiocarbon"
    licence = f"/* uPlot:\n{_asset('uPlot.LICENSE')}\n*/"  # which stands in every copy, as it demands
    script = "\n".join((_asset("sharp.js"), licence, *map(_asset, SCRIPTS)))
    style = _asset("uPlot.min.css") + _asset("page.css")
    policy = {
        "default-src": "'none'",
        "script-src": _hash(script),
        "style-src": _hash(style),
        "img-src": "data:",
        "connect-src": "'self'" if shown["live"] else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    fields = {
        "csp": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "title": _plain(title),
        "style": style,
        "text": _plain(text),
        "data": _embedded(shown),
        "script": script,
    }
    whole = _asset("page.html")
    pieces = whole.split("{{")
    # Piece by piece and not by replacing: what is put in is never looked at for a field.
    return pieces[0] + "".join(fields[name] + rest for name, _, rest in (piece.partition("}}") for piece in pieces[1:]))


def _plain(text: str) -> str:
    """A text inside an element; what no file of UTF-8 can hold is replaced."""
    return html.escape(text).encode("utf-8", "replace").decode("utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _asset(name: str) -> str:
    content = pkgutil.get_data(__package__, f"{ASSETS}/{name}")
    if content is None:
        raise FileNotFoundError(f"{name} cannot be read by the loader of this package")
    return content.decode("utf-8").replace("\r\n", "\n")

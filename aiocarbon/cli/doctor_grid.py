"""The half of `aiocarbon doctor` that looks at the grid: the place, the sources, the way out, what is kept on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aiocarbon.cli.intensity_cmd import place_dict, told_dict, told_lines, value_dict
from aiocarbon.intensity.base import shown
from aiocarbon.render import numbers
from aiocarbon.render.text import intensity_words, location_words

if TYPE_CHECKING:
    from aiocarbon._core.intensity import IntensityValue
    from aiocarbon._engine.engine import Engine
    from aiocarbon._engine.probe import Told
    from aiocarbon._engine.survey import Survey
    from aiocarbon.settings import Settings

__all__ = ["Grid", "examine", "grid_dict", "grid_lines"]

GUESS_REMEDY: Final = "export AIOCARBON_LOCATION=DE   # your ISO country or sub-national code"
ELSEWHERE: Final = "not of this place"
ON_REQUEST: Final = "only on request"
ON_REQUEST_WHY: Final = (
    "only on request: it tells marginal intensity, which is no footprint; name it in `intensity` to have it"
)
NOTHING_ASKED: Final = "nothing is asked over the network"
PRIVACY: Final = "nothing is reported to anybody"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """What was found of the grid.

    Attributes:
        survey: The place, its intensity, and what each source of the chain said.
        others: The known sources that are not in the chain.
        proxies: Proxy by scheme, without its credentials; empty if none is used.
        cache: Folder of what sources answered; None: none is kept.
        cache_problem: Why nothing can be kept there; empty if it can.
        is_offline: True if no packet may be sent.
    """

    survey: Survey
    others: tuple[Told, ...]
    proxies: Mapping[str, str]
    cache: str | None
    cache_problem: str
    is_offline: bool


async def examine(engine: Engine, settings: Settings, arguments: Mapping[str, Any]) -> Grid:
    """Ask every source of the place, and look at what lies between.

    Args:
        engine: Asks.
        settings: Those in force.
        arguments: What of them was given as an argument.

    Raises:
        ConfigError: The user's own file of intensities cannot be read.
    """
    from aiocarbon._engine.survey import survey

    exchange = engine.exchange(is_offline=settings.offline)
    found = await survey(exchange, settings, arguments)
    folder = exchange.cache.folder
    return Grid(
        survey=found,
        others=await engine.blocking(_others, {told.name for told in found.told}),
        proxies=await engine.blocking(proxies),
        cache=None if folder is None else str(folder),
        cache_problem="" if folder is None else await engine.blocking(write_problem, folder),
        is_offline=settings.offline,
    )


def _others(asked: set[str]) -> tuple[Told, ...]:
    from aiocarbon._engine.probe import Told
    from aiocarbon.intensity import sources

    rest = (name for name in sources.names() if name not in asked)
    return tuple(
        Told(name=name, title=name, zone="", word=ON_REQUEST, why=ON_REQUEST_WHY)
        if name in sources.ON_REQUEST
        else Told(name=name, title=name, zone="", word=ELSEWHERE)
        for name in rest
    )


def proxies(find: Callable[[], Mapping[str, str]] | None = None) -> dict[str, str]:
    """The proxies that questions go through, by scheme, without user and password."""
    from urllib.request import getproxies

    found = (find or getproxies)()
    return {
        scheme: shown(url if "://" in url else f"http://{url}")
        for scheme, url in sorted(found.items())
        if scheme in {"https", "http", "all"}
    }


def write_problem(folder: Path) -> str:
    """Why nothing can be kept in a folder, in words; empty if it can. It is made, as the first answer would."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(prefix=".new-", dir=folder) as file:
            file.write(b"{}")
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""


# -- telling -----------------------------------------------------------------------------------------------------


def grid_lines(grid: Grid) -> Iterator[str]:
    """All of it as text."""
    found = grid.survey
    yield "location"
    yield f"  {location_words(found.location)}"
    yield f"  {found.place_note}"
    if found.location.is_guess:
        yield from ("    to mend it:", f"      {GUESS_REMEDY}")
    yield "intensity"
    yield f"  {_value(found.now)}"
    if found.now != found.fallback:
        yield f"  where no source answers: {_value(found.fallback)}"
    yield "PUE"
    yield f"  {found.pue.value:g}: {found.pue.source}"
    yield "sources"
    yield from told_lines((*found.told, *grid.others), found.now_s)
    yield "network"
    yield from (f"  {line}" for line in _network(grid))
    yield "cache"
    yield f"  {_cache(grid)}"


def _value(value: IntensityValue) -> str:
    words = intensity_words(value.quality, value.zone, value.kind, value.factor_basis)
    note = f"; {value.note}" if value.note else ""
    return f"{numbers.rounded(value.g_per_kwh, 3)} gCO2eq/kWh, {words}: {value.source}{note}"


def _network(grid: Grid) -> Iterator[str]:
    asked = _asked(grid.survey)
    if grid.is_offline:
        yield f"{NOTHING_ASKED}: offline"
    elif not asked:
        yield f"{NOTHING_ASKED} just now"
    else:
        yield f"asked just now: {', '.join(asked)}; {PRIVACY}"
    for scheme, proxy in grid.proxies.items():
        yield f"proxy for {scheme}: {proxy}"
    if not grid.proxies:
        yield "no proxy is used"


def _asked(found: Survey) -> list[str]:
    """Whom packets were sent to."""
    sources = (told.url or told.title for told in found.told if told.is_asked)
    return list(dict.fromkeys((*found.place_asked, *sources)))


def _cache(grid: Grid) -> str:
    if grid.cache is None:
        return "none: what sources answer is not kept for other processes"
    if grid.cache_problem:
        return f"{grid.cache} CANNOT be written: {grid.cache_problem}; each process asks for itself"
    return f"{grid.cache} can be written"


def grid_dict(grid: Grid) -> dict[str, Any]:
    """All of it as plain values."""
    found = grid.survey
    return {
        "location": place_dict(found),
        "intensity": value_dict(found.now),
        "fallback": value_dict(found.fallback),
        "pue": {"value": found.pue.value, "source": found.pue.source},
        "sources": [told_dict(told) for told in (*found.told, *grid.others)],
        "network": {
            "is_offline": grid.is_offline,
            "asked": _asked(found),
            "proxies": dict(grid.proxies),
            "note": next(_network(grid)),
        },
        "cache": {
            "folder": grid.cache,
            "is_writable": grid.cache is not None and not grid.cache_problem,
            "why": grid.cache_problem,
        },
    }

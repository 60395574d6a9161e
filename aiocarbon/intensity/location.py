"""Where the machine is, without a network: the user's word, else a guess from the time zone, else the world.

This is the first answer, at once. `cloud` and `geolocation` ask others, and what they say replaces a guess later.

A wrong country is the largest error of the whole chain (Sweden 35, Poland 589 g/kWh), so a guess is always called one.
Blocking file reads: call `find` in a worker thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from aiocarbon import data
from aiocarbon._core.intensity import Location
from aiocarbon.intensity.table import WORLD, parse_zone

__all__ = ["find", "system_tz_name"]

_ZONEINFO = "zoneinfo/"
_VARIANTS = ("posix/", "right/")
"""Folders of the time zone database that repeat all zones, without and with leap seconds."""


def find(
    location: str | None,
    *,
    how: str = "given",
    environ: Mapping[str, str] = os.environ,
    tz_name: Callable[[], str | None] | None = None,
) -> Location:
    """Say where the machine is.

    Args:
        location: What the user said (argument, environment variable or file), in the grammar of `table.parse_zone`.
        how: How that was said: "given" (an argument), "environment" (`AIOCARBON_LOCATION`, which a cluster's module
            file or prolog sets) or "pyproject.toml".
        environ: Environment in which `TZ` is looked up.
        tz_name: Gives the system's time zone, an IANA name or None; default `system_tz_name`.

    Returns:
        What the user said; else the country of the time zone of `TZ` or the system, a guess; else the world, a guess.
        UTC and names that stand for no place (Etc/*, CET) count as unknown.

    Raises:
        ConfigError: `location` is not a zone.
    """
    if location is not None:
        return replace(parse_zone(location), how=how)
    # TZ=UTC in a service's environment says nothing of the place, and the system's own setting is asked after it.
    for name in (_plain(environ.get("TZ", "")), (tz_name or system_tz_name)()):
        country = _countries_by_tz().get(name) if name else None
        if country is not None:
            return Location(zone=country, name=parse_zone(country).name, how="time zone", is_guess=True)
    return Location(zone=WORLD, name=parse_zone(WORLD).name, how="world", is_guess=True)


def system_tz_name(*, etc: Path = Path("/etc")) -> str | None:
    """The time zone the system is set to: an IANA name such as "Europe/Copenhagen", or None.

    `localtime` is read as a link and never resolved further: in some builds of the database Europe/Copenhagen is itself
    a link to Europe/Berlin, and only the name as configured tells the country.

    Args:
        etc: Folder that holds `localtime` and `timezone`.
    """
    names = list(_system_names(etc))
    return next((name for name in names if name in _countries_by_tz()), names[0] if names else None)


def _system_names(etc: Path) -> Iterator[str]:
    try:
        target = os.readlink(etc / "localtime")
    except OSError:  # a copy instead of a link (containers), or no such file: the other file may know
        target = ""
    if _ZONEINFO in target:
        yield _plain(target)
    try:
        text = (etc / "timezone").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        text = ""
    if text:
        yield _plain(text)


def _plain(name: str) -> str:
    """The IANA name in ":Europe/Berlin", "/usr/share/zoneinfo/posix/Europe/Berlin" or "Europe/Berlin"."""
    name = name.removeprefix(":").rpartition(_ZONEINFO)[2]
    for variant in _VARIANTS:
        name = name.removeprefix(variant)
    return name


@cache
def _countries_by_tz() -> dict[str, str]:
    return {row["tz"]: row["alpha2"] for row in data.rows("timezones")}

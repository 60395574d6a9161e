"""Carbon intensity without a network: bundled yearly averages, or a number of the user's; and the grammar of zones.

A zone is written `DE`, `DEU`, `US-CA`, `WORLD`, or, finer than the tables are, `GB:N1` (outward postcode) and `DK-DK1`
(grid zone): those are accepted and kept, and where only the tables are asked they get their country's average, with a
note that says so. Coordinates are `55.67,12.57` and get the country of the nearest place of the time zone database.
Everything here may read a bundled file the first time: call it in a worker thread.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import cache
from typing import Final

from aiocarbon import data
from aiocarbon._core.intensity import MAX_G_PER_KWH, FactorBasis, IntensityValue, Location, Quality
from aiocarbon.errors import ConfigError

__all__ = ["MAX_G_PER_KWH", "WORLD", "average", "given", "parse_zone"]

WORLD: Final = "WORLD"
"""The zone of the world's average."""

ASSUMED_SPREAD: Final = 0.15
"""Half width of a table value's 90 % range, as a share of it. Assumed: no source publishes the error of its averages.
For size: two of them differ for Denmark in 2025 by 8 % (Ember 114, Electricity Maps 123), for France by 30 %."""

_GRID_ZONE: Final = "[A-Z]{2}(-[A-Z0-9]{1,6}){1,2}"
_GB_OUTWARD: Final = "GB:[A-Z]{1,2}[0-9][A-Z0-9]?"
_ALIASES: Final = {"UK": "GB", "EL": "GR"}
"""Codes in use that ISO 3166-1 does not have: suggested, not accepted, since a misread country is the largest error."""
_ACCEPTED: Final = (
    'an ISO 3166 country ("DE", "DEU") or state ("US-CA"), a grid zone ("DK-DK1"), '
    'an outward postcode ("GB:N1"), coordinates in degrees north and east ("55.67,12.57") or "WORLD"'
)

OWN_CODES: Final = {
    **{f"FR-{code}": code for code in ["BL", "GF", "GP", "MF", "MQ", "NC", "PF", "PM", "RE", "TF", "WF", "YT"]},
    **{"FR-971": "GP", "FR-972": "MQ", "FR-973": "GF", "FR-974": "RE", "FR-976": "YT"},
    **{f"NL-{code}": code for code in ["AW", "BQ", "CW", "SX"]},
    **{f"NL-BQ{n}": "BQ" for n in (1, 2, 3)},
    **{"FI-01": "AX", "NO-21": "SJ", "NO-22": "SJ"},
}
"""Parts of a country with a country code of their own (ISO 3166-2:2020), whose grid is not that of the mainland; those
of the United States and China are in the table of subdivisions."""

_COORDINATES: Final = r"([+-]?[0-9]{1,3}(?:\.[0-9]*)?) *, *([+-]?[0-9]{1,3}(?:\.[0-9]*)?)"

EARTH_RADIUS_KM: Final = 6371.0
"""Mean radius (IUGG, 1980: 6371.0 km); the Earth's flattening changes a distance by at most 0.5 %."""


def parse_zone(text: str) -> Location:
    """Read a zone that the user gave, in upper or lower case.

    Args:
        text: ISO 3166-1 alpha-2 or alpha-3, ISO 3166-2, a grid zone, `GB:` and an outward postcode, "WORLD", or
            latitude and longitude in decimal degrees, north and east positive, -90..90 and -180..180.

    Returns:
        The location, its zone in upper case with alpha-3 turned into alpha-2, `how` "given". Of coordinates the zone is
        the country of the nearest place of the time zone database: its `note` says so, since near a border it may be
        the neighbour's.

    Raises:
        ConfigError: It is none of these; the message names the nearest codes.
    """
    if not isinstance(text, str):
        raise ConfigError("location", text, _ACCEPTED)
    zone = text.strip().upper()
    if coordinates := re.fullmatch(_COORDINATES, zone):
        return _at(float(coordinates[1]), float(coordinates[2]), text)
    countries, subdivisions = _countries(), _subdivisions()
    zone = _alpha3().get(zone, zone)
    zone = OWN_CODES.get(zone, zone)
    if zone in subdivisions and not zone.startswith(subdivisions[zone]["country"]):
        zone = subdivisions[zone]["country"]  # "US-PR" and "CN-HK" have a country code of their own
    if zone in countries:
        return _given(zone, countries[zone]["name"])
    if zone in subdivisions:
        row = subdivisions[zone]
        return _given(zone, f"{row['name']}, {countries[row['country']]['name']}")
    if re.fullmatch(_GB_OUTWARD, zone):
        return _given(zone, f"{countries['GB']['name']}, postcode {zone[3:]}")
    if _is_grid_zone(zone):
        return _given(zone, f"{countries[zone[:2]]['name']}, grid zone {zone}")
    raise ConfigError("location", text, _ACCEPTED + _near(zone))


def average(zone: str) -> IntensityValue:
    """The yearly average of a zone: its own, else its country's, else the world's; the note says which and why.

    Args:
        zone: The zone of a `Location`.

    Returns:
        The value with a 90 % range: +-15 % (assumed) where the place has a value in the tables; from the 5th to the
        95th percentile of all countries where the world's stands in for a place that is not known or not in the tables.
    """
    for row in _rows_of(zone):
        if row["g_per_kwh"]:
            code = row.get("code") or row["alpha2"]
            missing = "" if code == zone else f"no value for {zone}: that of {row['name']}"
            return _value(row, code, _notes(missing, row.get("note", "")))
    return _world("place not known" if zone == WORLD else f"no value for {zone}")


def given(g_per_kwh: float, *, zone: str = "") -> IntensityValue:
    """A number of the user's, taken as exact.

    Args:
        g_per_kwh: gCO2eq per kWh, 0..3000.
        zone: The zone it is of, if that is known.

    Raises:
        ConfigError: It is not a number in that range.
    """
    is_number = isinstance(g_per_kwh, int | float) and not isinstance(g_per_kwh, bool)
    if not is_number or not 0.0 <= g_per_kwh <= MAX_G_PER_KWH:  # NaN fails both comparisons
        raise ConfigError("intensity", g_per_kwh, f"a number of gCO2eq/kWh, 0 to {MAX_G_PER_KWH:g}")
    value = float(g_per_kwh)
    return IntensityValue(
        g_per_kwh=value,
        low_g_per_kwh=value,
        high_g_per_kwh=value,
        source="given by the user",
        zone=zone,
        quality=Quality.GIVEN,
    )


def _given(zone: str, name: str) -> Location:
    return Location(zone=zone, name=name, how="given", is_guess=False)


def _at(latitude: float, longitude: float, text: str) -> Location:
    if not (-90.0 <= latitude <= 90.0 and -180.0 <= longitude <= 180.0):
        raise ConfigError("location", text, "a latitude of -90 to 90 and a longitude of -180 to 180 degrees")
    nearest: dict[str, tuple[float, str]] = {}  # by country
    for tz, country, place in _places():
        km = _distance_km((math.radians(latitude), math.radians(longitude)), place)
        if country not in nearest or km < nearest[country][0]:
            nearest[country] = km, tz
    country, other = sorted(nearest, key=lambda code: nearest[code][0])[:2]
    (km, tz), (other_km, _) = nearest[country], nearest[other]
    name = _countries()[country]["name"]
    return Location(
        zone=country,
        name=name,
        how="given",
        is_guess=False,
        latitude=latitude,
        longitude=longitude,
        # Not the exact distances: from two of them anybody who reads the report could tell the place.
        note=f"{name} is taken from the nearest time zone city ({tz}, {_within(km)}) and may be wrong near a border "
        f"(next: {_countries()[other]['name']}, {_within(other_km)}); say the country instead where it is",
    )


def _within(km: float) -> str:
    return f"within {math.ceil(max(km, 1.0) / 100.0) * 100} km"


def _distance_km(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Great-circle distance of two points (latitude, longitude, radians) by the haversine formula (Sinnott, 1984)."""
    half = math.sin((b[0] - a[0]) / 2) ** 2 + math.cos(a[0]) * math.cos(b[0]) * math.sin((b[1] - a[1]) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(half)))


def _is_grid_zone(zone: str) -> bool:
    if not re.fullmatch(_GRID_ZONE, zone) or zone[:2] not in _countries():
        return False
    # Where we know all states of a country, an unknown two-part code is a typing error ("US-CAA"), not a grid zone.
    knows_states = any(code.startswith(zone[:3]) for code in _subdivisions())
    return not knows_states or zone.count("-") == 2


def _rows_of(zone: str) -> Iterator[dict[str, str]]:
    """The rows that can stand for a zone, the nearest first: "US-HI-OA" itself, Hawaii, the United States."""
    country, subdivisions = OWN_CODES.get(zone, re.split("[-:]", zone, maxsplit=1)[0]), _subdivisions()
    for code in (zone, zone.rpartition("-")[0]):
        if code in subdivisions:
            yield subdivisions[code]
            country = subdivisions[code]["country"]
    if country in _countries() and country != WORLD:
        yield _countries()[country]


def _value(row: dict[str, str], zone: str, note: str) -> IntensityValue:
    g_per_kwh = float(row["g_per_kwh"])
    return IntensityValue(
        g_per_kwh=g_per_kwh,
        low_g_per_kwh=g_per_kwh * (1.0 - ASSUMED_SPREAD),
        high_g_per_kwh=g_per_kwh * (1.0 + ASSUMED_SPREAD),
        source=f"{row['source']}, {row['year']}",
        zone=zone,
        quality=Quality.AVERAGE,
        factor_basis=FactorBasis(row.get("factor_basis", FactorBasis.LIFE_CYCLE)),
        note=f"{note}; +-{ASSUMED_SPREAD * 100:.0f} % assumed, no source publishes its error",
    )


def _world(why: str) -> IntensityValue:
    row = _countries()[WORLD]
    known = sorted(float(r["g_per_kwh"]) for code, r in _countries().items() if code != WORLD and r["g_per_kwh"])
    return IntensityValue(
        g_per_kwh=float(row["g_per_kwh"]),
        low_g_per_kwh=_percentile(known, 0.05),
        high_g_per_kwh=_percentile(known, 0.95),
        source=f"{row['source']}, {row['year']}",
        zone=WORLD,
        quality=Quality.AVERAGE,
        factor_basis=FactorBasis.LIFE_CYCLE,
        note=f"{why}: the world's yearly average; range = 5th to 95th percentile of {len(known)} countries",
    )


def _percentile(ordered: list[float], share: float) -> float:
    """Linear interpolation between the neighbours in rank (the `statistics` module costs 10 ms to import)."""
    at = share * (len(ordered) - 1)
    i = min(math.floor(at), len(ordered) - 2)
    return ordered[i] + (ordered[i + 1] - ordered[i]) * (at - i)


def _notes(*notes: str) -> str:
    return "; ".join(("yearly average", *filter(None, notes)))


def _near(zone: str) -> str:
    import difflib  # only on the way to an error

    rows = _countries() | _subdivisions()
    names = {row["name"].upper(): code for code, row in rows.items()}
    near = [_ALIASES[zone]] if zone in _ALIASES else []
    near += [names[name] for name in difflib.get_close_matches(zone, names, n=3, cutoff=0.75)]
    near += difflib.get_close_matches(zone, rows, n=3, cutoff=0.6)
    hints = [f"{code} ({rows[code]['name']})" for code in dict.fromkeys(near)][:3]
    return f"; near: {', '.join(hints)}" if hints else ""


@cache
def _countries() -> dict[str, dict[str, str]]:
    return {row["alpha2"]: row for row in data.rows("countries")}


@cache
def _alpha3() -> dict[str, str]:
    return {row["alpha3"]: row["alpha2"] for row in data.rows("countries") if row["alpha3"]}


@cache
def _subdivisions() -> dict[str, dict[str, str]]:
    return {row["code"]: row for row in data.rows("subdivisions")}


@cache
def _places() -> list[tuple[str, str, tuple[float, float]]]:
    """Name, country and coordinates (radians) of the time zones that have some."""
    return [
        (row["tz"], row["alpha2"], (math.radians(float(row["latitude"])), math.radians(float(row["longitude"]))))
        for row in data.rows("timezones")
        if row["latitude"]
    ]

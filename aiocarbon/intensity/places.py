"""All places of the bundled tables: countries, states and regions of clouds, each with its intensity and PUE.

No packet is sent. Blocking (small files, the first time): call in a worker thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from aiocarbon import data
from aiocarbon._core.intensity import IntensityValue, Location, Pue
from aiocarbon._core.places import Place, PueOf
from aiocarbon.intensity.dmi import published_pue
from aiocarbon.intensity.table import WORLD, average

__all__ = ["here", "places"]

VIA: Final = "published, via the Green Software Foundation's real-time-cloud"


def places(here_pue: Pue) -> Iterator[Place]:
    """Every place of which the tables have an intensity, of its own or, for a region of a cloud, of its country.

    Args:
        here_pue: What counts where no PUE is published: in countries and states, and in clouds without one.
    """
    for row in data.rows("countries"):
        if row["g_per_kwh"] and row["alpha2"] != WORLD:
            yield _plain("country", row["alpha2"], row["name"], here_pue)
    countries = {row["alpha2"]: row["name"] for row in data.rows("countries")}
    for row in data.rows("subdivisions"):
        if row["g_per_kwh"]:
            yield _plain("state", row["code"], f"{row['name']}, {countries[row['country']]}", here_pue)
    averages = {row["id"]: row for row in data.rows("pue")}
    for row in data.rows("cloud_regions"):
        value = average(row["zone"])
        pue, pue_of = _cloud_pue(row["provider"], row["region"], averages, here_pue)
        yield Place(
            kind=row["provider"],
            code=row["region"],
            name=row["location"],
            zone=row["zone"],
            value=value,
            year=_year(value),
            pue=pue,
            pue_of=pue_of,
        )


def here(location: Location, pue: Pue) -> tuple[Place, ...]:
    """Here, once for each factor basis that the tables have of it: of California its own value and that of the country.

    Args:
        location: Where.
        pue: PUE of here.

    Returns:
        Nothing where the tables have no value but the world's.
    """
    found: dict[str, Place] = {}
    for zone in (location.zone, location.country):
        value = average(zone)
        if value.zone != WORLD:
            kind = "country" if value.zone == location.country else "state"
            # A country's name where its value stands in, or two rows would have the name of the state.
            name = location.name if value.zone in (location.zone, "") else _name(value.zone, location.name)
            place = Place(kind=kind, code=value.zone, name=name, zone=zone, value=value, year=_year(value), pue=pue)
            found.setdefault(value.factor_basis, place)
    return tuple(found.values())


def _plain(kind: str, zone: str, name: str, pue: Pue) -> Place:
    value = average(zone)
    return Place(kind=kind, code=zone, name=name, zone=zone, value=value, year=_year(value), pue=pue)


def _name(zone: str, otherwise: str) -> str:
    rows = (row["name"] for row in data.rows("countries") if row["alpha2"] == zone)
    return next(rows, otherwise)


def _year(value: IntensityValue) -> int:
    """The year that a table's value ends its source with."""
    return int(value.source.rpartition(", ")[2])


def _cloud_pue(provider: str, region: str, averages: dict[str, dict[str, str]], here_pue: Pue) -> tuple[Pue, PueOf]:
    """The region's own figure, else the average of its provider, else the one of here."""
    row = averages.get(provider)
    own = published_pue(f"{provider} {region}")
    if own is not None:
        value, year = own
        return Pue(value=value, source=f"{row['name'] if row else provider} {region}, {year}: {VIA}"), PueOf.REGION
    if row is None:
        return here_pue, PueOf.HERE
    note = f" ({row['note']})" if row["note"] else ""
    return Pue(value=float(row["pue"]), source=f"{row['name']}, {row['year']}: {row['source']}{note}"), PueOf.CLOUD

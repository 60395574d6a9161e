"""The same work in other places: what it would emit there, in the order of that.

Places are ranked only among those whose intensities have the same factor basis: a country's life-cycle value and a
state's at the stack differ by what they count, and not only by the grid.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from aiocarbon._core.intensity import FactorBasis, IntensityValue, Location, Pue

__all__ = ["Energy", "Place", "PueOf", "Ran", "Ranking", "Row", "Where", "rank"]

SCHEMA: Final = "aiocarbon.where/1"

BASES: Final = (FactorBasis.LIFE_CYCLE, FactorBasis.DIRECT, FactorBasis.UNKNOWN)
"""The order in which rankings are told: the countries', which is the largest, first."""


class PueOf(StrEnum):
    """Whose power usage effectiveness a place has."""

    REGION = "region"
    CLOUD = "cloud"
    HERE = "here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Somewhere work could run.

    Attributes:
        kind: "country", "state", "aws", "azure", "gcp", "ovh".
        code: "SE", "US-CA", "eu-north-1".
        name: "Sweden", "Stockholm".
        zone: The zone of its grid: "SE-SE3".
        value: The intensity of the tables, whose `zone` is wider where they have none of the zone itself.
        year: Year of that value.
        pue: Power usage effectiveness, with its source.
        pue_of: Whose PUE it is: published of this region, averaged over its cloud, or, where none is, the one of here.
    """

    kind: str
    code: str
    name: str
    zone: str
    value: IntensityValue
    year: int
    pue: Pue
    pue_of: PueOf = PueOf.HERE


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """IT energy of the work, kWh, and its 90 % range; the range has no width where the energy was given.

    Attributes:
        kwh: Without PUE.
        low_kwh: Lower end.
        high_kwh: Upper end.
        source: Who says so: "given", "2 runs".
    """

    kwh: float
    low_kwh: float
    high_kwh: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A place with what the work would emit there.

    Attributes:
        place: Where.
        co2eq_g: Energy x PUE x intensity, gCO2eq.
        co2eq_g_low: Lower end: of the energy and of the intensity, which both are common errors and add linearly.
        co2eq_g_high: Upper end.
        rank: 1 for the lowest of its factor basis; equal places share one.
        against: `co2eq_g` over what it would be here with the same factor basis; None where nothing is known of here.
        is_here: True for the place here.
    """

    place: Place
    co2eq_g: float
    co2eq_g_low: float
    co2eq_g_high: float
    rank: int
    against: float | None
    is_here: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """The places of one factor basis.

    Attributes:
        basis: Direct, life-cycle, or not told by the source.
        rows: Ascending by gCO2eq, then by name; here among them, if it has a value of this basis.
        here: What it would be here; None if nothing is known of here with this basis.
    """

    basis: FactorBasis
    rows: tuple[Row, ...]
    here: Row | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A run whose journal was read, as it was where it ran: with its own sources, hour by hour.

    Attributes:
        run_id: Its id.
        zone: Where.
        it_energy_kwh: IT energy, kWh.
        pue: Its PUE.
        co2eq_g: gCO2eq, as its report has it.
        g_per_kwh: Energy-weighted mean intensity, gCO2eq/kWh.
        factor_bases: Factor bases of its sources.
    """

    run_id: str
    zone: str
    it_energy_kwh: float
    pue: float
    co2eq_g: float
    g_per_kwh: float
    factor_bases: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """The same work everywhere.

    Attributes:
        energy: Of the work.
        location: Here, and how that is known.
        here_pue: PUE of here, also of places of which no cloud publishes one.
        rankings: One a factor basis that has places.
        ran: The runs it was told of; empty where the energy was given.
        notes: What a reader of the figures must know.
    """

    energy: Energy
    location: Location
    here_pue: Pue
    rankings: tuple[Ranking, ...]
    ran: tuple[Ran, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, in the schema of `aiocarbon where --json`."""
        here = self.location
        return {
            "schema": SCHEMA,
            "network": False,
            "it_energy_kwh": self.energy.kwh,
            "it_energy_kwh_low": self.energy.low_kwh,
            "it_energy_kwh_high": self.energy.high_kwh,
            "energy_source": self.energy.source,
            "location": {"zone": here.zone, "name": here.name, "how": here.how, "is_guess": here.is_guess},
            "pue": self.here_pue.value,
            "pue_source": self.here_pue.source,
            "ran": [{name: getattr(run, name) for name in Ran.__dataclass_fields__} for run in self.ran],
            "rankings": [
                {
                    "factor_basis": ranking.basis.value,
                    "here": None if ranking.here is None else _plain(ranking.here),
                    "places": [_plain(row) for row in ranking.rows],
                }
                for ranking in self.rankings
            ],
            "notes": list(self.notes),
        }


def rank(energy: Energy, places: Iterable[Place], here: Sequence[Place]) -> tuple[Ranking, ...]:
    """Rank places, each factor basis for itself.

    Args:
        energy: IT energy of the work.
        places: Where it could run.
        here: Here, once for each factor basis in which something is known of it.

    Returns:
        The rankings that have places, life-cycle first.
    """
    by_basis: dict[FactorBasis, list[Place]] = {}
    for place in places:
        by_basis.setdefault(place.value.factor_basis, []).append(place)
    own = {place.value.factor_basis: place for place in here}
    return tuple(_ranking(basis, energy, by_basis[basis], own.get(basis)) for basis in BASES if basis in by_basis)


def _ranking(basis: FactorBasis, energy: Energy, places: list[Place], here: Place | None) -> Ranking:
    of_here = None if here is None else _grams(energy.kwh, here, here.value.g_per_kwh)
    # Here is a row of its own; the same country or state, as one of the places, would be told twice.
    others = [place for place in places if here is None or (place.kind, place.code) != (here.kind, here.code)]
    told = [(place, _grams(energy.kwh, place, place.value.g_per_kwh)) for place in others]
    if here is not None and of_here is not None:
        told.append((here, of_here))
    told.sort(key=lambda one: (one[1], one[0].name, one[0].code))
    rows: list[Row] = []
    for n, (place, co2eq_g) in enumerate(told, 1):
        rows.append(
            Row(
                place=place,
                co2eq_g=co2eq_g,
                co2eq_g_low=_grams(energy.low_kwh, place, place.value.low_g_per_kwh),
                co2eq_g_high=_grams(energy.high_kwh, place, place.value.high_g_per_kwh),
                rank=rows[-1].rank if rows and rows[-1].co2eq_g == co2eq_g else n,
                against=co2eq_g / of_here if of_here else None,
                is_here=place is here,
            )
        )
    return Ranking(basis=basis, rows=tuple(rows), here=next((row for row in rows if row.is_here), None))


def _grams(kwh: float, place: Place, g_per_kwh: float) -> float:
    return kwh * place.pue.value * g_per_kwh


def _plain(row: Row) -> dict[str, Any]:
    place, value = row.place, row.place.value
    return {
        "rank": row.rank,
        "kind": place.kind,
        "code": place.code,
        "name": place.name,
        "zone": place.zone,
        "g_per_kwh": value.g_per_kwh,
        "g_per_kwh_low": value.low_g_per_kwh,
        "g_per_kwh_high": value.high_g_per_kwh,
        "intensity_source": value.source,
        "intensity_zone": value.zone,
        "intensity_note": value.note,
        "year": place.year,
        "factor_basis": value.factor_basis.value,
        "pue": place.pue.value,
        "pue_source": place.pue.source,
        "pue_of": place.pue_of.value,
        "co2eq_g": row.co2eq_g,
        "co2eq_g_low": row.co2eq_g_low,
        "co2eq_g_high": row.co2eq_g_high,
        "against_here": row.against,
        "is_here": row.is_here,
    }

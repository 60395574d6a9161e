"""Where a run was that was in several places: its processes' locations, each with the energy that was used there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from aiocarbon._core.intensity import Location, LocationUse
from aiocarbon._core.units import kwh_from_j

__all__ = ["Locations"]


class Locations:
    """The locations of a run in the making, in the order in which they came."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, str], tuple[Location, float]] = {}

    def add(self, place: Location, energy_j: float) -> None:
        """Add what was used somewhere, joules; a place that is known already stays as it was told first."""
        key = place.zone, place.name, place.region
        first, before_j = self._found.get(key, (place, 0.0))
        self._found[key] = first, before_j + energy_j

    def zones(self) -> tuple[str, ...]:
        """Their zones, each once."""
        return tuple(dict.fromkeys(zone for zone, _, _ in self._found))

    def fields(self) -> dict[str, object]:
        """The fields of a run's report: where it used most, and all its locations if there are several.

        Raises:
            ValueError: There is none.
        """
        place, _ = max(self._found.values(), key=lambda found: found[1])
        return {"location": place, "locations": tuple(self._told()) if len(self._found) > 1 else ()}

    def _told(self) -> Iterator[LocationUse]:
        for place, energy_j in self._found.values():
            known = {field.name: getattr(place, field.name) for field in dataclasses.fields(Location)}
            yield LocationUse(**known, it_energy_kwh=kwh_from_j(energy_j))

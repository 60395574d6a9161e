"""Where a run takes place, as far as small files tell: what entering waits for. `whereabouts` asks further.

Blocking: called in a worker.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from aiocarbon._core.intensity import IntensityValue, Location, Pue
from aiocarbon.settings import Settings, origin, resolve

if TYPE_CHECKING:
    from aiocarbon._core.former import Former
    from aiocarbon._core.identity import Identity


class Surroundings(NamedTuple):
    """Where a run takes place, as far as small files tell.

    Attributes:
        location: Where; a guess where nobody said so.
        intensity: What counts until a source has answered, and where none does.
        pue: Power usage effectiveness.
        cloud: The provider that the firmware names; None if none.
        first_epoch: Number of the epoch that this start of the run begins with.
        former: What earlier tries of the run measured; None if there were none, or it does not go on with them.
        notes: What a reader of the run's report must know of going on with it.
    """

    location: Location
    intensity: IntensityValue
    pue: Pue
    cloud: str | None = None
    first_epoch: int = 0
    former: Former | None = None
    notes: tuple[str, ...] = ()


def resolved(arguments: Mapping[str, Any]) -> Settings:
    """The settings in force, with the run's id and folder where `resume` says which run goes on; blocking.

    Raises:
        ConfigError: A value is not accepted.
    """
    settings = resolve(arguments)
    if settings.resume is None or isinstance(settings.resume, int):
        return settings
    from aiocarbon._engine.resuming import run_meant

    folder, run_id = run_meant(settings.resume, settings.journal)
    return replace(settings, resume=True, journal=folder, run_id=run_id)


def surroundings(
    settings: Settings,
    arguments: Mapping[str, Any],
    who: Identity | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Surroundings:
    """The first answer; blocking.

    Args:
        settings: Those in force.
        arguments: What of them was given in the program.
        who: Which process of which run this is; None where none begins, so that none goes on.
        environ: Environment variables.

    Raises:
        ConfigError: A value of the environment or a file is not accepted.
    """
    from aiocarbon.intensity import dmi, location

    how = "given"
    if settings.location is not None and "location" not in arguments:
        how = "environment" if origin("location", arguments, environ).startswith("AIOCARBON_") else "pyproject.toml"
    place = location.find(settings.location, how=how)
    first = placed(settings, place)
    first = first._replace(cloud=dmi.provider() if place.is_guess and not settings.offline else None)
    if settings.resume is None or who is None:
        return first
    from aiocarbon._engine.resuming import resumed

    return first._replace(**resumed(settings, who))


def placed(settings: Settings, place: Location) -> Surroundings:
    """What follows from a place: the intensity to fall back on, and the PUE; blocking."""
    from aiocarbon.intensity import pue, table

    given = settings.intensity
    value = table.given(given) if isinstance(given, int | float) else table.average(place.zone)
    return Surroundings(location=place, intensity=value, pue=pue.find(settings.pue, region=place.region))

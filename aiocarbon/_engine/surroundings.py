"""Where a run takes place, as far as small files tell: what entering waits for. `whereabouts` asks further.

Blocking: called in a worker.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from aiocarbon._core.intensity import IntensityValue, Location, Pue
from aiocarbon.settings import Settings, origin


class Surroundings(NamedTuple):
    """Where a run takes place, as far as small files tell.

    Attributes:
        location: Where; a guess where nobody said so.
        intensity: What counts until a source has answered, and where none does.
        pue: Power usage effectiveness.
        cloud: The provider that the firmware names; None if none.
        first_epoch: Number of the epoch that this start of the run begins with.
    """

    location: Location
    intensity: IntensityValue
    pue: Pue
    cloud: str | None = None
    first_epoch: int = 0


def surroundings(
    settings: Settings, arguments: Mapping[str, Any], environ: Mapping[str, str] = os.environ
) -> Surroundings:
    """The first answer; blocking.

    Raises:
        ConfigError: A value of the environment or a file is not accepted.
    """
    from aiocarbon.intensity import dmi, location

    how = "given"
    if settings.location is not None and "location" not in arguments:
        how = "environment" if origin("location", arguments, environ).startswith("AIOCARBON_") else "pyproject.toml"
    place = location.find(settings.location, how=how)
    first = placed(settings, place)
    return first._replace(
        cloud=dmi.provider() if place.is_guess and not settings.offline else None, first_epoch=_first_epoch(settings)
    )


def _first_epoch(settings: Settings) -> int:
    """With which epoch this start of the run begins."""
    if settings.resume is None or settings.resume is not True:
        return settings.resume or 0
    if settings.journal is None:
        return 0
    from aiocarbon._engine.launch import identify
    from aiocarbon.journal.prior import epochs_done

    return epochs_done(settings.journal / (settings.run_id or identify().run_id))


def placed(settings: Settings, place: Location) -> Surroundings:
    """What follows from a place: the intensity to fall back on, and the PUE; blocking."""
    from aiocarbon.intensity import pue, table

    given = settings.intensity
    value = table.given(given) if isinstance(given, int | float) else table.average(place.zone)
    return Surroundings(location=place, intensity=value, pue=pue.find(settings.pue, region=place.region))

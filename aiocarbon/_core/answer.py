"""What sources of carbon intensity say, before it becomes a curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from aiocarbon._core.intensity import FactorBasis, IntensityKind, Quality


class Sample(NamedTuple):
    """One statement of a source: so much from one instant (UTC seconds since 1970) up to another."""

    from_s: float
    to_s: float
    g_per_kwh: float
    quality: Quality


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a source said of one zone; all of it of one kind and one factor basis.

    Attributes:
        source: Its name in the registry: "energidataservice".
        title: Its name for people, as reports print it.
        zone: The zone the values are of, which may be wider than the one asked for ("SE" for "SE-SE3").
        kind: Average or marginal.
        factor_basis: Direct or life-cycle.
        samples: At least one; ascending, none overlaps the next.
        note: What a user should know; empty if nothing.
        whole: From when up to when (UTC seconds) this is all that is said, so that what was said there before and is
            not now counts no more; None: what it leaves out may still hold.
    """

    source: str
    title: str
    zone: str
    kind: IntensityKind
    factor_basis: FactorBasis
    samples: tuple[Sample, ...]
    note: str = ""
    whole: tuple[float, float] | None = None

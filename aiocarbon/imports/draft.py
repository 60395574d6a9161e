"""A run as another tool told it, and the records of its journal.

Its instants are of the wall clock alone: a draft has a boot of its own, so nothing that is imported is ever taken for
a reading of a device that something else measured, nor merged with it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any, Final, NamedTuple

from aiocarbon._core.curve import State
from aiocarbon._core.intensity import MAX_G_PER_KWH, FactorBasis, IntensityValue, Location, Pue, Quality
from aiocarbon._core.reading import Device
from aiocarbon._core.units import ns_from_s
from aiocarbon.intensity import table
from aiocarbon.journal import records

__all__ = ["Draft", "Told", "Window", "can_be", "journal_of", "run_id_of", "told_intensity", "utc_s", "zone_of"]

NAME_MOST: Final = 200
"""Characters of a run's name, as in `Settings`."""

LATEST_S: Final = 4e9
"""UTC seconds, in the year 2096: what lies beyond is no time of a log."""


class Told(NamedTuple):
    """What is known of one device in one window.

    Attributes:
        energy_j: Joules that the tool told.
        under_j: How much less it may have been where the tool filled a hole.
        over_j: How much more, likewise, or where nothing was measured.
        missing_ns: Nanoseconds that no reading vouches for.
    """

    energy_j: float
    under_j: float = 0.0
    over_j: float = 0.0
    missing_ns: int = 0


class Window(NamedTuple):
    """A stretch of time; those of a draft follow on each other without a gap.

    Attributes:
        begin_ns: UTC nanoseconds.
        end_ns: Likewise, above `begin_ns`.
        is_epoch: Whether it is an epoch.
        told: What is known, by device in the draft's order.
    """

    begin_ns: int
    end_ns: int
    is_epoch: bool
    told: tuple[Told, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One run of another tool.

    Attributes:
        tool: Which.
        version: Its version; empty where the log does not say.
        run_id: The same for the same run, however often and from wherever it is imported.
        name: What the run was called.
        location: Where it ran, as far as the tool found out.
        pue: The PUE that the tool counted.
        intensity: Values by the UTC second from which each holds.
        devices: What was measured or assumed.
        windows: When, and how much.
        slack_j: By how much a window's energy may be wrong for the rounding of its length, by device.
        missing: Parts of the machine that the tool tried to tell and could not.
        warnings: What a reader of the figures must know.
        ended_well: False if its log breaks off.
    """

    tool: str
    version: str
    run_id: str
    name: str
    location: Location
    pue: Pue
    intensity: tuple[tuple[float, IntensityValue], ...]
    devices: tuple[Device, ...]
    windows: tuple[Window, ...]
    slack_j: tuple[float, ...]
    missing: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    ended_well: bool = True

    @property
    def epochs(self) -> int:
        """How many there are."""
        return sum(window.is_epoch for window in self.windows)

    @property
    def it_energy_j(self) -> float:
        """Joules of all devices, without PUE."""
        return sum(told.energy_j for window in self.windows for told in window.told)


def journal_of(draft: Draft) -> str:
    """The text of its journal: the same for the same draft.

    Args:
        draft: With at least one window.
    """
    return "".join(records.line(record) for record in _records(draft))


def _records(draft: Draft) -> Iterator[records.Record]:
    begin_ns = draft.windows[0].begin_ns
    yield {
        "schema": records.SCHEMA,
        "run_id": draft.run_id,
        "name": draft.name[:NAME_MOST],
        "host": "",  # no tool's log says it
        "pid": 0,
        "boot_id": f"imported-{draft.run_id}",
        "tool": draft.tool,
        "version": draft.version,
        **records.place_record(draft.location, draft.pue),
        "t": begin_ns,
        "wall_ns": begin_ns,
    }
    for n, device in enumerate(draft.devices):
        yield records.device_record(n, device, "imported", 0.0)
    for from_s, value in draft.intensity:
        yield records.intensity_record(value, from_s)
    for text in draft.warnings:
        yield {"k": "warning", "t": begin_ns, "text": text}
    sums = [State(0.0, 0.0, 0.0, 0.0, slack_j) for slack_j in draft.slack_j]
    yield {"k": "mark", "m": 0, "t": begin_ns, **records.states_record(sums)}
    epoch = 0
    for n, window in enumerate(draft.windows):
        sums = [_after(state, told) for state, told in zip(sums, window.told, strict=True)]
        yield {"k": "mark", "m": n + 1, "t": window.end_ns, **records.states_record(sums)}
        if window.is_epoch:
            yield {"k": "epoch", "i": epoch, "b": n, "e": n + 1, "steps": 0, "partial": False}
            epoch += 1
    if draft.ended_well:
        report = {"scope": {"missing": list(draft.missing)}}
        yield {"k": "end", "t": draft.windows[-1].end_ns, "ended_well": True, "report": report}


def _after(state: State, told: Told) -> State:
    return State(
        state.energy_j + told.energy_j,
        state.under_j + told.under_j,
        state.over_j + told.over_j,
        state.missing_ns + told.missing_ns,
        state.slack_j,
    )


# -- what both tools' logs need ----------------------------------------------------------------------------------------


def run_id_of(tool: str, word: str, *more: str) -> str:
    """A run's id out of what tells it from all others in its tool's log.

    Args:
        tool: Which tool.
        word: What people know it by, such as its file's name; what an id may not hold is left out.
        more: What else tells it from others; stands in the id as a few digits.
    """
    digest = hashlib.sha256(json.dumps([word, *more]).encode()).hexdigest()[:8]
    return f"{tool}-{re.sub(r'[^A-Za-z0-9._-]+', '_', word)[:60]}-{digest}"


def utc_s(local: datetime, zone: tzinfo | None) -> float:
    """UTC seconds since 1970 of a time in a log.

    Args:
        local: As the log has it.
        zone: The time zone of the machine that wrote it; None: that of this machine. Not used where `local` has one.
    """
    return (local if local.tzinfo is not None or zone is None else local.replace(tzinfo=zone)).timestamp()


def can_be(begin_s: float, end_s: float) -> bool:
    """Whether a time of a log, UTC seconds, has a length above 0 and lies in 1970 to 2096."""
    return 0.0 < begin_s < end_s < LATEST_S


def zone_of(code: str, tool: str) -> Location:
    """The location that a country's code in a log names; the world where it names none that is known."""
    from aiocarbon.errors import ConfigError

    try:
        found = table.parse_zone(code) if code else None
    except ConfigError:
        found = None
    if found is None:
        return Location(zone=table.WORLD, name="the world", how="world", is_guess=True)
    return Location(zone=found.zone, name=found.name, how=f"as {tool} says", is_guess=False)


def told_intensity(g_per_kwh: float, zone: str, source: str, note: str) -> IntensityValue | None:
    """The carbon intensity that a tool counted with; None where that is no intensity.

    Args:
        g_per_kwh: What it counted.
        zone: Of which zone; the range is that of all countries where it is the world.
        source: Who says so.
        note: What a reader should know of it.
    """
    if not 0.0 <= g_per_kwh <= MAX_G_PER_KWH:  # nan fails too
        return None
    low, high = g_per_kwh * (1.0 - table.ASSUMED_SPREAD), g_per_kwh * (1.0 + table.ASSUMED_SPREAD)
    if zone == table.WORLD:
        world = table.average(zone)
        low, high = min(low, world.low_g_per_kwh), max(high, world.high_g_per_kwh)
    return IntensityValue(
        g_per_kwh=g_per_kwh,
        low_g_per_kwh=low,
        high_g_per_kwh=high,
        source=source,
        zone=zone,
        quality=Quality.AVERAGE,
        factor_basis=FactorBasis.UNKNOWN,
        note=note,
    )


def total_ns(seconds: Iterable[float]) -> list[int]:
    """Nanoseconds, each at least one above the last."""
    found: list[int] = []
    for at_s in seconds:
        at = ns_from_s(at_s)
        found.append(max(at, found[-1] + 1) if found else at)
    return found


def word_of(value: Any) -> str:
    """A value as a word of a sentence, on one line."""
    return " ".join(str(value).split())[:NAME_MOST]

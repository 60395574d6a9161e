"""Sums of several runs by day, week, month, name or host: what each group is, and where a time is cut for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from aiocarbon._core.report import Quantities
from aiocarbon._core.units import NS_PER_S

__all__ = ["By", "GroupReport", "periods"]


class By(StrEnum):
    """By what runs are summed; days, weeks (from Monday on, ISO 8601) and months are those of UTC."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    NAME = "name"
    HOST = "host"


PERIODS: Final = frozenset({By.DAY, By.WEEK, By.MONTH})


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupReport(Quantities):
    """What all runs used of one group; groups add up to the total.

    Each instant of a device is in one day, week or month. By name and host, what several runs measured at one time is
    split evenly among them, so that a group may have less than its runs state.

    Attributes:
        key: "2026-11-21", "2026-W47", "2026-11", a run's name, a host.
        runs: How many runs have a part in it.
    """

    key: str
    runs: int


def periods(by: By, begin_ns: int, end_ns: int) -> Iterator[tuple[str, int, int]]:
    """The periods that a time lies in, and its parts in each.

    Args:
        by: Day, week or month.
        begin_ns: UTC nanoseconds since 1970.
        end_ns: Likewise.

    Yields:
        The key of the period, begin and end of the part.
    """
    at = begin_ns
    while at < end_ns:
        key, next_ns = _period(by, datetime.fromtimestamp(at // NS_PER_S, UTC))
        upto = min(next_ns, end_ns)
        yield key, at, upto
        at = upto


def _period(by: By, at: datetime) -> tuple[str, int]:
    """The key of the period of an instant, and the begin of the next one, UTC nanoseconds."""
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    if by is By.DAY:
        return f"{day:%Y-%m-%d}", _ns(day + timedelta(days=1))
    if by is By.WEEK:
        year, week, weekday = day.isocalendar()
        return f"{year}-W{week:02d}", _ns(day + timedelta(days=8 - weekday))
    first = day.replace(day=1)
    return f"{first:%Y-%m}", _ns((first + timedelta(days=32)).replace(day=1))


def _ns(at: datetime) -> int:
    return round(at.timestamp()) * NS_PER_S

"""A forecast as a small plot in the terminal: bars from zero, spaced by real time, labelled by local time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Final

from aiocarbon.render import numbers

__all__ = ["Step", "can_show_blocks", "cleanest", "clock_time", "plot", "zone_names"]

Step = tuple[float, float, float]
"""From and to (UTC seconds since 1970), gCO2eq/kWh: a stretch of which something is known."""

HOUR_S: Final = 3600.0
BLOCKS: Final = "▁▂▃▄▅▆▇█"
PLAIN_BLOCKS: Final = ".:#"
LINES: Final = "│└─┴"
PLAIN_LINES: Final = "|+-+"
MARK: Final = "^"
MOST_COLUMNS: Final = 120
LEAST_COLUMNS: Final = 8
AROUND_ROWS: Final = 2
"""Rows of a plot that hold no bars: the axis and its labels."""

LABEL_ROOM: Final = 7
"""Columns that a label such as "18:00" takes with its distance to the next."""

TICKS_MIN: Final = (5, 10, 15, 30, 60, 120, 180, 240, 360, 720, 1440)
"""Distances of labels, minutes of local time."""

DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def can_show_blocks(encoding: str | None) -> bool:
    """Whether a stream of that encoding can show block characters."""
    try:
        (BLOCKS + LINES).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def plot(
    steps: Sequence[Step],
    begin_s: float,
    end_s: float,
    *,
    width: int,
    height: int = 8,
    tz: tzinfo | None = None,
    blocks: bool = True,
    marks: Sequence[tuple[float, float]] = (),
) -> list[str]:
    """Steps as lines of text. A column of which nothing is known is empty; one of 0 g/kWh has the lowest bar.

    Args:
        steps: Ascending, none overlaps the next.
        begin_s: Left end, UTC seconds.
        end_s: Right end, UTC seconds, later.
        width: Longest line, characters; at least 20 are used.
        height: Rows, axis and labels included; at least 3.
        tz: Zone of the labels; None for the system's.
        blocks: False for ASCII.
        marks: Stretches (UTC seconds) that are marked in a row of their own, below the axis.
    """
    top = max((g for _, _, g in steps), default=0.0)
    label = numbers.rounded(top, 3)
    margin = len(label) + 2
    columns = min(max(width - margin, LEAST_COLUMNS), MOST_COLUMNS)
    rows = max(height - AROUND_ROWS, 1)
    levels = [_level(mean, top, rows, blocks) for mean in _means(steps, begin_s, end_s, columns)]
    upright, corner, line, tick = LINES if blocks else PLAIN_LINES
    ticks = list(_ticks(begin_s, end_s, columns, tz))
    at_ticks = {column for column, _ in ticks}
    lines = []
    for row in range(rows - 1, -1, -1):
        bars = "".join(_cell(level, row, blocks) for level in levels)
        lines.append(f"{label if row == rows - 1 else '':>{margin - 2}} {upright}{bars}".rstrip())
    axis = "".join(tick if column in at_ticks else line for column in range(columns))
    lines.append(f"{'0':>{margin - 2}} {corner}{axis}")
    if marks:
        lines.append(" " * margin + _marks(marks, begin_s, (end_s - begin_s) / columns))
    lines.append((" " * margin + _labels(ticks, columns)).rstrip())
    return lines


def cleanest(steps: Sequence[Step], span_s: float = HOUR_S) -> tuple[float, float] | None:
    """When a span of time is the cleanest: its begin (UTC seconds) and its mean, gCO2eq/kWh; the earliest of equals.

    Args:
        steps: Ascending, none overlaps the next.
        span_s: Its length, seconds.

    Returns:
        None if nowhere so long a time is known without a gap.
    """
    # The mean over a sliding window of a step series has its kinks, and so its least value, where an end is a border.
    borders = sorted({border for from_s, to_s, _ in steps for border in (from_s, to_s - span_s)})
    best: tuple[float, float] | None = None
    for at in borders:
        known_s, total = _sum(steps, at, at + span_s)
        if known_s < span_s * (1.0 - 1e-9):
            continue
        if best is None or total / known_s < best[1] * (1.0 - 1e-9):
            best = at, total / known_s
    return best


def clock_time(at_s: float, now_s: float, tz: tzinfo | None = None) -> str:
    """An instant as local time: "14:30", with the day where it is not today's: "Sun 14:30", "2026-01-02 14:30"."""
    at, now = _local(at_s, tz), _local(now_s, tz)
    if at.date() == now.date():
        return f"{at:%H:%M}"
    return f"{DAYS[at.weekday()]} {at:%H:%M}" if abs((at.date() - now.date()).days) < 6 else f"{at:%Y-%m-%d %H:%M}"


def zone_names(begin_s: float, end_s: float, tz: tzinfo | None = None) -> str:
    """What local time is called between two instants: "CET", or "CEST, then CET"."""
    first, last = (_local(at_s, tz).tzname() or "local" for at_s in (begin_s, end_s))
    return first if first == last else f"{first}, then {last}"


def _local(at_s: float, tz: tzinfo | None) -> datetime:
    return datetime.fromtimestamp(at_s, UTC).astimezone(tz)


def _sum(steps: Sequence[Step], begin_s: float, end_s: float) -> tuple[float, float]:
    """Seconds known between two instants, and the integral over them."""
    known_s = total = 0.0
    for from_s, to_s, g_per_kwh in steps:
        overlap_s = min(to_s, end_s) - max(from_s, begin_s)
        if overlap_s > 0.0:
            known_s += overlap_s
            total += overlap_s * g_per_kwh
    return known_s, total


def _means(steps: Sequence[Step], begin_s: float, end_s: float, columns: int) -> Iterator[float | None]:
    each_s = (end_s - begin_s) / columns
    for column in range(columns):
        known_s, total = _sum(steps, begin_s + column * each_s, begin_s + (column + 1) * each_s)
        yield total / known_s if known_s > 0.0 else None


def _level(mean: float | None, top: float, rows: int, blocks: bool) -> int:
    """How many of the levels of all rows a bar fills: none if nothing is known, else at least one."""
    if mean is None:
        return 0
    most = rows * len(BLOCKS if blocks else PLAIN_BLOCKS)
    return max(round(mean / top * most), 1) if top > 0.0 else 1


def _cell(level: int, row: int, blocks: bool) -> str:
    glyphs = BLOCKS if blocks else PLAIN_BLOCKS
    filled = min(level - row * len(glyphs), len(glyphs))
    return glyphs[filled - 1] if filled > 0 else " "


def _marks(marks: Sequence[tuple[float, float]], begin_s: float, each_s: float) -> str:
    """A mark below every column of which at least half lies in a stretch, and at least one for each."""
    at: set[int] = set()
    for from_s, to_s in marks:
        first, last = round((from_s - begin_s) / each_s), round((to_s - begin_s) / each_s)
        middle = int(((from_s + to_s) / 2.0 - begin_s) / each_s)
        at.update(range(first, last) if last > first else (middle,))
    return "".join(MARK if column in at else " " for column in range(max(at) + 1))


def _ticks(begin_s: float, end_s: float, columns: int, tz: tzinfo | None) -> Iterator[tuple[int, str]]:
    """Columns at which a round local time begins, with its label: the day at midnight."""
    each_s = (end_s - begin_s) / columns
    fitting = (minutes for minutes in TICKS_MIN if minutes * 60.0 / each_s >= LABEL_ROOM)
    every_min = next(fitting, TICKS_MIN[-1])
    # All offsets from UTC in use are whole quarters of an hour, so round local times lie on a grid of UTC; going along
    # that, and not along local time, a night of 23 or of 25 hours gets as many columns as it has hours.
    grid_s = 900.0 if every_min % 15 == 0 else 300.0
    at_s = math.ceil(begin_s / grid_s) * grid_s
    while at_s < end_s:
        local = _local(at_s, tz)
        minute = local.hour * 60 + local.minute
        if minute % every_min == 0:
            yield int((at_s - begin_s) / each_s), DAYS[local.weekday()] if minute == 0 else f"{local:%H:%M}"
        at_s += grid_s


def _labels(ticks: Sequence[tuple[int, str]], columns: int) -> str:
    text = ""
    for column, label in ticks:
        if column >= len(text) + (1 if text else 0) and column + len(label) <= columns:
            text = f"{text:<{column}}{label}"
    return text

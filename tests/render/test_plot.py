"""The plot of a forecast: its scale, its holes, its local times on the nights on which clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiocarbon.render.plot import Step, can_show_blocks, cleanest, clock_time, plot, zone_names

COPENHAGEN = ZoneInfo("Europe/Copenhagen")
NEPAL = timezone(timedelta(hours=5, minutes=45))
HOUR_S = 3600.0
BEGIN_S = datetime(2026, 11, 21, 12, 0, tzinfo=UTC).timestamp()


def at(*parts: int) -> float:
    return datetime(*parts, tzinfo=UTC).timestamp()  # type: ignore[misc,arg-type]  # year, month, day, hour


def hours(values: list[float | None], begin_s: float = BEGIN_S) -> list[Step]:
    return [(begin_s + i * HOUR_S, begin_s + (i + 1) * HOUR_S, g) for i, g in enumerate(values) if g is not None]


def bars(lines: list[str]) -> list[str]:
    """The rows of bars, without the margin, the top one first."""
    return [line.partition("│")[2] for line in lines if "│" in line]


def label_columns(lines: list[str]) -> dict[str, list[int]]:
    """Where each label begins, counted from the plot's left end."""
    margin = lines[-2].index("└") + 1
    found: dict[str, list[int]] = {}
    for i, word in ((i, lines[-1][i:].split(" ")[0]) for i, c in enumerate(lines[-1]) if c != " "):
        if i == 0 or lines[-1][i - 1] == " ":
            found.setdefault(word, []).append(i - margin)
    return found


def test_bars_begin_at_zero_and_the_highest_is_the_scale() -> None:
    lines = plot(hours([100.0, 50.0, 200.0, 200.0]), BEGIN_S, BEGIN_S + 4 * HOUR_S, width=22 + 5, tz=UTC)
    assert len(lines) == 8
    top, *_, bottom = bars(lines)
    assert lines[0].startswith("200 │")
    assert top == " " * 11 + "█" * 11
    assert bottom == "█" * 22
    heights = [sum(row[column : column + 1] not in {"", " "} for row in bars(lines)) for column in (2, 8, 20)]
    assert heights == [3, 2, 6]
    assert lines[6].startswith("  0 └")


def test_what_is_not_known_is_empty_and_zero_is_not() -> None:
    lines = plot(hours([100.0, None, 0.0, None]), BEGIN_S, BEGIN_S + 4 * HOUR_S, width=20 + 5, tz=UTC)
    assert bars(lines)[-1] == "█" * 5 + " " * 5 + "▁" * 5
    assert bars(plot([], BEGIN_S, BEGIN_S + HOUR_S, width=40, tz=UTC)) == [""] * 6


@pytest.mark.parametrize("width", [1, 20, 40, 72, 119, 500])
@pytest.mark.parametrize("blocks", [True, False])
def test_no_line_is_wider_than_asked_for(width: int, blocks: bool) -> None:
    lines = plot(hours([1234.0] * 24), BEGIN_S, BEGIN_S + 24 * HOUR_S, width=width, tz=UTC, blocks=blocks)
    assert max(map(len, lines)) <= max(width, 20)
    assert "\n".join(lines).isascii() is not blocks


def test_a_column_is_the_mean_of_its_time() -> None:
    values = [200.0, 0.0] * 24
    steps = [(BEGIN_S + i * 1800.0, BEGIN_S + (i + 1) * 1800.0, g) for i, g in enumerate(values)]
    lines = plot([*steps, *hours([200.0], BEGIN_S + 24 * HOUR_S)], BEGIN_S, BEGIN_S + 25 * HOUR_S, width=30, tz=UTC)
    assert [len(row.rstrip()) for row in bars(lines)] == [25, 25, 25, 25, 25, 25]
    assert bars(lines)[3][:24] == "█" * 24
    assert bars(lines)[2][:24] == " " * 24


@pytest.mark.parametrize(
    ("begin", "columns_between", "zones"),
    [
        ((2026, 10, 24, 20), 60, "CEST, then CET"),
        ((2026, 3, 28, 21), 40, "CET, then CEST"),
        ((2026, 6, 1, 20), 50, "CEST"),
    ],
)
def test_nights_on_which_clocks_change_have_their_real_length(
    begin: tuple[int, ...], columns_between: int, zones: str
) -> None:
    begin_s = at(*begin)
    end_s = begin_s + 10 * HOUR_S
    columns = label_columns(plot(hours([100.0] * 10, begin_s), begin_s, end_s, width=105, tz=COPENHAGEN))
    assert columns["03:00"][0] - columns["22:00"][0] == columns_between  # an hour is ten columns
    assert zone_names(begin_s, end_s, COPENHAGEN) == zones


def test_hour_that_comes_twice_is_shown_twice_and_the_one_left_out_never() -> None:
    autumn, spring = at(2026, 10, 24, 20), at(2026, 3, 28, 20)
    doubled = label_columns(plot([], autumn, autumn + 10 * HOUR_S, width=104, tz=COPENHAGEN))
    assert [b - a for a, b in zip(doubled["02:00"], doubled["02:00"][1:], strict=False)] == [10]
    skipped = label_columns(plot([], spring, spring + 10 * HOUR_S, width=104, tz=COPENHAGEN))
    assert "02:00" not in skipped
    assert skipped["03:00"][0] - skipped["01:00"][0] == 10


def test_midnight_is_the_new_day_s_name() -> None:
    columns = label_columns(plot([], BEGIN_S, BEGIN_S + 24 * HOUR_S, width=75, tz=UTC))
    assert columns["Sun"] == [36]
    assert "00:00" not in columns


@pytest.mark.parametrize("minutes", [30, 55, 90, 240])
def test_zones_at_three_quarters_of_an_hour_have_labels_too(minutes: int) -> None:
    assert label_columns(plot([], BEGIN_S, BEGIN_S + minutes * 60.0, width=60, tz=NEPAL))


def test_cleanest_hour_may_begin_anywhere() -> None:
    steps = [(0.0, 1800.0, 300.0), (1800.0, 4500.0, 100.0), (4500.0, 9000.0, 200.0)]
    assert cleanest(steps) == (1800.0, pytest.approx((2700.0 * 100.0 + 900.0 * 200.0) / 3600.0))
    assert cleanest(hours([5.0, 5.0, 5.0])) == (BEGIN_S, 5.0)


def test_cleanest_hour_has_no_gap_in_it() -> None:
    assert cleanest([(0.0, 1800.0, 1.0), (5000.0, 9000.0, 900.0)]) == (5000.0, 900.0)
    assert cleanest([(0.0, 1800.0, 1.0), (2000.0, 3800.0, 1.0)]) is None
    assert cleanest([]) is None


@given(st.lists(st.floats(0.0, 3000.0), min_size=4, max_size=40), st.integers(0, 39))
def test_no_other_hour_is_cleaner(values: list[float], other: int) -> None:
    steps = [(i * 900.0, (i + 1) * 900.0, g) for i, g in enumerate(values)]
    best = cleanest(steps)
    assert best is not None
    begin = other % (len(values) - 3)
    assert best[1] <= sum(values[begin : begin + 4]) / 4.0 * (1.0 + 1e-6) + 1e-6


@pytest.mark.parametrize(
    ("hours_on", "text"),
    [(0, "13:00"), (10, "23:00"), (11, "Sun 00:00"), (-14, "Fri 23:00"), (24 * 7, "2026-11-28 13:00")],
)
def test_time_of_another_day_says_which(hours_on: int, text: str) -> None:
    assert clock_time(BEGIN_S + hours_on * HOUR_S, BEGIN_S, COPENHAGEN) == text


def test_blocks_are_shown_where_the_stream_can() -> None:
    assert can_show_blocks("utf-8")
    assert can_show_blocks("UTF8")
    assert not can_show_blocks("ascii")
    assert not can_show_blocks("latin-1")
    assert not can_show_blocks(None)
    assert not can_show_blocks("no-such-encoding")

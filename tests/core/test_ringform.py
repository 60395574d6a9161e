"""The layout of a ring: what is written comes back, what is torn does not."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiocarbon._core import ringform as form
from aiocarbon._core.curve import Point
from aiocarbon._core.ringform import Pulse, Record, Title
from aiocarbon._core.standing import Carried

INSTANTS = st.integers(0, 2**62)
SUMS = st.floats(0.0, 1e15)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-.:", min_size=1, max_size=form.NAME_BYTES)

PULSES = st.builds(Pulse, *[INSTANTS] * 5, *[st.booleans()] * 4)
TITLES = st.builds(Title, st.booleans(), INSTANTS, INSTANTS, st.integers(-1, 2**62), NAMES, NAMES)
POINTS = st.builds(Point, INSTANTS, SUMS, SUMS, SUMS, SUMS, SUMS, SUMS)
CARRIED = st.builds(
    Carried, POINTS, SUMS, INSTANTS, INSTANTS, st.booleans(), INSTANTS, INSTANTS, INSTANTS, st.just(float("inf")), SUMS
)


@given(PULSES, TITLES, CARRIED)
def test_what_is_written_comes_back(pulse: Pulse, title: Title, carried: Carried) -> None:
    assert form.pulse_from(form.pack_pulse(pulse)) == pulse
    assert form.title_from(form.pack_title(title)) == title
    assert form.carried_from(form.pack_carried(carried)) == carried


@given(INSTANTS, INSTANTS, INSTANTS, st.integers(0, 2**62), SUMS)
def test_counters_stay_integers_and_watts_stay_floats(number: int, t_ns: int, half_ns: int, uj: int, w: float) -> None:
    counter, power = Record(number, t_ns, half_ns, uj), Record(number, t_ns, half_ns, w)
    assert form.record_from(form.pack_record(counter, is_energy=True), is_energy=True) == counter
    assert form.record_from(form.pack_record(power, is_energy=False), is_energy=False) == power


@given(PULSES, PULSES, st.integers(1, form.PULSE_SIZE - 1))
def test_what_was_half_overwritten_is_not_taken(old: Pulse, new: Pulse, cut: int) -> None:
    torn = form.pack_pulse(new)[:cut] + form.pack_pulse(old)[cut:]
    assert form.pulse_from(torn) in (None, old, new)
    assert form.pulse_from(torn[:-1]) is None


def test_a_fresh_file_holds_nothing() -> None:
    empty = bytes(form.SIZE)
    assert form.title_from(empty[: form.TITLE_SIZE]) is None
    assert form.pulse_from(empty[: form.PULSE_SIZE]) is None
    assert form.carried_from(empty[: form.CARRIED_SIZE]) is None
    assert form.records_from(empty[form.RECORDS_AT :], is_energy=True) == []
    assert form.title_from(b"") is None


def test_readings_come_in_their_order_also_after_the_ring_went_round() -> None:
    numbers = range(700, 700 + form.RECORDS)
    data = bytearray(form.SIZE)
    for n in numbers:
        at = form.record_at(n)
        data[at : at + form.RECORD_SIZE] = form.pack_record(Record(n, n, 0, n), is_energy=True)
    found = form.records_from(bytes(data[form.RECORDS_AT :]), is_energy=True)
    assert [record.number for record in found] == list(numbers)


def test_a_title_of_another_layout_is_none_of_ours() -> None:
    title = form.pack_title(Title(True, 1, 0, -1, "a", "bell.1"))
    assert form.title_from(title.replace(form.MAGIC, b"aiocarb0")) is None


def test_a_name_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than 64"):
        form.pack_title(Title(True, 1, 0, -1, "x" * 65, "bell.1"))


def test_the_parts_do_not_overlap() -> None:
    parts = [
        (form.TITLE_AT, form.TITLE_SIZE),
        (form.PULSE_AT, form.PULSE_SIZE),
        *((at, form.CARRIED_SIZE) for at in form.CARRIED_AT),
        (form.RECORDS_AT, 0),
    ]
    assert all(at + size <= following for (at, size), (following, _) in pairwise(parts))

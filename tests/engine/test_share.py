"""One device's place among processes: what is published, what is taken, and what a broken ring does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from aiocarbon._core import ringform as form
from aiocarbon._core.reading import Basis, Device, DeviceKind, Quantity, Reading
from aiocarbon._core.ringform import Title
from aiocarbon._engine import ring
from aiocarbon._engine.hops import read_one
from aiocarbon._engine.share import Role, Share, pulse_of
from aiocarbon._engine.track import Track, make_track
from aiocarbon.meters.base import Inventory

MS = 1_000_000
LINE = "line"


class Power:
    """A sensor that says 100 W, each time 20 ms later."""

    name = "power"

    def __init__(self) -> None:
        self.t_ns = 0

    def open(self, covered: frozenset[object] = frozenset()) -> Inventory:
        return Inventory(devices=(device(),))

    def read(self, device: Device) -> Reading:
        self.t_ns += 20 * MS
        return Reading(self.t_ns, self.t_ns, 100.0)

    def close(self) -> None:
        pass


def device(quantity: Quantity = Quantity.POWER) -> Device:
    basis = Basis.POWER if quantity is Quantity.POWER else Basis.COUNTER
    return Device(id="d", kind=DeviceKind.GPU, name="d", quantity=quantity, basis=basis, refresh_s=0.02)


def track_of(share: Share | None, quantity: Quantity = Quantity.POWER) -> Track:
    track = make_track(device(quantity), Power(), LINE, 1000 * MS)
    track.share = share
    return track


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def reading_share(folder: int, number: int = 1, quantity: Quantity = Quantity.POWER) -> Share:
    share = Share("d")
    title = Title(quantity is Quantity.ENERGY, 1, 0, -1, LINE, "bell.1")
    writer = ring.make(folder, f"d.{number}", title, pulse_of(track_of(None, quantity), 0))
    assert writer is not None
    share.read(number, writer, 0)
    return share


def following_share(folder: int, number: int = 1) -> Share:
    share = Share("d")
    reader = ring.read(folder, f"d.{number}")
    assert reader is not None
    share.follow(number, reader, 0)
    return share


def curve_of(track: Track) -> list[tuple[float, ...]]:
    curve = track.derivation.curve
    return [tuple(curve[i]) for i in range(len(curve))]


def read(track: Track, count: int) -> None:
    for _ in range(count):
        result = read_one(track)
        assert isinstance(result, Reading)
        track.derivation.add(result)
        if track.share is not None:
            track.share.carry(track)


def test_who_follows_from_the_beginning_has_the_reader_s_curve(folder: int) -> None:
    reader, follower = track_of(reading_share(folder)), track_of(following_share(folder))
    assert follower.share is not None
    for count in (1, 10, 300):
        read(reader, count)
        assert follower.share.drain(follower) == count
        assert follower.share.drain(follower) == 0
        assert curve_of(follower) == curve_of(reader)


@pytest.mark.parametrize("before", [5, 600, 3000])
def test_who_comes_later_is_on_the_reader_s_line(folder: int, before: int) -> None:
    reader = track_of(reading_share(folder))
    read(reader, before)
    follower = track_of(following_share(folder))
    assert follower.share is not None
    follower.share.catch_up(follower)
    read(reader, 10)
    follower.share.drain(follower)
    assert follower.derivation.curve[-1] == reader.derivation.curve[-1]


def test_who_was_away_for_long_finds_the_line_again_and_misses_nothing(folder: int) -> None:
    reader, follower = track_of(reading_share(folder)), track_of(following_share(folder))
    assert follower.share is not None
    read(reader, 10)
    follower.share.drain(follower)
    read(reader, 3 * form.RECORDS)
    follower.share.drain(follower)
    assert follower.derivation.curve[-1] == reader.derivation.curve[-1]
    assert follower.derivation.curve[-1].missing_ns == 0


def test_who_takes_over_goes_on_with_the_line(folder: int) -> None:
    first, second, third = (track_of(s) for s in (reading_share(folder), following_share(folder), None))
    assert first.share is not None
    assert second.share is not None
    read(first, 700)
    second.share.drain(second)
    first.share.leave()
    title = Title(False, 2, 0, -1, LINE, "bell.2")
    derivation = second.derivation
    writer = ring.make(folder, "d.2", title, pulse_of(second, 0), derivation.carried, derivation.kept())
    assert writer is not None
    second.share.read(2, writer, 0)
    assert isinstance(second.meter, Power)
    second.meter.t_ns = derivation.last_read_ns or 0
    read(second, 50)
    third.share = following_share(folder, 2)
    third.share.catch_up(third)
    assert third.derivation.curve[-1] == second.derivation.curve[-1]
    assert third.derivation.curve[-1].energy_j == pytest.approx(100 * 749 * 0.02)


def test_what_is_read_after_being_replaced_does_not_count(folder: int, tmp_path: Path) -> None:
    track = track_of(reading_share(folder))
    read(track, 1)
    (tmp_path / "d.1").unlink()
    assert isinstance(track.meter, Power)
    track.meter.t_ns += 10_000 * MS  # it stood still
    assert read_one(track) is None
    assert track.share is not None
    assert track.share.is_replaced
    assert not track.is_own
    assert not track.is_readable


def test_a_counter_says_the_same_to_all_so_it_counts_whoever_reads_it(folder: int) -> None:
    track = track_of(reading_share(folder, quantity=Quantity.ENERGY), Quantity.ENERGY)
    assert track.share is not None
    track.share.leave()
    assert track.share.role is Role.NEITHER
    assert isinstance(read_one(track), Reading)


def test_a_ring_that_cannot_be_written_ends_the_sharing_and_not_the_reading(folder: int) -> None:
    share = reading_share(folder)
    assert share.writer is not None
    os.close(share.writer.fd)
    track = track_of(share)
    assert isinstance(read_one(track), Reading)
    assert share.is_broken
    assert isinstance(read_one(track), Reading)
    share.writer.fd = -1
    share.leave()


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), 1e300])
def test_what_no_sensor_says_is_not_shown_to_others(folder: int, value: float) -> None:
    share = reading_share(folder)
    assert share.publish(Reading(0, 0, value), is_counter=False)
    assert following_share(folder).reader.everything() == []  # type: ignore[union-attr]  # it has one


def test_how_the_device_does_is_told_to_those_who_follow(folder: int) -> None:
    reader, follower = track_of(reading_share(folder)), track_of(following_share(folder))
    assert reader.share is not None
    assert follower.share is not None
    reader.derivation.set_refresh(77 * MS, MS)
    reader.is_slow = True
    reader.share.lost_ns = 5
    reader.share.tell(reader, beat_ns=3, is_followed=True)
    follower.share.catch_up(follower)
    assert follower.derivation.curve.refresh_ns == 77 * MS
    assert follower.is_slow
    assert follower.share.lost_ns == 5


def test_who_reads_is_said_in_the_device_s_note_beside_its_own() -> None:
    track = track_of(None)
    share = Share("d")
    track.device = replace(track.device, note="whole board")
    share.note(track, "read by process 7")
    assert track.device.note == track.derivation.curve.device.note == "whole board; read by process 7"
    share.note(track, "")
    assert track.device.note == "whole board"

"""How readings lie in a ring that processes share: fixed places, each with a checksum that shows what is torn.

| bytes | what | written |
|---|---|---|
| 0 to 511 | `Title`: who writes, of what | once, before others can see the ring |
| 512 to 639 | `Pulse`: how the writer and the device are doing | when that changes, and as a heartbeat |
| 640 to 895 | two places of `Carried` | in turn, so that one of them is always whole |
| 896 on | `RECORDS` readings, number n at place n modulo `RECORDS` | as they are taken |

Microjoules are written as integers and watts as floats, as the device's quantity says.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from typing import Final, NamedTuple

from aiocarbon._core.curve import Point
from aiocarbon._core.standing import Carried

MAGIC: Final = b"aiocarb2"
"""First bytes of a ring; another layout has others."""

RECORDS: Final = 1024
"""Readings in a ring: five seconds at the quickest pace; a derivation keeps 512 at most."""

TITLE_AT: Final = 0
PULSE_AT: Final = 512
CARRIED_AT: Final = (640, 768)
RECORDS_AT: Final = 896
NAME_BYTES: Final = 64
POINT_FIELDS: Final = len(Point._fields)

_TITLE: Final = struct.Struct(f"<8s?qqq{NAME_BYTES}s{NAME_BYTES}s")
_PULSE: Final = struct.Struct("<qqqqq????")
_CARRIED: Final = struct.Struct("<q6ddqq?qqqdd")
_RECORDS: Final = {True: struct.Struct("<qqqq"), False: struct.Struct("<qqqd")}
_CRC: Final = struct.Struct("<I")

TITLE_SIZE: Final = _TITLE.size + _CRC.size
PULSE_SIZE: Final = _PULSE.size + _CRC.size
CARRIED_SIZE: Final = _CARRIED.size + _CRC.size
RECORD_SIZE: Final = _RECORDS[True].size + _CRC.size
SIZE: Final = RECORDS_AT + RECORDS * RECORD_SIZE


class Title(NamedTuple):
    """What a ring is, for all its life.

    Attributes:
        is_energy: True for microjoules, False for watts.
        pid: The writing process, for people: elsewhere the number may mean another one.
        boot_offset_ns: Boot clock minus monotonic clock, as in the writer's journal.
        zero_ns: Where a made-up device's time begins, monotonic nanoseconds; -1 for a real one.
        segment: Names the line of energy that the readings go on with.
        bell: The file through which the writer is asked for a reading.
    """

    is_energy: bool
    pid: int
    boot_offset_ns: int
    zero_ns: int
    segment: str
    bell: str


class Pulse(NamedTuple):
    """How a ring's writer and its device are doing.

    Attributes:
        beat_ns: When the writer last said that it lives, monotonic nanoseconds; it does while somebody follows.
        lost_ns: When the device was last lost; 0 if it never was.
        refresh_ns: How often the sensor's value changes.
        jitter_ns: How irregularly.
        pace_ns: Intended time between two readings.
        is_probed: True once the refresh is known, or was sought in vain.
        is_slow: True while the device does not answer in time.
        is_left: True once the writer gave the ring up.
        is_followed: True while others follow.
    """

    beat_ns: int
    lost_ns: int
    refresh_ns: int
    jitter_ns: int
    pace_ns: int
    is_probed: bool
    is_slow: bool
    is_left: bool
    is_followed: bool


class Record(NamedTuple):
    """One reading in a ring.

    Attributes:
        number: Counts the ring's readings from 0.
        t_ns: Its instant, monotonic nanoseconds.
        half_ns: Half the duration of the read.
        value: Microjoules or watts.
    """

    number: int
    t_ns: int
    half_ns: int
    value: float


def record_at(number: int) -> int:
    """Where in the file a reading lies."""
    return RECORDS_AT + number % RECORDS * RECORD_SIZE


def pack_title(title: Title) -> bytes:
    """A title as bytes.

    Raises:
        ValueError: A name is longer than `NAME_BYTES`, or not ASCII.
    """
    segment, bell = title.segment.encode("ascii"), title.bell.encode("ascii")
    if max(len(segment), len(bell)) > NAME_BYTES:
        raise ValueError(f"{title.segment!r} or {title.bell!r} is longer than {NAME_BYTES} bytes")
    return _sealed(_TITLE.pack(MAGIC, *title[:4], segment, bell))


def title_from(data: bytes) -> Title | None:
    """The title of these bytes; None if they are none of this layout."""
    body = _whole(data)
    if body is None or len(body) != _TITLE.size or not body.startswith(MAGIC):
        return None
    _, is_energy, pid, offset_ns, zero_ns, segment, bell = _TITLE.unpack(body)
    return Title(is_energy, pid, offset_ns, zero_ns, _name(segment), _name(bell))


def pack_pulse(pulse: Pulse) -> bytes:
    """A pulse as bytes."""
    return _sealed(_PULSE.pack(*pulse))


def pulse_from(data: bytes) -> Pulse | None:
    """The pulse of these bytes; None if they are torn."""
    body = _whole(data)
    return None if body is None else Pulse(*_PULSE.unpack(body))


def pack_carried(carried: Carried) -> bytes:
    """Where a derivation stood, as bytes."""
    return _sealed(_CARRIED.pack(*carried.point, *carried[1:]))


def carried_from(data: bytes) -> Carried | None:
    """Where a derivation stood; None if nothing was written there, or it is torn."""
    body = _whole(data)
    if body is None:
        return None
    fields = _CARRIED.unpack(body)
    return Carried(Point(*fields[:POINT_FIELDS]), *fields[POINT_FIELDS:])


def pack_record(record: Record, *, is_energy: bool) -> bytes:
    """A reading as bytes."""
    number, t_ns, half_ns, value = record
    return _sealed(_RECORDS[is_energy].pack(number, t_ns, half_ns, int(value) if is_energy else float(value)))


def record_from(data: bytes, *, is_energy: bool) -> Record | None:
    """The reading of these bytes; None if nothing was written there, or it is torn."""
    body = _whole(data)
    return None if body is None else Record(*_RECORDS[is_energy].unpack(body))


def records_from(data: bytes, *, is_energy: bool) -> list[Record]:
    """All readings of a ring's last part, in their order.

    Args:
        data: The file from `RECORDS_AT` on.
        is_energy: Of its title.
    """
    pieces: Iterable[bytes] = (data[i : i + RECORD_SIZE] for i in range(0, len(data), RECORD_SIZE))
    found = (record_from(piece, is_energy=is_energy) for piece in pieces)
    return sorted(record for record in found if record is not None)


def _sealed(body: bytes) -> bytes:
    return body + _CRC.pack(zlib.crc32(body))


def _whole(data: bytes) -> bytes | None:
    """What the checksum at the end vouches for."""
    body = data[: -_CRC.size]
    if len(data) <= _CRC.size or _CRC.unpack(data[-_CRC.size :]) != (zlib.crc32(body),):
        return None
    return body


def _name(text: bytes) -> str:
    return text.rstrip(b"\0").decode("ascii", "replace")

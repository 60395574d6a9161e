"""What stands in a journal: the records' fields, made and read here and nowhere else.

A journal is a file of JSON objects, one a line. All instants `t` are nanoseconds of the machine's boot clock, all
energies integer microjoules since the segment's origin, all cumulative, as are the variances `h` of what samples of a
power hide, square millijoules:

| record | fields |
|---|---|
| header (first line) | schema, run_id, name, host, pid, boot_id, version, interval_s, location, pue, t, wall_ns |
| `device` | n (its place in the arrays), segment, and the fields of `Device`; `share`: those of `ShareOf` |
| `tick` | t, e (energy by device, null where unknown), x, h (only where not zero, by n: under, over, missing; hidden) |
| `mark` | t, m (index), e, x, h, s (error of the edge); `late`: states known only afterwards |
| `epoch` | i, b and e (indices of its marks), steps, partial |
| `intensity` | from_s and the fields of `IntensityValue`; `void_to_s`: what was written for from_s up to it is void |
| `place` | location, pue: found out after the header was written |
| `wall` | t, wall_ns: the wall clock was set |
| `warning` | t, text |
| `spans` | t, totals by name of span, by owner and device (`accounts.py`); the newest counts; also in the tail |
| `child` | name, i, s (seconds), uj, ng (nanograms), steps, partial, final: an epoch of a child |
| `prediction` | at_s (UTC), epochs, seen, and kwh, g, s of the whole run: value, low, high (`outlooks.py`) |
| `ahead` | the first forecast: at_s, until_s (UTC), steps (from_s, g/kWh), source, zone, kind, factor_basis |
| `end` | t, ended_well, report (without its epochs, spans and children, which stand above) |

A header with a `tool` is of a journal that was made of another tool's log; `version` is then that tool's.

The header also says who the process is, as `_core/identity.py` decides it. Absent and null mean: not known.

- `job`: the job as its launcher knows it, "slurm-CLUSTER-ID" or "torchrun-ID"; "" for none.
- `attempt`: names the start of the run that the process belongs to. Processes of one start bear one name where the
  environment tells them (also on several nodes), else each its own. Time between attempts is never counted. One attempt
  is a later try of another only if it began after the other had ended; else they are parts of one start that could not
  know of each other.
- `restart`: how often the launcher had started the job before, 0 for the first time; where two differ, the larger one
  is the later try.
- `rank`, `world`, `local_rank`: the process's number among `world`, and on its node: hints, never a key.
- `expected_nodes`: names (as `host` has them) of the attempt's nodes, in SLURM's short form "n[1-3]" or as an array.
  What of them is no `host` of any attempt of the same `restart` was not measured. `expected_node_count`: how many,
  known also where the names are not.
- `expected_tasks`: how many processes the attempt has; not each of them need write a journal.
- `machine`: the node name that tells this machine from others of one boot id (clones of a virtual machine, several
  slurmd on one host): a device's machine is (boot_id, `machine`); "" where the boot id alone is known.
- `machine_id`: a hash of the operating system's machine id; `time_namespace`: the kernel's name of the namespace whose
  boot clock `t` is of; `rules`: how all this was found out, in words.

- `resumes`: true if the process knew of earlier tries of its run and goes on with them; journals are put together alike
  whether it did or not.

Readers ignore records and fields that they do not know.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from aiocarbon._core import nodelist
from aiocarbon._core.curve import State
from aiocarbon._core.identity import Identity
from aiocarbon._core.intensity import (
    MAX_G_PER_KWH,
    FactorBasis,
    IntensityKind,
    IntensityValue,
    Location,
    Pue,
    Quality,
)
from aiocarbon._core.reading import Basis, Device, DeviceKind, Part, Quantity, Role, ShareOf
from aiocarbon._core.units import J2_PER_MJ2, UJ_PER_J
from aiocarbon.journal.plain import count, number, seconds

SCHEMA: Final = "aiocarbon.journal/1"
FAMILY: Final = "aiocarbon.journal/"
MOST_HIGH_G: Final = 10 * MAX_G_PER_KWH
"""gCO2eq/kWh of an upper end; the range of a value that can be may reach beyond the most that a value can be."""

MOST_FACTOR: Final = 1e6
"""An end of a device's range, as a multiple of what it states."""

MOST_PUE: Final = 1000.0

Record = dict[str, Any]


def line(record: Mapping[str, Any]) -> str:
    """One record as one line."""
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False, allow_nan=False) + "\n"


def sealed(record: Mapping[str, Any]) -> bytes:
    """The record of a tail file, with its checksum and length in front."""
    body = json.dumps(record, separators=(",", ":"), allow_nan=False).encode()
    return b"%08x %08d " % (zlib.crc32(body), len(body)) + body + b"\n"


def unsealed(data: bytes) -> Record | None:
    """The record of a tail file; None if it is torn or foreign."""
    try:
        crc, length = int(data[:8], 16), int(data[9:17])
        body = data[18 : 18 + length]
        if len(body) != length or zlib.crc32(body) != crc:
            return None
        record = json.loads(body)
    except (ValueError, UnicodeDecodeError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def device_record(n: int, device: Device, segment: str, refresh_s: float) -> Record:
    """A device's own record."""
    return {
        "k": "device",
        "n": n,
        "segment": segment,
        "id": device.id,
        "kind": str(device.kind),
        "name": device.name,
        "quantity": str(device.quantity),
        "basis": str(device.basis),
        "covers": sorted(str(part) for part in device.covers),
        "counted": device.counted,
        "refresh_s": refresh_s,
        "low_factor": device.low_factor,
        "high_factor": device.high_factor,
        "lag_s": device.lag_s,
        "max_power_w": device.max_power_w,
        "origin": device.origin,
        "note": device.note,
        **({} if device.share is None else {"share": dataclasses.asdict(device.share)}),
    }


def device_from(record: Mapping[str, Any]) -> Device:
    """The device of its record.

    Raises:
        KeyError, ValueError, TypeError: It is no device record.
    """
    max_power_w = record.get("max_power_w")
    return Device(
        id=str(record["id"]),
        kind=DeviceKind(record["kind"]),
        name=str(record["name"]),
        quantity=Quantity(record["quantity"]),
        basis=Basis(record["basis"]),
        covers=frozenset(Part(p) for p in record["covers"]),
        counted=bool(record["counted"]),
        refresh_s=seconds(record["refresh_s"]),
        low_factor=_factor(record["low_factor"]),
        high_factor=_factor(record["high_factor"]),
        lag_s=seconds(record.get("lag_s", 0.0)),
        max_power_w=None if max_power_w is None else number(max_power_w),
        origin=str(record.get("origin", "")),
        note=str(record.get("note", "")),
        share=share_from(record["share"]) if record.get("share") else None,
    )


def _factor(value: Any) -> float:
    factor = number(value)
    if not 0.0 <= factor <= MOST_FACTOR:
        raise ValueError(f"{value} times what was stated")
    return factor


def share_from(plain: Mapping[str, Any]) -> ShareOf:
    """The share of a device record.

    Raises:
        KeyError, ValueError, TypeError: It is none.
    """
    return ShareOf(
        scope=str(plain["scope"]),
        role=Role(plain["role"]),
        device=str(plain["device"]),
        holder=str(plain.get("holder", "")),
        how=str(plain.get("how", "")),
        within=tuple(map(str, plain.get("within", ()))),
    )


def states_record(states: Iterable[State | None]) -> Record:
    """The fields `e`, `x`, `h` and `s` of some states, in the order of the devices."""
    energies: list[int | None] = []
    extra: dict[str, list[int]] = {}
    hidden: dict[str, int] = {}
    edges: list[int] = []
    for n, state in enumerate(states):
        if state is None:
            energies.append(None)
            edges.append(0)
            continue
        energies.append(round(state.energy_j * UJ_PER_J))
        edges.append(round(state.slack_j * UJ_PER_J))
        odd = [round(state.under_j * UJ_PER_J), round(state.over_j * UJ_PER_J), round(state.missing_ns)]
        if any(odd):
            extra[str(n)] = odd
        if state.hidden_j2:
            hidden[str(n)] = round(state.hidden_j2 / J2_PER_MJ2)
    record: Record = {"e": energies, "s": edges}
    if extra:
        record["x"] = extra
    if hidden:
        record["h"] = hidden
    return record


def intensity_record(value: IntensityValue, from_s: float, *, void_to_s: float | None = None) -> Record:
    """An intensity value's record; an instant of ever is null.

    Args:
        value: The value.
        from_s: UTC seconds from which it holds.
        void_to_s: What was written before for the time from `from_s` up to this does not count any more.
    """
    plain = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    plain.update(quality=value.quality.value, kind=value.kind.value, factor_basis=value.factor_basis.value)
    record: Record = {"k": "intensity", "from_s": None if from_s == float("-inf") else from_s, "value": plain}
    return record if void_to_s is None else {**record, "void_to_s": void_to_s}


def intensity_from(record: Mapping[str, Any]) -> tuple[float, IntensityValue]:
    """The instant and value of an intensity record.

    Raises:
        KeyError, ValueError, TypeError: It is no intensity record.
    """
    plain = dict(record["value"])
    plain["quality"] = Quality(plain["quality"])
    plain["kind"] = IntensityKind(plain["kind"])
    plain["factor_basis"] = FactorBasis(plain["factor_basis"])
    known = {f.name for f in dataclasses.fields(IntensityValue)}
    value = IntensityValue(**{k: v for k, v in plain.items() if k in known})
    _check_intensity(value)
    return (float("-inf") if record["from_s"] is None else number(record["from_s"])), value


def _check_intensity(value: IntensityValue) -> None:
    low, central, high = (number(g) for g in (value.low_g_per_kwh, value.g_per_kwh, value.high_g_per_kwh))
    if not 0.0 <= low <= central <= high or central > MAX_G_PER_KWH or high > MOST_HIGH_G:
        raise ValueError("out of range")
    for valid_s in (value.valid_from_s, value.valid_to_s):
        if valid_s is not None:
            number(valid_s)
    if not all(isinstance(text, str) for text in (value.source, value.zone, value.note)):
        raise TypeError("no text")


def place_record(location: Location, pue: Pue) -> Record:
    """Where a run takes place, as its header and its `place` records state it."""
    return {"location": location_record(location), "pue": {"value": pue.value, "source": pue.source}}


def location_record(location: Location) -> Record:
    """A location as records state it; coordinates are not written down."""
    return {
        "zone": location.zone,
        "name": location.name,
        "how": location.how,
        "is_guess": location.is_guess,
        "region": location.region,
        "note": location.note,
    }


def identity_record(who: Identity) -> Record:
    """Who a process is, as its header states it; its run's id and its host stand there too."""
    plain = {field.name: getattr(who, field.name) for field in dataclasses.fields(who)}
    if who.expected_nodes is not None:
        # Every one of ten thousand nodes writes down all ten thousand: their names as one short list.
        with contextlib.suppress(ValueError):
            plain["expected_nodes"] = nodelist.fold(who.expected_nodes)
    return {name: value for name, value in plain.items() if name not in ("run_id", "host")}


@functools.lru_cache(maxsize=64)
def _nodes(text: str) -> tuple[str, ...]:
    return nodelist.expand(text)


def identity_from(header: Mapping[str, Any]) -> Identity | None:
    """The identity of a header; None where it states none.

    Raises:
        KeyError, TypeError, ValueError: It states something else.
    """
    if "attempt" not in header:
        return None

    def word(name: str) -> str:
        return str(header.get(name) or "")

    def whole(name: str) -> int | None:
        return None if header.get(name) is None else count(header[name])

    nodes, node_count = header.get("expected_nodes"), whole("expected_node_count")
    return Identity(
        run_id=str(header["run_id"]),
        host=str(header["host"]),
        machine=word("machine"),
        job=word("job"),
        attempt=word("attempt"),
        restart=whole("restart"),
        rank=whole("rank"),
        world=whole("world"),
        local_rank=whole("local_rank"),
        expected_node_count=node_count if node_count is None or node_count <= nodelist.MOST_NODES else None,
        expected_tasks=whole("expected_tasks"),
        ended_by=word("ended_by"),
        advice=word("advice"),
        expected_nodes=_nodes(nodes) if isinstance(nodes, str) else None if nodes is None else tuple(map(str, nodes)),
        rules=tuple(str(rule) for rule in header.get("rules") or ()),
    )


def location_from(plain: Mapping[str, Any]) -> Location:
    """A location of a header or a `place` record."""
    return Location(
        zone=str(plain["zone"]),
        name=str(plain["name"]),
        how=str(plain["how"]),
        is_guess=bool(plain["is_guess"]),
        region=str(plain.get("region", "")),
        note=str(plain.get("note", "")),
    )


def pue_from(plain: Mapping[str, Any]) -> Pue:
    """A PUE of a header.

    Raises:
        KeyError, ValueError, TypeError: It is none, or none that can be.
    """
    value = number(plain["value"])
    if not 1.0 <= value <= MOST_PUE:
        raise ValueError(f"a PUE of {value}")
    return Pue(value=value, source=str(plain["source"]))

"""Journals as a recorder writes them, of runs that nobody waited for: a day of training in a second."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiocarbon._core.intensity import FactorBasis, IntensityValue, Location, Pue, Quality
from aiocarbon._core.reading import Basis, Device, DeviceKind, Part, Quantity
from aiocarbon.journal import records

S = 10**9
BEGIN_S = 1_789_992_000  # 2026-09-21 12:00 UTC
MINUTE = 60
UJ = 10**6
KWH_UJ = 3.6e12
LOCATION = Location(zone="DK-DK1", name="West Denmark", how="given", is_guess=False)
PUE = Pue(value=1.2, source="given by the user")


def devices(gpus: int) -> list[Device]:
    """GPUs with counters, two CPU packages, and memory that is modelled."""
    found = [
        Device(id=f"GPU-{n:08x}-0000-4000-8000-00000000abcd", kind=DeviceKind.GPU, name="NVIDIA H100 80GB HBM3",
               quantity=Quantity.ENERGY, basis=Basis.COUNTER, covers=frozenset({Part.GPU}), low_factor=0.95,
               high_factor=1.05)
        for n in range(gpus)
    ]  # fmt: skip
    found += [
        Device(id=f"rapl:package-{n}", kind=DeviceKind.CPU, name=f"package-{n}", quantity=Quantity.ENERGY,
               basis=Basis.COUNTER, covers=frozenset({Part.CPU}))
        for n in range(2)
    ]  # fmt: skip
    found.append(
        Device(id="model:memory", kind=DeviceKind.DRAM, name="512 GiB of memory", quantity=Quantity.ENERGY,
               basis=Basis.MODEL, covers=frozenset({Part.MEMORY}), low_factor=0.6, high_factor=1.4)
    )  # fmt: skip
    return found


def watts(n: int, at_s: float, many: int) -> float:
    """What device `n` of so many draws at a second of the run."""
    if n == many - 1:
        return 46.0
    if n >= many - 3:
        return 190.0 + 30.0 * math.sin(at_s / 900.0 + n)
    validates = at_s % 3600.0 > 3300.0
    return (260.0 if validates else 610.0) + 25.0 * math.sin(at_s / 420.0 + 1.7 * n) + 4.0 * n


def grid_g(at_s: float) -> float:
    """Carbon intensity at a second of the run."""
    return 130.0 + 70.0 * math.sin(at_s / 86_400.0 * 2.0 * math.pi) + 12.0 * math.sin(at_s / 1700.0)


def value(g_per_kwh: float, quality: Quality) -> IntensityValue:
    """An intensity of a source that has values of five minutes."""
    return IntensityValue(
        g_per_kwh=g_per_kwh, low_g_per_kwh=g_per_kwh * 0.95, high_g_per_kwh=g_per_kwh * 1.05,
        source="Energi Data Service (Energinet)", zone="DK-DK1", quality=quality, factor_basis=FactorBasis.DIRECT,
    )  # fmt: skip


def lines(
    *,
    run_id: str = "day",
    name: str = "resnet-50 on 8 GPUs",
    host: str = "node-1",
    hours: float = 24.0,
    gpus: int = 8,
    epochs: int = 144,
    spans: tuple[str, ...] = ("forward", "backward", "load data", "validate"),
    begin_s: int = BEGIN_S,
    has_end: bool = True,
    is_silent: tuple[float, float] | None = None,
    warnings: tuple[str, ...] = (),
) -> Iterator[dict[str, Any]]:
    """The records of a run.

    Args:
        run_id: Its id.
        name: What it is called.
        host: Of its machine.
        hours: How long it lasted.
        gpus: How many it had; two CPU packages and modelled memory come on top.
        epochs: How many there were, all as long.
        spans: Names of its spans; none for none.
        begin_s: Its begin, UTC seconds, on a minute.
        has_end: False for a journal that breaks off.
        is_silent: From and to (seconds of the run) at which the first device told nothing.
        warnings: What was warned of.
    """
    boot, seconds = 10**15, round(hours * 3600)
    yield {
        "schema": records.SCHEMA, "run_id": run_id, "name": name, "host": host, "pid": 4000,
        "boot_id": f"00000000-0000-4000-8000-{zlib.crc32(f'{host}/{run_id}'.encode()):012d}", "version": "0.1.0",
        "interval_s": 1.0, **records.place_record(LOCATION, PUE), "t": boot, "wall_ns": begin_s * S,
    }  # fmt: skip
    told = devices(gpus)
    for n, device in enumerate(told):
        yield records.device_record(n, device, f"{run_id}-{n}", 0.1)
    yield records.intensity_record(value(grid_g(0.0), Quality.LIVE), -math.inf)
    ahead = [[begin_s + at, grid_g(at) * 0.93 + 6.0] for at in range(0, min(seconds, 86_400) + 3600, 3600)]
    yield {"k": "ahead", "at_s": begin_s, "until_s": ahead[-1][0] + 3600, "steps": ahead, "zone": "DK-DK1",
           "source": "Energi Data Service (Energinet)", "kind": "average", "factor_basis": "direct"}  # fmt: skip
    for text in warnings:
        yield {"k": "warning", "t": boot, "text": text}
    yield from _run(boot, seconds, told, epochs, spans, begin_s, is_silent)
    if has_end:
        yield {"k": "end", "t": boot + seconds * S, "ended_well": True, "report": {}}


def _run(
    boot: int, seconds: int, told: list[Device], epochs: int, spans: tuple[str, ...], begin_s: int,
    is_silent: tuple[float, float] | None,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    many = len(told)
    energy, missing, co2eq_g, owned = [0.0] * many, 0.0, 0.0, [0.0] * len(spans)
    marks = {round(n * seconds / epochs): n for n in range(epochs + 1)} if epochs else {0: 0, seconds: 1}
    stops = sorted({*marks, *range(0, seconds, MINUTE)})
    before = 0
    for at in stops:
        length = at - before
        for n in range(many):
            if n == 0 and is_silent is not None and is_silent[0] <= before < is_silent[1]:
                missing += length * S
                continue
            energy[n] += watts(n, (at + before) / 2, many) * length * UJ
        used = sum(watts(n, (at + before) / 2, many) for n in range(many)) * length
        co2eq_g += used / 3.6e6 * PUE.value * grid_g(before)
        owned = [one + used * 0.9 / len(spans) * (1 + 0.4 * math.sin(n + at / 5000)) for n, one in enumerate(owned)]
        before = at
        if at % 300 == 0:
            yield records.intensity_record(value(grid_g(at), Quality.LIVE), float(begin_s + at))
            if spans and at:
                yield _spans(boot + at * S, spans, owned, sum(energy), at)
        states: dict[str, Any] = {"t": boot + at * S, "e": [round(e) for e in energy], "s": [20_000] * many}
        if missing:
            states["x"] = {"0": [0, round(missing / S * 600 * UJ), round(missing)]}
        if at not in marks:
            yield {"k": "tick", **states}
            continue
        index = marks[at]
        yield {"k": "mark", "m": index, **states}
        if epochs and index:
            yield {"k": "epoch", "i": index - 1, "b": index - 1, "e": index, "steps": 100, "partial": False}
            yield _prediction(begin_s + at, index, epochs, sum(energy) / KWH_UJ * PUE.value, co2eq_g, at)


def _prediction(at_s: float, seen: int, epochs: int, kwh: float, co2eq_g: float, took_s: float) -> dict[str, Any]:
    half = 0.3 / math.sqrt(seen) * (1 - seen / epochs) + 0.05 * seen / epochs

    def whole(so_far: float) -> list[float]:
        central = so_far * epochs / seen
        return [central, central * (1 - half), central * (1 + half)]

    return {"k": "prediction", "at_s": at_s, "epochs": epochs, "seen": seen, "kwh": whole(kwh), "g": whole(co2eq_g),
            "s": whole(took_s)}  # fmt: skip


def _spans(t: int, names: tuple[str, ...], owned: list[float], whole_uj: float, at: int) -> dict[str, Any]:
    def part(joules: float) -> list[int]:
        return [round(joules * UJ), round(joules * 40_000)]

    spread = [1.0, 0.9, 1.4, 0.004]
    rest = max(whole_uj / UJ - sum(owned), 0.0)
    rows = [
        [name, at, 0, at * 0.9 / len(names), *part(joules), *part(joules), spread, [40.0, 38.0, 60.0, 0.004], False, []]
        for name, joules in zip(names, owned, strict=True)
    ]
    return {
        "k": "spans", "t": t, "policy": "even", "idle": "kept_apart", "resolution_s": 0.1, "whole": part(whole_uj / UJ),
        "rest": part(rest), "floor": part(rest / 2), "names": rows, "owners": [], "devices": [], "notes": [],
        "dropped": 0,
    }  # fmt: skip


def put(folder: Path, **told: Any) -> Path:
    """Write a run's journal; its file."""
    records_of = list(lines(**told))
    path = folder / told.get("run_id", "day") / f"{told.get('host', 'node-1')}-4000-0.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(map(records.line, records_of)), encoding="utf-8")
    return path

"""codecarbon's `emissions.csv` as drafts: one run a run id, whose rows are its cumulative figures.

Columns are found by their names, so files of older versions, which have fewer, are read as well. Energies and `pue`:
since codecarbon counts a PUE it multiplies the components' columns by it (seen in 3.3.2), so they are divided by it
here. The file does not say whether its CPU figure was measured (RAPL) or taken from a TDP, nor whether its intensity
was live or a yearly average: so neither counts as measured here.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Final, NamedTuple

from aiocarbon._core.intensity import IntensityValue, Location, Pue
from aiocarbon._core.reading import Basis, Device, DeviceKind, Part, Quantity
from aiocarbon._core.units import G_PER_KG, S_PER_NS, j_from_kwh
from aiocarbon.errors import JournalError
from aiocarbon.imports.draft import (
    Draft,
    Told,
    Window,
    can_be,
    run_id_of,
    told_intensity,
    total_ns,
    utc_s,
    word_of,
    zone_of,
)

__all__ = ["drafts_of"]

TOOL: Final = "codecarbon"
NEEDED: Final = ("timestamp", "run_id", "duration", "energy_consumed")
"""Columns without which a file is none of codecarbon's."""

TASK: Final = "task_name"
"""The column that only its files of tasks have."""

UNKNOWN_BAND: Final = (0.5, 2.0)
"""Range of a figure that may have been measured or guessed: a factor of 2, as for a CPU that no table knows
(`meters/model.py`)."""

NVML_BAND: Final = (0.95, 1.05)
"""As for NVML's counters in `meters/nvml.py`."""

SAID: Final = (
    "imported from codecarbon's file, which names no machine: other runs there at that time may hold the same energy; "
    "what the tool itself cost is not known"
)
PROCESS: Final = (
    "codecarbon tracked the process: its CPU load and memory are the process's share, RAPL and GPUs whole devices"
)
LARGEST: Final = 1e9
"""kWh and seconds of a run that are taken for a mistake beyond."""


class Component(NamedTuple):
    """One of the three columns of energy, and what it stands for."""

    column: str
    model: str
    kind: DeviceKind
    part: Part
    basis: Basis
    band: tuple[float, float]
    note: str


COMPONENTS: Final = (
    Component(
        "cpu_energy",
        "cpu_model",
        DeviceKind.CPU,
        Part.CPU,
        Basis.ASSUMED,
        UNKNOWN_BAND,
        "codecarbon's file does not say whether it was measured (RAPL) or taken from a TDP",
    ),
    Component(
        "gpu_energy",
        "gpu_model",
        DeviceKind.GPU,
        Part.GPU,
        Basis.COUNTER,
        NVML_BAND,
        "all GPUs together, by their driver's energy counters",
    ),
    Component(
        "ram_energy",
        "",
        DeviceKind.DRAM,
        Part.MEMORY,
        Basis.ASSUMED,
        UNKNOWN_BAND,
        "codecarbon's rule of watts by gigabyte or module",
    ),
)


class _Row(NamedTuple):
    """A row of the file as far as it can be: cumulative figures of a run."""

    plain: Mapping[str, str]
    end_s: float
    duration_s: float
    energies_kwh: tuple[float | None, ...]
    total_kwh: float
    co2eq_g: float | None


def drafts_of(lines: Iterable[str], path: str, zone: tzinfo | None, problems: list[str]) -> list[Draft]:
    """The runs that a file tells.

    Args:
        lines: The file's.
        path: Where it lies, for what is said of it.
        zone: Time zone of the machine that wrote it; None: this machine's. For rows that name none.
        problems: Gets what could not be read, in words.

    Raises:
        JournalError: It is no file of codecarbon's.
    """
    # A file may hold a NUL where a disk was full; the csv module refuses them.
    reader = csv.DictReader(line.replace("\0", "") for line in lines)
    try:
        lacking = [name for name in NEEDED if name not in (reader.fieldnames or ())]
        if lacking:
            raise JournalError(f"{path} is no emissions.csv of codecarbon: it has no column {', '.join(lacking)}")
        if TASK in (reader.fieldnames or ()):
            raise JournalError(
                f"{path} is codecarbon's file of tasks, rows of parts of a run: import the emissions.csv beside it"
            )
        found = [(number, row) for number, row in enumerate(reader, 2)]
    except csv.Error as error:
        raise JournalError(f"{path} is no emissions.csv of codecarbon: {error}") from error
    runs: dict[str, list[_Row]] = {}
    bad: list[int] = []
    for number, plain in found:
        row = _row({key: value or "" for key, value in plain.items() if isinstance(value, str) and key}, zone)
        if row is None or not plain["run_id"]:
            bad.append(number)
        else:
            runs.setdefault(plain["run_id"], []).append(row)
    if bad:
        shown = ", ".join(map(str, bad[:8])) + (" and others" if len(bad) > 8 else "")
        problems.append(f"{path}: {len(bad)} rows cannot be read ({shown}): left out")
    return [draft for ident, rows in runs.items() if (draft := _draft(ident, rows, path, problems)) is not None]


def _row(plain: Mapping[str, str], zone: tzinfo | None) -> _Row | None:
    """A row as numbers; None where one that is needed is none."""
    try:
        end_s = utc_s(datetime.fromisoformat(plain["timestamp"]), zone)
    except (KeyError, ValueError, OverflowError, OSError):
        return None
    duration_s, total_kwh = (_number(plain.get(name, "")) for name in ("duration", "energy_consumed"))
    if duration_s is None or total_kwh is None or not can_be(end_s - duration_s, end_s):
        return None
    kg = _number(plain.get("emissions", ""))
    energies = tuple(_number(plain.get(component.column, "")) for component in COMPONENTS)
    return _Row(plain, end_s, duration_s, energies, total_kwh, None if kg is None else kg * G_PER_KG)


def _draft(ident: str, rows: list[_Row], path: str, problems: list[str]) -> Draft | None:
    rows = _rising(rows, ident, path, problems)
    last = rows[-1].plain
    version = word_of(last.get("codecarbon_version", ""))
    pue = _pue(last)
    place = zone_of(last.get("country_iso_code", ""), TOOL)
    parts = [n for n, component in enumerate(COMPONENTS) if _is_there(component, rows, n)]
    begin_s = rows[-1].end_s - rows[-1].duration_s
    borders = total_ns([begin_s, *(begin_s + row.duration_s for row in rows)])
    windows = []
    before = [0.0] * len(parts)
    for n, row in enumerate(rows):
        joules = [j_from_kwh(row.energies_kwh[part] or 0.0) / pue.value for part in parts]
        now = list(map(max, joules, before))
        told = tuple(Told(energy - was) for energy, was in zip(now, before, strict=True))
        windows.append(Window(borders[n], borders[n + 1], False, told))
        before = now
    draft = Draft(
        tool=TOOL,
        version=version,
        run_id=run_id_of(TOOL, ident),
        name=last.get("project_name", ""),
        location=place,
        pue=pue,
        intensity=tuple(_intensity(rows, borders, place, f"{TOOL} {version}".strip())),
        devices=tuple(_device(COMPONENTS[part], last) for part in parts),
        windows=tuple(windows),
        slack_j=(0.0,) * len(parts),
        missing=(Part.GPU.value,) if _lacks_gpu(rows) else (),
        warnings=tuple(_warnings(rows, parts)),
    )
    if not parts:
        problems.append(f"{path}: run {word_of(ident)} tells no energy of any component: left out")
        return None
    return draft


def _rising(rows: Sequence[_Row], ident: str, path: str, problems: list[str]) -> list[_Row]:
    """The rows of a run in order, without those that the others contradict: figures are cumulative."""
    kept: list[_Row] = []
    for row in sorted(rows, key=lambda row: (row.duration_s, row.end_s)):
        if kept and (row.duration_s == kept[-1].duration_s or row.total_kwh < kept[-1].total_kwh):
            continue
        kept.append(row)
    if len(kept) < len(rows):
        problems.append(f"{path}: {len(rows) - len(kept)} rows of run {word_of(ident)} repeat others or fall: left out")
    return kept


def _is_there(component: Component, rows: Sequence[_Row], n: int) -> bool:
    """Whether a column tells something: a 0 is what codecarbon writes for what it does not measure."""
    return any((row.energies_kwh[n] or 0.0) > 0.0 for row in rows)


def _lacks_gpu(rows: Sequence[_Row]) -> bool:
    count = _number(rows[-1].plain.get("gpu_count", "")) or 0.0
    return count > 0.0 and not any((row.energies_kwh[1] or 0.0) > 0.0 for row in rows)


def _device(component: Component, plain: Mapping[str, str]) -> Device:
    name = word_of(plain.get(component.model, "")) if component.model else ""
    size = _number(plain.get("ram_total_size", "")) if not component.model else None
    return Device(
        id=f"codecarbon:{component.column.removesuffix('_energy')}",
        kind=component.kind,
        name=name or (f"memory, {size:.3g} GB" if size else component.kind.value),
        quantity=Quantity.ENERGY,
        basis=component.basis,
        covers=frozenset({component.part}),
        refresh_s=0.0,
        low_factor=component.band[0],
        high_factor=component.band[1],
        note=component.note,
    )


def _intensity(
    rows: Sequence[_Row], borders: Sequence[int], place: Location, source: str
) -> Iterable[tuple[float, IntensityValue]]:
    """What each row's emissions and energy make, from the end of the row before."""
    note = "emissions over energy of its file, which does not say whether it is a live value or a yearly average"
    kwh = grams = 0.0
    first = True
    for n, row in enumerate(rows):
        if row.co2eq_g is None or row.total_kwh <= kwh:
            continue
        value = told_intensity((row.co2eq_g - grams) / (row.total_kwh - kwh), place.zone, source, note)
        kwh, grams = row.total_kwh, row.co2eq_g
        if value is not None:
            yield (-math.inf if first else borders[n] * S_PER_NS), value
            first = False


def _pue(plain: Mapping[str, str]) -> Pue:
    value = _number(plain.get("pue", ""))
    if value is None or not 1.0 <= value < 100.0:
        return Pue(value=1.0, source="codecarbon's file names none: none was counted")
    return Pue(value=value, source="as codecarbon counted")


def _warnings(rows: Sequence[_Row], parts: Sequence[int]) -> Iterable[str]:
    yield SAID
    last = rows[-1]
    if last.plain.get("tracking_mode") == "process":
        yield PROCESS
    if _lacks_gpu(rows):
        yield "codecarbon found GPUs and tells no energy of them: the figures lack it"
    told = sum(last.energies_kwh[part] or 0.0 for part in parts)
    if not math.isclose(told, last.total_kwh, rel_tol=0.01):
        yield f"codecarbon's energy_consumed is {last.total_kwh:.6g} kWh; its components make {told:.6g} kWh"


def _number(text: str) -> float | None:
    """A number of a sane size, from 0 on; None for anything else."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0.0 <= value < LARGEST else None

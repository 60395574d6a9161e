"""carbontracker's parser: sums of a folder of logs, its own text logs and journals alike.

Totals are what was measured: a prediction is never taken for it, as carbontracker's parser does for a training that
broke off. Figures are lists, not arrays.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiocarbon._core.units import j_from_kwh
from aiocarbon.compat.carbontracker.words import CAR_UNIT, car
from aiocarbon.errors import JournalError
from aiocarbon.imports.carbontracker import STOPPED
from aiocarbon.render.statement import statement, statement_text

if TYPE_CHECKING:
    from aiocarbon._core.report import EpochReport, RunReport
    from aiocarbon.journal.read import Loaded

__all__ = ["aggregate_consumption", "parse_all_logs", "print_aggregate"]


def print_aggregate(log_dir: str | os.PathLike[str]) -> None:
    """Print what all trainings of a folder used, with ranges and with what of it was measured.

    Args:
        log_dir: The folder.

    Raises:
        JournalError: It holds neither journals nor logs that can be read.
    """
    loaded = _loaded(log_dir)
    sys.stdout.write(statement_text(statement(loaded.runs, loaded.total)).replace("\n\n", "\n") + "\n")


def aggregate_consumption(log_dir: str | os.PathLike[str]) -> tuple[float, float, dict[str, float]]:
    """What all trainings of a folder used together, each joule once.

    Args:
        log_dir: The folder.

    Returns:
        kWh (PUE counted), gCO2eq, and what emits as much: {"km travelled by car": kilometres}.

    Raises:
        JournalError: As in `print_aggregate`.
    """
    total = (loaded := _loaded(log_dir)).total
    return total.energy_kwh, total.co2eq_g, _equivalents(loaded.runs[0], total.co2eq_g)


def parse_all_logs(log_dir: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Each training of a folder in the form of carbontracker's parser.

    Args:
        log_dir: The folder.

    Returns:
        Dicts with "output_filename" and "standard_filename" (the folder of a journal), "components", "early_stop",
        "actual" and "pred". Powers and energies are of the devices, without PUE; those of "actual" have it.

    Raises:
        JournalError: As in `print_aggregate`.
    """
    return [_entry(run, log_dir) for run in _loaded(log_dir).runs]


def _loaded(log_dir: str | os.PathLike[str]) -> Loaded:
    """Journals and text logs of a folder together; text logs are imported into a folder that is gone afterwards."""
    from aiocarbon.imports import import_logs
    from aiocarbon.journal import load

    with tempfile.TemporaryDirectory(prefix="aiocarbon-") as folder:
        sources = [Path(log_dir)]
        try:
            import_logs("carbontracker", sources, folder)
            sources.append(Path(folder))
        except JournalError:  # no text logs, or none of them can be read: the journals tell
            pass
        return load(*sources)


def _entry(run: RunReport, log_dir: str | os.PathLike[str]) -> dict[str, Any]:
    place = os.path.join(log_dir, run.run_id)
    actual = {
        "epochs": sum(not epoch.is_partial for epoch in run.epochs),
        "duration (s)": run.duration_s,
        "energy (kWh)": run.energy_kwh,
        "co2eq (g)": run.co2eq_g,
        "equivalents": _equivalents(run, run.co2eq_g),
    }
    kinds = {"gpu": ("gpu",), "cpu": ("cpu", "dram")}
    parts = {name: _component(run, of) for name, of in kinds.items()}
    return {
        "output_filename": place,
        "standard_filename": place,
        "components": {name: part for name, part in parts.items() if part["devices"]},
        "early_stop": not run.ended_well or any(STOPPED in text for text in run.warnings),
        "actual": actual,
        "pred": None,
    }


def _component(run: RunReport, kinds: tuple[str, ...]) -> dict[str, Any]:
    """A component by epoch, each with one figure for all its devices."""

    def joules(epoch: EpochReport) -> float:
        devices = (device for device in epoch.devices if device.counted and device.kind.value in kinds)
        return sum(j_from_kwh(device.it_energy_kwh) for device in devices)

    lengths = [epoch.duration_s for epoch in run.epochs]
    energies = [joules(epoch) for epoch in run.epochs]
    return {
        "avg_power_usages (W)": [[e / s if s > 0.0 else None] for e, s in zip(energies, lengths, strict=True)],
        "avg_energy_usages (J)": [[energy] for energy in energies],
        "epoch_durations (s)": lengths,
        "devices": [
            device.name or device.id for device in run.devices if device.counted and device.kind.value in kinds
        ],
    }


def _equivalents(run: RunReport, co2eq_g: float) -> dict[str, float]:
    g_per_km = car(run)
    return {} if g_per_km is None else {CAR_UNIT: co2eq_g / g_per_km}

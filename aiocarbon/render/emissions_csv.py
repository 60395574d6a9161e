"""Runs in the 38 columns of codecarbon's `emissions.csv` (3.3.2), for dashboards that read those; one row a run.

What is not known is empty, never 0: water, utilization, memory's size, coordinates, the operating system. Energies hold
the PUE, as codecarbon's do; powers do not. Times are UTC. Texts cannot become formulas in a spreadsheet.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from aiocarbon._core.reading import DeviceKind
from aiocarbon._core.report import RunReport
from aiocarbon._core.units import G_PER_KG
from aiocarbon.render.escape import cell
from aiocarbon.render.numbers import is_nothing, plain

__all__ = ["COLUMNS", "emissions_csv"]

COLUMNS: Final = (
    "timestamp",
    "project_name",
    "run_id",
    "experiment_id",
    "duration",
    "emissions",
    "emissions_rate",
    "cpu_power",
    "gpu_power",
    "ram_power",
    "cpu_energy",
    "gpu_energy",
    "ram_energy",
    "energy_consumed",
    "water_consumed",
    "country_name",
    "country_iso_code",
    "region",
    "cloud_provider",
    "cloud_region",
    "os",
    "python_version",
    "codecarbon_version",
    "cpu_count",
    "cpu_model",
    "gpu_count",
    "gpu_model",
    "longitude",
    "latitude",
    "ram_total_size",
    "tracking_mode",
    "cpu_utilization_percent",
    "gpu_utilization_percent",
    "ram_utilization_percent",
    "ram_used_gb",
    "on_cloud",
    "pue",
    "wue",
)
"""In the order in which codecarbon 3.3.2 writes them (codecarbon/output_methods/emissions_data.py, `EmissionsData`)."""

KINDS: Final = {"cpu": DeviceKind.CPU, "gpu": DeviceKind.GPU, "ram": DeviceKind.DRAM}
DIGITS: Final = 12


def emissions_csv(runs: Sequence[RunReport], alpha3: Callable[[str], str]) -> str:
    """The file's text, with its header and without a line break at the end.

    Args:
        runs: The runs.
        alpha3: The ISO 3166-1 alpha-3 code of an alpha-2 one, as codecarbon has it; empty where it is not known.
    """
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_row(run, alpha3) for run in runs)
    return out.getvalue().removesuffix("\n")


def _row(run: RunReport, alpha3: Callable[[str], str]) -> Mapping[str, str]:
    kg = run.co2eq_g / G_PER_KG
    row = {
        "timestamp": f"{run.ended_at:%Y-%m-%dT%H:%M:%S}",
        "project_name": cell(run.name),
        "run_id": cell(run.run_id),
        "duration": plain(run.duration_s, DIGITS),
        # No version of codecarbon measured this; one that did is that of an imported file.
        "codecarbon_version": cell(run.version if run.tool == "codecarbon" else f"{run.tool} {run.version}".strip()),
        # What is counted of a control group is as little the machine's as what is counted of a process.
        "tracking_mode": "machine" if run.scope.name == "machine" else "process",
        "pue": plain(run.pue.value, DIGITS),
        **_place(run, alpha3),
    }
    if is_nothing(run):
        return row
    row |= {
        "emissions": plain(kg, DIGITS),
        "emissions_rate": plain(kg / run.duration_s, DIGITS) if run.duration_s > 0.0 else "",
        "energy_consumed": plain(run.energy_kwh, DIGITS),
    }
    for name, kind in KINDS.items():
        row |= _component(run, name, kind)
    return row


def _component(run: RunReport, name: str, kind: DeviceKind) -> dict[str, str]:
    """Energy, power and names of the devices of a kind that count; nothing where there are none."""
    devices = [device for device in run.devices if device.counted and device.kind is kind]
    if not devices:
        return {}
    powers = [device.power_w for device in devices if device.power_w is not None]
    found = {
        f"{name}_energy": plain(sum(device.it_energy_kwh for device in devices) * run.pue.value, DIGITS),
        f"{name}_power": plain(sum(powers), DIGITS) if len(powers) == len(devices) else "",
    }
    names = [device.name or device.id for device in devices]
    told = {f"{names.count(one)} x {one}" if kind is DeviceKind.GPU else one: None for one in names}
    if kind is not DeviceKind.DRAM:
        found[f"{name}_model"] = cell(", ".join(told))
    if kind is DeviceKind.GPU:
        found["gpu_count"] = str(len(devices))
    return found


def _place(run: RunReport, alpha3: Callable[[str], str]) -> dict[str, str]:
    place = run.location
    if place.country == "WORLD" or run.locations:
        return {}  # no place is known, or there are several
    state, _, country = place.name.rpartition(", ")
    provider, _, region = place.region.partition(" ")
    return {
        "country_name": cell(country if "-" in place.zone else place.name),
        "country_iso_code": cell(alpha3(place.country)),
        "region": cell(state.lower()) if "-" in place.zone else "",
        "cloud_provider": cell(provider),
        "cloud_region": cell(region),
        "on_cloud": "Y" if provider else "",
    }

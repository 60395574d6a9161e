"""A report as one flat dict of numbers, for whatever draws curves: W&B, MLflow, TensorBoard, Ray, a log line.

A key is there only if its figure is known: nothing missing is 0, NaN or an older value. Keys are words with units, put
together with "/", of letters, digits, "_", "-" and ".", which every one of those takes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from aiocarbon._core.report import EpochReport, RunReport
from aiocarbon._core.span_report import ChildReport, SpanReport, Unattributed

if TYPE_CHECKING:
    from aiocarbon._core.report import DeviceReport, Quantities

PREFIX: Final = "carbon/"

MEASURED: Final = (
    "it_energy_kwh",
    "energy_kwh",
    "energy_kwh_low",
    "energy_kwh_high",
    "co2eq_g",
    "co2eq_g_low",
    "co2eq_g_high",
    "power_w",
)
"""Figures that are known only where something was measured."""

PREDICTED: Final = tuple(f"{figure}{end}" for figure in ("energy_kwh", "co2eq_g", "duration_s") for end in
                         ("", "_low", "_high"))  # fmt: skip

REMAINING: Final = ("energy_kwh", "co2eq_g", "duration_s")


def metrics(report: Quantities, *, devices: bool = False, spans: bool = False) -> dict[str, float]:
    """The figures of a report by key.

    A run's keys begin with "carbon/", those of an epoch with "carbon/epoch_", so that both fit into one log.

    Args:
        report: Of a run, a snapshot of one, an epoch, a span name or a child.
        devices: True to have each counted device too, under "carbon/device/<id>/".
        spans: True to have a run's spans, what no span owns, and its children.

    Returns:
        Finite numbers only; what is not known has no key.
    """
    found = _quantities(report, _prefix(report))
    if isinstance(report, RunReport):
        found += _run(report)
    if isinstance(report, RunReport | EpochReport):
        found += _predicted(report)
        if devices:
            found += _devices(report)
    if spans and isinstance(report, RunReport) and report.spans:
        taken: set[str] = set()
        for part in (*report.spans, report.unattributed, *report.children):
            found += _quantities(part, _apart(_prefix(part), taken))
    return {key: float(value) for key, value in found if value is not None and math.isfinite(value)}


def is_known(energy_kwh: float, coverage: float) -> bool:
    """Whether anything says so: without a reading there is no joule, which is not the same as none being used."""
    return coverage > 0.0 or energy_kwh > 0.0


def as_key(name: str) -> str:
    """A name as a part of a key: what not every sink takes is an underscore ("rapl:package-0" -> "rapl_package-0")."""
    part = "".join(c if (c.isascii() and c.isalnum()) or c in "_-." else "_" for c in name) or "_"
    return part.replace(".", "_") if not part.strip(".") else part  # "a/../b" would be another key's path


def _prefix(report: Quantities) -> str:
    if isinstance(report, EpochReport):
        return f"{PREFIX}epoch_"
    if isinstance(report, SpanReport):
        return f"{PREFIX}span/{as_key(report.name)}/"
    if isinstance(report, ChildReport):
        return f"{PREFIX}child/{as_key(report.name)}/"
    return f"{PREFIX}unattributed/" if isinstance(report, Unattributed) else PREFIX


def _apart(prefix: str, taken: set[str]) -> str:
    """A prefix that no other part has: two names may be one as keys ("a b", "a_b"), and neither hides the other."""
    known, n = prefix, 1
    while prefix in taken:
        n += 1
        prefix = f"{known.removesuffix('/')}.{n}/"
    taken.add(prefix)
    return prefix


Rows = list[tuple[str, float | None]]


def _quantities(report: Quantities, prefix: str) -> Rows:
    rows: Rows = [(f"{prefix}duration_s", report.duration_s)]
    if report.duration_s > 0.0:
        rows.append((f"{prefix}coverage", report.coverage))
    if is_known(report.it_energy_kwh, report.coverage) and report.duration_s > 0.0:
        rows += [(f"{prefix}{figure}", getattr(report, figure)) for figure in MEASURED]
        if isinstance(report, RunReport):
            rows.append((f"{prefix}intensity_g_per_kwh", report.intensity_g_per_kwh))
        elif report.energy_kwh > 0.0:
            rows.append((f"{prefix}intensity_g_per_kwh", report.co2eq_g / report.energy_kwh))
    if isinstance(report, EpochReport):
        rows += [("carbon/epoch", report.index), (f"{prefix}steps", report.steps or None)]
    elif isinstance(report, SpanReport | ChildReport):
        rows.append((f"{prefix}count", report.count))
    return rows


def _run(report: RunReport) -> Rows:
    rows: Rows = [(f"{PREFIX}epochs", report.epochs_total), (f"{PREFIX}pue", report.pue.value)]
    if report.rework is not None:
        rows += [(f"{PREFIX}rework_{figure}", getattr(report.rework, figure)) for figure in REMAINING]
    return rows


def _predicted(report: RunReport | EpochReport) -> Iterator[tuple[str, float | None]]:
    prediction = report.prediction
    if prediction is not None:
        for figure in PREDICTED:
            yield f"{PREFIX}predicted_{figure}", getattr(prediction, figure)
        if not (isinstance(report, RunReport) and report.is_final):  # nothing remains, and the last guess is no figure
            for figure in REMAINING:
                yield f"{PREFIX}remaining_{figure}", getattr(prediction, f"remaining_{figure}")


def _devices(report: RunReport | EpochReport) -> Iterator[tuple[str, float | None]]:
    counted: list[DeviceReport] = [device for device in report.devices if device.counted]
    several = len({device.host for device in counted}) > 1
    middle = "epoch_" if isinstance(report, EpochReport) else ""
    for device in counted:
        if report.duration_s > 0.0 and is_known(device.it_energy_kwh, device.coverage):
            host = f"{as_key(device.host)}/" if several else ""
            prefix = f"{PREFIX}device/{host}{as_key(device.id)}/{middle}"
            yield f"{prefix}it_energy_kwh", device.it_energy_kwh
            yield f"{prefix}power_w", device.power_w
            yield f"{prefix}coverage", device.coverage

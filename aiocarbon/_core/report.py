"""What a user gets: frozen reports with units in their names, and their JSON form."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

from aiocarbon._core.body import Overhead
from aiocarbon._core.identity import Identity
from aiocarbon._core.intensity import Location, LocationUse, Pue
from aiocarbon._core.ledger import Cut, DeviceCut, coverage, weakest
from aiocarbon._core.nodes import Attempt, NodeReport
from aiocarbon._core.reading import Basis, DeviceKind, Role
from aiocarbon._core.scope_report import Scope as Scope
from aiocarbon._core.units import kwh_from_j

if TYPE_CHECKING:
    from aiocarbon._core.span_report import AttributionReport, ChildReport, SpanReport, Unattributed

REPORT_SCHEMA = "aiocarbon.report/1"


def _plain(value: Any) -> Any:
    """A value as JSON has it: enums as strings, datetimes as ISO 8601, dataclasses as objects."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {str(_plain(k)): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantities:
    """Energy, CO2eq and time of a window.

    Attributes:
        duration_s: Length of the window, seconds.
        it_energy_kwh: What the meters say, kWh.
        it_energy_kwh_low: Lower end (90 %).
        it_energy_kwh_high: Upper end (90 %).
        energy_kwh: `it_energy_kwh` x PUE (equation 2 of arXiv:2007.03051): a lower bound of the facility's, since
            boards and packages leave out power supplies, fans and disks.
        energy_kwh_low: Lower end (90 %).
        energy_kwh_high: Upper end (90 %).
        co2eq_g: Integral of energy x intensity x PUE, grams of CO2 equivalent.
        co2eq_g_low: Lower end (90 %).
        co2eq_g_high: Upper end (90 %).
        power_w: Mean IT power draw, watts; None for a window of no length, or where no device tells any.
        coverage: Share of the window that readings vouch for, mean over the counted devices, 0..1.
        basis: The weakest basis that carries at least 5 % of the energy.
        basis_shares: Share of the energy by basis; they add up to 1.
    """

    duration_s: float
    it_energy_kwh: float
    it_energy_kwh_low: float
    it_energy_kwh_high: float
    energy_kwh: float
    energy_kwh_low: float
    energy_kwh_high: float
    co2eq_g: float
    co2eq_g_low: float
    co2eq_g_high: float
    power_w: float | None
    coverage: float
    basis: Basis
    basis_shares: dict[Basis, float]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON values, in the schema of `aiocarbon report --json`."""
        plain: dict[str, Any] = _plain(self)
        return plain

    def metrics(self, *, devices: bool = False, spans: bool = False) -> dict[str, float]:
        """Its figures by key ("carbon/co2eq_g") for whatever draws curves; see `aiocarbon._core.metrics.metrics`."""
        from aiocarbon._core.metrics import metrics

        return metrics(self, devices=devices, spans=spans)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceReport:
    """One device's part of a window.

    Attributes:
        id: Stable on its host: an NVML UUID, "rapl:package-0".
        kind: What it is.
        name: What a person would call it.
        host: The machine it is in.
        basis: Where its joules come from.
        it_energy_kwh: kWh.
        it_energy_kwh_low: Lower end (90 %).
        it_energy_kwh_high: Upper end (90 %).
        power_w: Mean power draw, watts; None for a window of no length.
        coverage: Share of the window that its readings vouch for, 0..1.
        counted: False for a view of energy that other devices hold already; the counted ones add up to the run.
        note: What a user should know about it; empty if nothing.
    """

    id: str
    kind: DeviceKind
    name: str
    host: str
    basis: Basis
    it_energy_kwh: float
    it_energy_kwh_low: float
    it_energy_kwh_high: float
    power_w: float | None
    coverage: float
    counted: bool
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochReport(Quantities):
    """One epoch: from its begin to its end.

    Attributes:
        index: 0 for the first.
        devices: Each device's part.
        steps: How many steps `step()` told in it.
        is_partial: True if it was left by an exception, a `break` or the end of the run; it gives no rate.
        is_final: False while a counter that refreshes slowly has not yet told where the borders lie;
            `report().epochs[index]` has the refined one.
        prediction: What the whole run would use, as seen at the epoch's end; of the last 100 epochs of a live run. None
            where nothing could be predicted yet.
    """

    index: int
    devices: tuple[DeviceReport, ...]
    steps: int = 0
    is_partial: bool = False
    is_final: bool = True
    prediction: Prediction | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a run will have used at its end. Ranges are 90 %, if the present regime of the run goes on.

    Energy has PUE counted, as `energy_kwh` everywhere. A figure is None where it is not known: totals of a run whose
    number of epochs is not declared, energy and CO2eq where no meter tells a power.

    Attributes:
        as_of: UTC of the instant at which it was made.
        is_bounded: Whether the number of epochs is declared; without it there are rates and no totals.
        epochs: Epochs declared; None if none were.
        epochs_seen: Complete epochs that had ended.
        energy_kwh: Of the whole run, kWh.
        energy_kwh_low: Lower end.
        energy_kwh_high: Upper end.
        co2eq_g: Of the whole run, grams, at the intensity of the hours that it will really occupy.
        co2eq_g_low: Lower end.
        co2eq_g_high: Upper end.
        duration_s: Of the whole run, seconds.
        duration_s_low: Lower end.
        duration_s_high: Upper end.
        remaining_energy_kwh: Still to come, kWh.
        remaining_energy_kwh_low: Lower end.
        remaining_energy_kwh_high: Upper end.
        remaining_co2eq_g: Still to come, grams.
        remaining_co2eq_g_low: Lower end.
        remaining_co2eq_g_high: Upper end.
        remaining_duration_s: Still to come, seconds.
        remaining_duration_s_low: Lower end.
        remaining_duration_s_high: Upper end.
        ends_at: UTC of the end.
        epoch_s: Seconds of an epoch in the present regime.
        energy_kwh_per_hour: At the present rate.
        co2eq_g_per_hour: At the present rate and the intensity of the next hour.
        rests_on: What the rate comes from: "prior" (earlier runs of the name), "steps" (of the first epoch), "epochs".
        intensity_shares: Share of the time to come by what its intensity rests on: a quality, or "profile".
        notes: What a reader must know.
    """

    as_of: datetime
    is_bounded: bool
    epochs: int | None
    epochs_seen: int
    energy_kwh: float | None = None
    energy_kwh_low: float | None = None
    energy_kwh_high: float | None = None
    co2eq_g: float | None = None
    co2eq_g_low: float | None = None
    co2eq_g_high: float | None = None
    duration_s: float | None = None
    duration_s_low: float | None = None
    duration_s_high: float | None = None
    remaining_energy_kwh: float | None = None
    remaining_energy_kwh_low: float | None = None
    remaining_energy_kwh_high: float | None = None
    remaining_co2eq_g: float | None = None
    remaining_co2eq_g_low: float | None = None
    remaining_co2eq_g_high: float | None = None
    remaining_duration_s: float | None = None
    remaining_duration_s_low: float | None = None
    remaining_duration_s_high: float | None = None
    ends_at: datetime | None = None
    epoch_s: float | None = None
    energy_kwh_per_hour: float | None = None
    co2eq_g_per_hour: float | None = None
    rests_on: str = "epochs"
    intensity_shares: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The prediction as plain JSON values."""
        plain: dict[str, Any] = _plain(self)
        return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class IntensityUse:
    """A source of carbon intensity that was used in a run.

    Attributes:
        source: Who says so.
        zone: Of which grid zone.
        quality: How it came to be known.
        kind: Average or marginal.
        factor_basis: Direct or life-cycle.
        g_per_kwh: Its mean, weighed by the energy that fell under it, PUE included.
        share: Share of the run's energy, PUE included, that it weighed, 0..1; of the time where nothing was used.
        note: What a user should know; empty if nothing.
    """

    source: str
    zone: str
    quality: str
    kind: str
    factor_basis: str
    g_per_kwh: float
    share: float = 1.0
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Equivalent:
    """An amount of CO2eq told as something people know.

    Attributes:
        id: Row of the table: "eu_new_car_2018".
        amount: How many `unit` emit the same.
        unit: "km travelled by an average new car (EU)".
        g_per_unit: gCO2eq per unit.
        year: Year of the factor, None where the source gives none.
        source: Where the factor was read.
    """

    id: str
    amount: float
    unit: str
    g_per_unit: float
    year: int | None
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport(Quantities):
    """A whole run; `epochs`, `outside` and `rework` add up to it.

    Attributes:
        schema: Version of this report's form.
        run_id: Id of the run.
        name: What the user called it; empty if nothing.
        host: The machine.
        started_at: UTC.
        ended_at: UTC of the end, or of `as_of` while it runs.
        as_of: UTC of the instant up to which the figures go.
        is_final: True once the run has ended.
        ended_well: False if the run did not end by itself (its journal breaks off).
        epochs: The last 10,000.
        epochs_total: How many there were.
        outside: What lies in no epoch.
        rework: What earlier tries of the run used for what a later one did again; None if nothing was.
        paused_s: Seconds between its begin and its end in which no process of it ran: in no other figure.
        attempts: Its tries, where there were several.
        devices: Each device's part; of more than 64 processes, those of one name together.
        nodes: Those of a run of several processes, also those that told nothing.
        status: "complete", or "partial" where something was not measured or is not there yet.
        merge: By which rules processes were put together; empty for one.
        scope: What is measured, modelled and missing.
        location: Where the machine is, and how that is known; of several places that which used most.
        locations: All places of a run that was in several, with what was used there; else empty.
        pue: Power usage effectiveness with its source.
        intensity_g_per_kwh: Mean by energy with PUE: `co2eq_g` over `energy_kwh`.
        intensity_sources: The sources used.
        co2eq_g_before: CO2eq before intensities of the past that were guesses were asked for again; None if none were.
        equivalents: The CO2eq told as other things.
        prediction: The newest prediction that was made of it; None if none was, or it was read from a journal.
        spans: One entry a name, in the order in which they came: own figures, which with `unattributed` make the run.
        unattributed: What no span owns.
        attribution: How the energy was split among spans; None where there was none.
        children: The children of the tracker.
        warnings: What a reader of the figures must know.
        overhead: What the instrument itself cost.
        tool: Who measured: "aiocarbon", or the tool whose log was imported.
        version: Version of that tool.
        identity: Its job, attempt and rank, and by which rules; None if no journal says so, or of several processes.
    """

    schema: str = REPORT_SCHEMA
    run_id: str
    name: str
    host: str
    started_at: datetime
    ended_at: datetime
    as_of: datetime
    is_final: bool
    ended_well: bool
    epochs: tuple[EpochReport, ...]
    epochs_total: int
    outside: Quantities
    rework: Quantities | None = None
    paused_s: float = 0.0
    attempts: tuple[Attempt, ...] = ()
    devices: tuple[DeviceReport, ...]
    nodes: tuple[NodeReport, ...] = ()
    status: str = "complete"
    merge: tuple[str, ...] = ()
    scope: Scope
    location: Location
    locations: tuple[LocationUse, ...] = ()
    pue: Pue
    intensity_g_per_kwh: float
    intensity_sources: tuple[IntensityUse, ...]
    co2eq_g_before: float | None = None
    equivalents: tuple[Equivalent, ...]
    prediction: Prediction | None = None
    spans: tuple[SpanReport, ...] = ()
    unattributed: Unattributed
    attribution: AttributionReport | None = None
    children: tuple[ChildReport, ...] = ()
    warnings: tuple[str, ...]
    overhead: Overhead
    tool: str = "aiocarbon"
    version: str = ""
    identity: Identity | None = None


def quantities(cut: Cut, pue: float) -> dict[str, Any]:
    """The fields of `Quantities` of a cut."""
    energy = cut.energy_j
    low, high = cut.bounds_j
    carbon = cut.carbon
    shares = cut.basis_shares
    return {
        "duration_s": cut.duration_s,
        "it_energy_kwh": kwh_from_j(energy),
        "it_energy_kwh_low": kwh_from_j(low),
        "it_energy_kwh_high": kwh_from_j(high),
        "energy_kwh": kwh_from_j(energy) * pue,
        "energy_kwh_low": kwh_from_j(low) * pue,
        "energy_kwh_high": kwh_from_j(high) * pue,
        "co2eq_g": carbon.co2eq_g,
        "co2eq_g_low": max(carbon.low_g - carbon.edge_g, 0.0),
        "co2eq_g_high": carbon.high_g + carbon.edge_g,
        "power_w": energy / cut.duration_s if shares and cut.end_ns > cut.begin_ns else None,
        "coverage": cut.coverage,
        "basis": weakest(shares),
        "basis_shares": shares,
    }


def device_reports(cut: Cut, host: str) -> tuple[DeviceReport, ...]:
    """Each device's part of a cut; in the scope of a process or control group, its share."""
    shown = (d for d in cut.devices if d.device.share is None or d.device.share.role is Role.OWN)
    return tuple(_device_report(d, cut, host) for d in shown)


def _device_report(part: DeviceCut, cut: Cut, host: str) -> DeviceReport:
    low, high = part.bounds_j
    return DeviceReport(
        id=part.device.id,
        kind=part.device.kind,
        name=part.device.name,
        host=host,
        basis=part.device.basis,
        it_energy_kwh=kwh_from_j(part.energy_j),
        it_energy_kwh_low=kwh_from_j(low),
        it_energy_kwh_high=kwh_from_j(high),
        power_w=part.energy_j / cut.duration_s if cut.end_ns > cut.begin_ns else None,
        coverage=coverage(part.missing_ns, cut.end_ns - cut.begin_ns),
        counted=part.device.counted,
        note=part.device.note,
    )


def utc(wall_s: float) -> datetime:
    """UTC seconds since 1970 as a datetime."""
    return datetime.fromtimestamp(wall_s, UTC)

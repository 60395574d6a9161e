"""The report as text: what is measured and what is estimated must be plain in it."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

import pytest

from aiocarbon._core.intensity import Location, Pue
from aiocarbon._core.reading import Basis, DeviceKind
from aiocarbon._core.report import (
    DeviceReport,
    EpochReport,
    Equivalent,
    IntensityUse,
    Overhead,
    Quantities,
    RunReport,
    Scope,
)
from aiocarbon._core.span_report import (
    AttributionReport,
    ChildReport,
    DeviceSplit,
    SpanReport,
    Unattributed,
)
from aiocarbon.render.spans import MOST_ROWS
from aiocarbon.render.text import WARNING, live_line, report_text, total_text

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
QUANTITIES: dict[str, Any] = {
    "duration_s": 3600.0,
    "it_energy_kwh": 0.25,
    "it_energy_kwh_low": 0.24,
    "it_energy_kwh_high": 0.26,
    "energy_kwh": 0.395,
    "energy_kwh_low": 0.379,
    "energy_kwh_high": 0.411,
    "co2eq_g": 45.0,
    "co2eq_g_low": 38.0,
    "co2eq_g_high": 52.0,
    "power_w": 250.0,
    "coverage": 1.0,
    "basis": Basis.COUNTER,
    "basis_shares": {Basis.COUNTER: 1.0},
}
DEVICE = DeviceReport(
    id="GPU-11111111-2222-3333-4444-555555555555",
    kind=DeviceKind.GPU,
    name="NVIDIA A100-SXM4-40GB",
    host="h",
    basis=Basis.COUNTER,
    it_energy_kwh=0.25,
    it_energy_kwh_low=0.24,
    it_energy_kwh_high=0.26,
    power_w=250.0,
    coverage=1.0,
    counted=True,
)
REPORT = RunReport(
    **QUANTITIES,
    run_id="r1",
    name="",
    host="h",
    started_at=AT,
    ended_at=AT,
    as_of=AT,
    is_final=True,
    ended_well=True,
    epochs=(),
    epochs_total=0,
    outside=Quantities(**QUANTITIES),
    devices=(DEVICE,),
    scope=Scope(name="machine", measured=("gpu",), modelled=("cpu",), missing=("memory",)),
    location=Location(zone="DK", name="Denmark", how="time zone", is_guess=True),
    pue=Pue(value=1.58, source="somebody"),
    intensity_g_per_kwh=114.0,
    intensity_sources=(
        IntensityUse(
            source="Ember", zone="DK", quality="average", kind="average", factor_basis="life-cycle", g_per_kwh=114.0
        ),
    ),
    equivalents=(
        Equivalent(id="a", amount=0.374, unit="km travelled by car", g_per_unit=120.4, year=2018, source="s"),
        Equivalent(id="b", amount=0.0001, unit="flights", g_per_unit=5e5, year=None, source="s2"),
        Equivalent(id="c", amount=0.0001, unit="trees", g_per_unit=5e5, year=None, source="s3"),
    ),
    unattributed=Unattributed(**QUANTITIES, idle=None),
    warnings=("something is amiss",),
    overhead=Overhead(cpu_s=0.36, readings=3600, missed_ticks=2),
)


def said(**changes: Any) -> str:
    return report_text(dataclasses.replace(REPORT, **changes))


def epoch(index: int, **changes: Any) -> EpochReport:
    return EpochReport(**(QUANTITIES | {"index": index, "devices": ()} | changes))


def test_all_that_a_reader_needs_is_there_with_its_source() -> None:
    text = said()
    for words in (
        "aiocarbon: r1 on h",
        "1 h 00 min, from 2026-01-02 03:04:05 UTC",
        "250 Wh by the devices, 90 % range 240 to 260 Wh; mean 250 W",
        "100 % measured, energy counter; readings vouch for 100 % of the time",
        "395 Wh with PUE 1.58",
        "PUE: somebody",
        "45.0 g, estimated from energy and intensity, 90 % range 38.0 to 52.0 g",
        "114 gCO2eq/kWh, yearly average of DK, life-cycle: Ember",
        "Denmark (DK), a GUESS from the time zone",
        "measured: gpu; modelled: cpu; missing: memory",
        "370 m travelled by car (120.4 g/km, 2018)",
        "0.36 CPU s for measuring (0.010 % of a core), 3600 readings, 2 ticks missed",
    ):
        assert words in text
    assert f"{WARNING}something is amiss" in text.splitlines()


def test_estimates_are_called_so() -> None:
    text = said(
        basis_shares={Basis.COUNTER: 0.7, Basis.MODEL: 0.3}, devices=(dataclasses.replace(DEVICE, basis=Basis.ASSUMED),)
    )
    assert "70 % measured, energy counter; 30 % ESTIMATED, model" in text
    assert "ESTIMATED, assumption" in text


def test_nothing_measured_is_said_in_words() -> None:
    nothing = {name: 0.0 for name in QUANTITIES if name.startswith(("it_energy", "energy", "co2eq"))}
    text = said(**nothing, basis_shares={}, coverage=0.0, power_w=None, devices=())
    assert "energy      unknown: NOTHING was measured; readings vouch for 0 % of the time" in text
    assert "CO2eq       unknown\n" in text
    assert "0 Wh" not in text
    assert "0 g" not in text


def test_what_was_not_measured_yet_has_a_bound_and_no_zero() -> None:
    nothing = dict.fromkeys(("it_energy_kwh", "it_energy_kwh_low", "energy_kwh", "co2eq_g", "coverage"), 0.0)
    text = said(**nothing)
    assert "energy      unknown, at most 260 Wh: NOTHING was measured; readings vouch for 0 % of the time" in text
    assert "CO2eq       unknown, at most 52 g" in text


def test_view_of_the_same_energy_is_not_in_the_sum() -> None:
    assert "no, another view of the same" in said(devices=(DEVICE, dataclasses.replace(DEVICE, counted=False)))


def test_device_of_which_nothing_was_seen_has_a_bound_and_no_zero() -> None:
    text = said(devices=(dataclasses.replace(DEVICE, it_energy_kwh=0.0, it_energy_kwh_low=0.0, power_w=0.0),))
    (row,) = (line for line in text.splitlines() if "A100" in line)
    assert "< 260 Wh" in row
    assert " 0 W" not in row


def test_amounts_that_say_nothing_to_anybody_are_left_out() -> None:
    tiny = dataclasses.replace(REPORT.equivalents[0], amount=1e-6)
    assert "as much as" not in said(equivalents=(tiny,))


def test_run_that_broke_off_is_not_told_as_one_that_ended() -> None:
    assert "did not end well" in said(ended_well=False)
    assert "it goes on, or broke off" in said(is_final=False)


def test_cost_of_one_that_followed_the_readings_of_another_is_told() -> None:
    assert "0.020 CPU s for measuring" in said(overhead=Overhead(cpu_s=0.02, readings=0, missed_ticks=0))
    used = Overhead(cpu_s=0.5, readings=10, missed_ticks=0, it_energy_kwh=1.2e-6)
    assert "% of a core, about 1.2 mWh), 10 readings" in said(overhead=used)
    assert "overhead    not known" in said(overhead=Overhead(cpu_s=0.0, readings=0, missed_ticks=0))


def test_given_intensity_is_called_given() -> None:
    use = dataclasses.replace(REPORT.intensity_sources[0], quality="given", g_per_kwh=449.06)
    assert "449.1 gCO2eq/kWh, as given" in said(intensity_sources=(use,))


def test_row_of_the_user_s_own_file_names_the_file() -> None:
    use = dataclasses.replace(
        REPORT.intensity_sources[0], quality="given", source="mine.csv", factor_basis="direct", kind="marginal"
    )
    assert "114.0 gCO2eq/kWh, as given, marginal, direct: mine.csv" in said(intensity_sources=(use,))


@pytest.mark.parametrize(
    ("quality", "words"),
    [
        ("live", "live, of DK, average, direct"),
        ("estimated", "estimated by the source, of DK, average, direct"),
        ("forecast", "forecast, of DK, average, direct"),
        ("cached", "carried on from an older value, of DK, average, direct"),
        ("average", "yearly average of DK, direct"),
    ],
)
def test_quality_is_told_in_words_for_everybody(quality: str, words: str) -> None:
    use = dataclasses.replace(REPORT.intensity_sources[0], quality=quality, factor_basis="direct", note="a note")
    assert f"114 gCO2eq/kWh, {words}: Ember; a note" in said(intensity_sources=(use,))


def test_factors_that_nobody_told_are_not_called_unknown() -> None:
    use = dataclasses.replace(REPORT.intensity_sources[0], quality="live", factor_basis="unknown", kind="marginal")
    assert "live, of DK, marginal, factors not told: Ember" in said(intensity_sources=(use,))


def test_shares_are_told_where_there_are_several_sources() -> None:
    first = dataclasses.replace(REPORT.intensity_sources[0], share=0.75)
    second = dataclasses.replace(first, source="other", share=0.25, g_per_kwh=200.0)
    lines = said(intensity_sources=(first, second)).splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("  intensity"))
    assert lines[at].startswith("  intensity   75 % of the energy: 114 gCO2eq/kWh")
    assert lines[at + 1].startswith("              25 % of the energy: 200 gCO2eq/kWh")
    assert "of the energy" not in said()


def test_figure_before_mending_is_told_beside_the_one_after() -> None:
    assert "guesses" not in said()
    assert "  before 61.0 g, when parts of the intensity were guesses" in said(co2eq_g_before=61.0)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ({"how": "given"}, "Denmark (DK), as given"),
        ({"how": "environment"}, "Denmark (DK), as given in the environment"),
        ({"how": "pyproject.toml"}, "Denmark (DK), as given in pyproject.toml"),
        ({"how": "cloud", "region": "aws eu-north-1"}, "Denmark (DK), as the cloud says (aws eu-north-1)"),
        ({"how": "geolocation", "note": "two agreed"}, "Denmark (DK), by this machine's internet address; two agreed"),
        ({"how": "given", "latitude": 55.6, "longitude": 12.5, "note": "nearest"}, "Denmark (DK), as given; nearest"),
        ({"how": "world"}, "Denmark (DK), UNKNOWN, so the world's average is used"),
    ],
)
def test_location_is_told_with_how_it_is_known(place: dict[str, Any], words: str) -> None:
    text = said(location=Location(**({"zone": "DK", "name": "Denmark", "is_guess": False} | place)))
    assert f"  location    {words}\n" in text
    assert "55.6" not in text


def test_partial_epochs_give_no_mean() -> None:
    assert "epochs" not in said()
    partial = epoch(2, is_partial=True, energy_kwh=9.0)
    text = said(epochs=(epoch(0), epoch(1, energy_kwh=0.405), partial), epochs_total=3)
    assert "3; mean of the 2 newest complete ones 400 Wh" in text
    assert "last 405 Wh" in text
    assert "1, none of them complete" in said(epochs=(partial,), epochs_total=1)


def test_total_says_of_how_many() -> None:
    text = total_text(REPORT.outside, 3)
    assert text.startswith("aiocarbon: 3 runs together\n")
    assert "250 Wh by the devices" in text


def test_live_line_never_says_zero_for_what_is_not_known() -> None:
    assert live_line(REPORT) == "250 W  395 Wh  ~45 g CO2eq  1 h 00 min"
    assert "~250 W" in live_line(dataclasses.replace(REPORT, basis_shares={Basis.MODEL: 1.0}))
    assert live_line(dataclasses.replace(REPORT, coverage=0.0, it_energy_kwh=0.0)) == "nothing measured yet  1 h 00 min"


def span(name: str, energy_kwh: float, **changes: Any) -> SpanReport:
    part = {
        **QUANTITIES,
        "it_energy_kwh": energy_kwh,
        "it_energy_kwh_low": energy_kwh,
        "it_energy_kwh_high": energy_kwh,
    }
    fields: dict[str, Any] = {
        "name": name,
        "count": 1200,
        "open": 0,
        "duration_s_mean": 0.1,
        "duration_s_p50": 0.1,
        "duration_s_p95": 0.2,
        "it_energy_j_mean": 1.0,
        "it_energy_j_p50": 1.0,
        "it_energy_j_p95": 2.0,
        "quantile_error": 0.004,
        "below_resolution": False,
        "with_children": Quantities(**part),
        "by_tags": (),
    }
    return SpanReport(**part, **{**fields, **changes})


def spanned(*spans: SpanReport, idle: Quantities | None = None, **changes: Any) -> list[str]:
    floor_w = None if idle is None else 50.0
    device = DeviceSplit(
        id="gpu", idle_it_energy_kwh=0.0, spans_it_energy_kwh=0.0, rest_it_energy_kwh=0.0, idle_floor_w=floor_w
    )
    how = {"policy": "even", "idle": "kept_apart", "as_of": AT, "resolution_s": 1.0, "co2eq_factor": 1.0}
    return said(
        spans=spans,
        unattributed=Unattributed(**{**QUANTITIES, "it_energy_kwh": 0.05}, idle=idle),
        attribution=AttributionReport(**how, devices=(device,)),
        **changes,
    ).splitlines()


def row(lines: list[str], begin: str) -> list[str]:
    (line,) = (line for line in lines if line.strip().startswith(begin))
    return line.split()


def test_spans_are_a_table_with_what_no_span_owns_and_how_it_was_split() -> None:
    inner = Quantities(**{**QUANTITIES, "it_energy_kwh": 0.18, "it_energy_kwh_low": 0.18, "it_energy_kwh_high": 0.18})
    idle = Quantities(**{**QUANTITIES, "it_energy_kwh": 0.025})
    lines = spanned(
        span("rollout", 0.15, with_children=inner),
        span("update", 0.05, below_resolution=True, open=2, duration_s_p50=None, duration_s_p95=None),
        idle=idle,
    )
    assert row(lines, "rollout")[1:9] == ["150.0", "Wh", "60", "%", "45", "g", "180.0", "Wh"]
    assert "update *" in "\n".join(lines)
    assert row(lines, "update *")[-5:] == ["1,200", "(2", "open)", "-", "-"]
    assert row(lines, "(no span)")[2:6] == ["50", "Wh", "20", "%"]
    assert row(lines, "of it idle floor")[4:8] == ["25", "Wh", "10", "%"]
    assert any(
        "split evenly among open spans; the idle floor of 50.0 W is kept apart; * is shorter than" in line
        for line in lines
    )


def test_an_unknown_floor_is_said_and_no_line_stands_for_it() -> None:
    lines = spanned(span("rollout", 0.2))
    assert not any("of it idle floor" in line for line in lines)
    assert any("no idle floor is known" in line for line in lines)


def test_of_many_names_those_with_the_most_energy_are_shown_and_none_breaks_the_table() -> None:
    names = [f"n{i:03}" for i in range(2 * MOST_ROWS)]
    lines = spanned(*(span(name, 0.001 * i) for i, name in enumerate(names)), span("a\nb\x1b[31m" + "x" * 300, 0.2))
    shown = [name for name in names if any(line.strip().startswith(name) for line in lines)]
    assert shown == names[MOST_ROWS + 1 :]
    assert any(f"{MOST_ROWS + 1} more names are in the JSON" in line for line in lines)
    assert not any("\x1b" in line for line in lines)
    assert any(line.strip().startswith("a?b?[31mxxx") and "xxx..." in line for line in lines)


def test_children_are_a_table_with_what_a_step_took() -> None:
    busy = ChildReport(**QUANTITIES, name="actor-3", count=7, steps=500, epochs=(), epochs_total=3)
    still = ChildReport(
        **{**QUANTITIES, "it_energy_kwh": 0.0, "it_energy_kwh_low": 0.0, "it_energy_kwh_high": 0.0},
        name="actor-4",
        count=0,
        steps=5,
        epochs=(),
        epochs_total=0,
    )
    lines = said(children=(still, busy)).splitlines()
    assert row(lines, "actor-3")[-5:] == ["7", "500", "3", "500", "mWh"]
    assert row(lines, "actor-4")[-1] == "-"  # nothing is known of a step of it


def test_a_run_without_spans_has_no_table_of_them() -> None:
    assert "(no span)" not in said()

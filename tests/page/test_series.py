"""A run's curves as they are drawn: they add up to its report, and what was not measured is a gap."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from aiocarbon._core.report import RunReport
from aiocarbon.journal import records
from aiocarbon.journal.read import gather, tell
from aiocarbon.page.comparisons import countries, methods
from aiocarbon.page.data import detail
from aiocarbon.page.series import Part, Series, intensities, runs_of, series
from aiocarbon.page.span_series import span_series
from benchmarks.made_runs import BEGIN_S, lines, put


def drawn(folder: Path, points: int = 720) -> tuple[RunReport, list[Part], Series]:
    processes = gather([folder], [])
    (run,) = tell(processes, []).runs
    parts = runs_of(processes)[run.run_id]
    found = series(parts, points)
    assert found is not None
    return run, parts, found


@pytest.mark.parametrize("points", [720, 45, 12])
def test_what_is_drawn_adds_up_to_the_report(tmp_path: Path, points: int) -> None:
    put(tmp_path, hours=5.0, epochs=20)
    run, _, found = drawn(tmp_path, points)
    assert len(found.instants_s) <= points + 2
    assert found.energy_kwh[-1].value == pytest.approx(run.energy_kwh, rel=1e-9)
    assert found.co2eq_g[-1].value == pytest.approx(run.co2eq_g, rel=1e-9)
    assert found.energy_kwh[-1].low == pytest.approx(run.energy_kwh_low, rel=1e-3)
    assert found.co2eq_g[-1].high == pytest.approx(run.co2eq_g_high, rel=1e-3)
    lengths = [b - a for a, b in itertools.pairwise(found.instants_s)]
    joules = sum(w * s for line in found.lines for w, s in zip(line.power_w, lengths, strict=True) if w is not None)
    assert joules == pytest.approx(run.it_energy_kwh * 3.6e6, rel=1e-6)


@pytest.mark.parametrize("points", [720, 12])
def test_what_samples_of_a_power_hide_is_in_the_drawn_range_as_in_the_reports(tmp_path: Path, points: int) -> None:
    path = put(tmp_path, hours=5.0, epochs=20)
    told = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    begin_ns = told[0]["t"]
    for record in told:
        if record.get("k") in ("tick", "mark"):
            record["h"] = {"0": (record["t"] - begin_ns) * 20_000}  # 1 MJ of 112, in the end
    plain, _, _ = drawn(tmp_path, points)
    path.write_text("".join(map(records.line, told)), encoding="utf-8")
    run, _, found = drawn(tmp_path, points)
    assert run.energy_kwh_high - plain.energy_kwh_high > 1.0 / 3.6 * 0.1
    for last, low, high in (
        (found.energy_kwh[-1], run.energy_kwh_low, run.energy_kwh_high),
        (found.co2eq_g[-1], run.co2eq_g_low, run.co2eq_g_high),
    ):
        assert (last.low, last.high) == (pytest.approx(low, rel=1e-3), pytest.approx(high, rel=1e-3))


def test_cumulative_figures_never_fall_and_begin_at_nothing(tmp_path: Path) -> None:
    put(tmp_path, hours=2.0, epochs=7)
    _, _, found = drawn(tmp_path)
    for sums in (found.energy_kwh, found.co2eq_g):
        assert sums[0] == (0.0, 0.0, 0.0)
        assert all(a.value <= b.value for a, b in itertools.pairwise(sums))
        assert all(one.low <= one.value <= one.high for one in sums)


def test_time_that_nothing_vouches_for_is_a_gap_and_no_zero(tmp_path: Path) -> None:
    put(tmp_path, hours=4.0, epochs=0, is_silent=(3600.0, 7200.0))
    _, _, found = drawn(tmp_path)
    (silent,) = [line for line in found.lines if line.device.id.startswith("GPU-00000000")]
    for at_s, power_w in zip(found.instants_s, silent.power_w, strict=False):
        inside = 3599.0 <= at_s - BEGIN_S < 7199.0
        assert (power_w is None) == inside
        assert power_w is None or power_w > 200.0


def test_a_sum_that_lacks_a_device_is_a_gap(tmp_path: Path) -> None:
    put(tmp_path, hours=4.0, epochs=0, is_silent=(3600.0, 7200.0))
    run, parts, _ = drawn(tmp_path)
    rest = detail(run, parts, "ended", 720)["power"]["lines"][-1]
    assert rest["name"] == "4 other devices"
    assert None in rest["w"]
    assert all(w is None or w > 600.0 for w in rest["w"])


def test_two_processes_that_watch_one_device_are_drawn_once(tmp_path: Path) -> None:
    """What was put around a command and what the command marks itself are two journals of one run."""
    put(tmp_path, hours=1.0, epochs=6)
    inner = list(lines(hours=1.0, epochs=6))
    for record in inner:
        if "schema" in record:
            record["pid"] = 4001
    text = "".join(map(records.line, inner))
    (tmp_path / "day" / "node-1-4001-0.jsonl").write_text(text, encoding="utf-8")
    run, parts, found = drawn(tmp_path)
    assert len(parts) > 1
    assert found.energy_kwh[-1].value == pytest.approx(run.energy_kwh, rel=1e-9)
    assert len(found.lines) == 11


def test_time_between_two_processes_is_a_pause_and_draws_nothing(tmp_path: Path) -> None:
    put(tmp_path, hours=1.0, epochs=0, has_end=False)
    later = list(lines(hours=1.0, epochs=0, begin_s=BEGIN_S + 3 * 3600))
    for record in later:
        if "t" in record:
            record["t"] += 3 * 3600 * 10**9
        if "schema" in record:
            record["pid"] = 4001
        if record.get("k") == "device":
            record["segment"] += "-again"
    text = "".join(map(records.line, later))
    (tmp_path / "day" / "node-1-4001-0.jsonl").write_text(text, encoding="utf-8")
    run, _, found = drawn(tmp_path)
    assert found.energy_kwh[-1].value == pytest.approx(run.energy_kwh, rel=1e-9)
    between = [
        line.power_w[i]
        for line in found.lines
        for i, at_s in enumerate(found.instants_s[:-1])
        if at_s > BEGIN_S + 3600 and found.instants_s[i + 1] < BEGIN_S + 3 * 3600
    ]
    assert all(power is None for power in between)


def test_a_run_of_no_time_is_not_drawn(tmp_path: Path) -> None:
    path = put(tmp_path, hours=1.0, epochs=0)
    first = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text(first[0], encoding="utf-8")
    processes = gather([tmp_path], [])
    (run,) = tell(processes, []).runs
    found = detail(run, runs_of(processes)["day"], "broke off", 720)
    assert [value for _, value, _, _ in found["kpis"]] == ["not measured", "not measured", "0 s", "-"]
    assert found["power"] is found["used"] is found["epochs"] is found["shares"] is None
    json.dumps(found, allow_nan=False)


def test_intensities_are_means_where_there_are_many(tmp_path: Path) -> None:
    put(tmp_path, hours=24.0, epochs=0)
    _, parts, _ = drawn(tmp_path)
    (fine,) = intensities(parts, 720).values()
    (coarse,) = intensities(parts, 20).values()

    def mean(steps: list[Any]) -> float:
        whole = sum(b - a for a, b, _ in steps)
        return float(sum((b - a) * value.g_per_kwh for a, b, value in steps)) / whole

    assert len(fine) == 288
    assert len(coarse) <= 21
    assert mean(coarse) == pytest.approx(mean(fine), rel=1e-9)
    assert coarse[0][0] == fine[0][0]
    assert coarse[-1][1] == fine[-1][1]


def test_the_run_under_other_intensities(tmp_path: Path) -> None:
    put(tmp_path, hours=24.0, epochs=0)
    run, parts, _ = drawn(tmp_path)
    live, average, ahead = methods(run, parts)
    assert live.co2eq_g == run.co2eq_g
    from aiocarbon.intensity import table

    flat = table.average("DK-DK1")
    assert average.co2eq_g == pytest.approx(run.energy_kwh * flat.g_per_kwh, rel=1e-6)
    # The forecast of the made run is 0.93 of what came, and 6 g/kWh more.
    assert ahead.co2eq_g == pytest.approx(0.93 * run.co2eq_g + 6.0 * run.energy_kwh, rel=0.02)
    assert "life-cycle" in average.note
    assert "direct" in ahead.note


def test_behind_a_forecast_the_yearly_average_counts_and_that_is_said(tmp_path: Path) -> None:
    put(tmp_path, hours=48.0, epochs=0)
    run, parts, _ = drawn(tmp_path)
    ahead = methods(run, parts)[-1]
    assert ahead.name == "Forecast at the start"
    assert "yearly average counts for what came after" in ahead.note


def test_spans_over_time_are_differences_of_their_totals(tmp_path: Path) -> None:
    put(tmp_path, hours=3.0, epochs=0)
    _, parts, _ = drawn(tmp_path)
    found = span_series(parts, 300)
    assert found is not None
    last = {share.name: share.energy_j for share in parts[0].view.process.spans.account.shares.spans}  # type: ignore[union-attr]
    lengths = [b - a for a, b in itertools.pairwise(found.instants_s)]
    for name, powers in found.power_w.items():
        assert sum(w * s for w, s in zip(powers, lengths, strict=True)) == pytest.approx(last[name], rel=1e-6)


def test_countries_are_the_table_s_and_ascend() -> None:
    rows = countries()
    assert len(rows) > 200
    assert [row[2] for row in rows] == sorted(row[2] for row in rows)
    assert sum(row[6] for row in rows) == 28
    assert all(row[3] <= row[2] <= row[4] for row in rows)


def test_predictions_of_a_resumed_run_are_one_after_the_other_and_of_two_processes_at_once_none(tmp_path: Path) -> None:
    put(tmp_path, hours=1.0, epochs=6, has_end=False)
    for name, shift_s in (("later", 3 * 3600), ("beside", 0)):
        again = list(lines(hours=1.0, epochs=6, begin_s=BEGIN_S + shift_s))
        for record in again:
            if "t" in record:
                record["t"] += shift_s * 10**9
            if "schema" in record:
                record["pid"] = 4001
            if record.get("k") == "device":
                record["segment"] += name
        path = tmp_path / "day" / "node-1-4001-0.jsonl"
        path.write_text("".join(map(records.line, again)), encoding="utf-8")
        run, parts, _ = drawn(tmp_path)
        used = detail(run, parts, "ended", 720)["used"]
        if name == "later":
            times = used["predictions"]["t"]
            assert len(times) == 12
            assert times == sorted(times)
        else:
            assert used["predictions"] is None
            assert "2 processes predicted their own parts" in used["energy_note"]


def test_many_devices_are_drawn_by_machine_or_by_kind(tmp_path: Path) -> None:
    for n in range(3):
        put(tmp_path, host=f"node-{n}", hours=1.0, epochs=0, spans=())
    run, parts, _ = drawn(tmp_path)
    names = [line["name"] for line in detail(run, parts, "ended", 100)["power"]["lines"]]
    assert sorted(names) == [f"node-{n} (11 devices)" for n in range(3)]
    for n in range(3, 9):
        put(tmp_path, host=f"node-{n}", hours=0.5, epochs=0, spans=())
    run, parts, _ = drawn(tmp_path)
    lines_of = detail(run, parts, "ended", 100)["power"]["lines"]
    assert [line["name"] for line in lines_of] == ["GPU (72 devices)", "CPU (18 devices)", "memory (9 devices)"]
    # Nodes that ended earlier are not in the run any more: what is left is drawn, and is less.
    assert None not in lines_of[0]["w"]
    assert lines_of[0]["w"][0] > 2.5 * lines_of[0]["w"][-1]

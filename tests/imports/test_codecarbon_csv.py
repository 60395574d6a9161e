"""codecarbon's emissions.csv: its 38 columns as 3.3.2 writes them, older ones, and broken ones."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from aiocarbon import imports, journal
from aiocarbon._core.reading import Basis
from aiocarbon.errors import JournalError

HEADER = (
    "timestamp,project_name,run_id,experiment_id,duration,emissions,emissions_rate,cpu_power,gpu_power,ram_power,"
    "cpu_energy,gpu_energy,ram_energy,energy_consumed,water_consumed,country_name,country_iso_code,region,"
    "cloud_provider,cloud_region,os,python_version,codecarbon_version,cpu_count,cpu_model,gpu_count,gpu_model,longitude,"
    "latitude,ram_total_size,tracking_mode,cpu_utilization_percent,gpu_utilization_percent,ram_utilization_percent,"
    "ram_used_gb,on_cloud,pue,wue"
)
COLUMNS = next(csv.reader([HEADER]))

ROW: dict[str, Any] = {
    "timestamp": "2026-03-01T13:00:00",
    "project_name": "codecarbon",
    "run_id": "b9c1a751-320a-4f8c-b9d3-078109f43100",
    "duration": 3600.0,
    "emissions": 0.24,
    "cpu_energy": 0.12,
    "gpu_energy": 1.2,
    "ram_energy": 0.06,
    "energy_consumed": 1.38,
    "country_name": "Denmark",
    "country_iso_code": "DNK",
    "codecarbon_version": "3.3.2",
    "cpu_model": "AMD EPYC",
    "gpu_count": 1,
    "gpu_model": "1 x NVIDIA A100",
    "ram_total_size": 64,
    "tracking_mode": "machine",
    "on_cloud": "N",
    "pue": 1.2,
    "wue": 0.0,
}


def table(*rows: dict[str, Any], columns: list[str] = COLUMNS) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def imported(tmp_path: Path, text: str) -> tuple[journal.Loaded, imports.Imported]:
    path = tmp_path / "emissions.csv"
    path.write_text(text)
    done = imports.import_logs("codecarbon", [path], tmp_path / "runs", zone=UTC)
    return journal.load(tmp_path / "runs"), done


def test_row_is_a_run_with_its_components(tmp_path: Path) -> None:
    loaded, done = imported(tmp_path, table(ROW))
    (run,) = loaded.runs
    assert done.problems == ()
    assert run.energy_kwh == pytest.approx(1.38)
    assert run.it_energy_kwh == pytest.approx(1.38 / 1.2)
    assert run.co2eq_g == pytest.approx(240.0)
    assert (run.pue.value, run.location.zone, run.tool, run.version) == (1.2, "DK", "codecarbon", "3.3.2")
    assert (run.started_at.hour, run.duration_s, run.ended_well) == (12, 3600.0, True)
    bases = {str(device.kind): device.basis for device in run.devices}
    assert bases == {"cpu": Basis.ASSUMED, "gpu": Basis.COUNTER, "dram": Basis.ASSUMED}
    assert not any("components make" in text for text in run.warnings)


def test_rows_of_one_run_are_cumulative(tmp_path: Path) -> None:
    half = ROW | {"timestamp": "2026-03-01T12:30:00", "duration": 1800.0, "emissions": 0.04, "energy_consumed": 0.69,
                  "cpu_energy": 0.06, "gpu_energy": 0.6, "ram_energy": 0.03}  # fmt: skip
    loaded, _ = imported(tmp_path, table(half, ROW, half))
    (run,) = loaded.runs
    assert run.energy_kwh == pytest.approx(1.38)
    assert run.co2eq_g == pytest.approx(240.0)
    assert run.duration_s == 3600.0


def test_importing_again_changes_nothing(tmp_path: Path) -> None:
    first, _ = imported(tmp_path, table(ROW))
    (path,) = (tmp_path / "runs").rglob("*.jsonl")
    before = path.read_bytes()
    again, done = imported(tmp_path, table(ROW))
    assert [became for _, became in done.runs] == ["there already"]
    assert path.read_bytes() == before
    assert again.to_dict() == first.to_dict()


def test_what_it_does_not_measure_is_no_zero(tmp_path: Path) -> None:
    loaded, _ = imported(tmp_path, table(ROW | {"gpu_energy": 0.0, "energy_consumed": 0.18}))
    (run,) = loaded.runs
    assert {str(device.kind) for device in run.devices} == {"cpu", "dram"}
    assert "gpu" in run.scope.missing
    assert any("tells no energy of them" in text for text in run.warnings)


def test_older_file_without_pue_and_process_scope(tmp_path: Path) -> None:
    old = [name for name in COLUMNS if name not in {"pue", "wue", "water_consumed", "ram_used_gb"}]
    loaded, _ = imported(tmp_path, table(ROW | {"tracking_mode": "process"}, columns=old))
    (run,) = loaded.runs
    assert run.pue.value == 1.0
    assert run.it_energy_kwh == pytest.approx(1.38)
    assert any("process's share" in text for text in run.warnings)


def test_runs_apart_are_summed(tmp_path: Path) -> None:
    other = ROW | {"run_id": "2", "country_iso_code": "??", "timestamp": "2026-03-01T12:30:00"}
    loaded, _ = imported(tmp_path, table(ROW, other))
    assert loaded.total.energy_kwh == pytest.approx(2 * 1.38)
    assert {run.location.zone for run in loaded.runs} == {"DK", "WORLD"}
    assert len({run.run_id for run in loaded.runs}) == 2


def test_time_zone_in_the_row_counts(tmp_path: Path) -> None:
    loaded, _ = imported(tmp_path, table(ROW | {"timestamp": "2026-03-01T13:00:00+05:00"}))
    assert loaded.runs[0].ended_at == datetime(2026, 3, 1, 8, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ({"duration": "nan"}, "cannot be read"),
        ({"duration": "-3"}, "cannot be read"),
        ({"energy_consumed": ""}, "cannot be read"),
        ({"timestamp": "yesterday"}, "cannot be read"),
        ({"timestamp": "1970-01-01T00:00:01+00:00"}, "cannot be read"),  # it began before: a clock that was never set
        ({"timestamp": "9999-12-31T23:59:59+00:00"}, "cannot be read"),
        ({"run_id": ""}, "cannot be read"),
        ({"energy_consumed": "inf"}, "cannot be read"),
    ],
)
def test_bad_row_is_left_out_and_the_others_count(tmp_path: Path, bad: dict[str, str], word: str) -> None:
    loaded, done = imported(tmp_path, table(ROW | {"run_id": "bad"} | bad, ROW))
    assert len(loaded.runs) == 1
    assert any(word in problem and "(2)" in problem for problem in done.problems)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "\0\0\0", "<html>", ",".join(COLUMNS) + "\n"])
def test_foreign_file_is_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(JournalError, match="nothing could be imported"):
        imported(tmp_path, text)


def test_a_file_of_tasks_is_not_taken_for_one_of_runs(tmp_path: Path) -> None:
    rows = [ROW | {"task_name": name, "duration": seconds} for name, seconds in (("load", 2.0), ("train", 6.0))]
    with pytest.raises(JournalError, match=r"file of tasks.*import the emissions\.csv beside it"):
        imported(tmp_path, table(*rows, columns=["task_name", *COLUMNS]))


def test_wild_name_is_kept_and_files_are_named_safely(tmp_path: Path) -> None:
    wild = '=cmd|"x"\n<script>' + "y" * 10_000
    loaded, _ = imported(tmp_path, table(ROW | {"project_name": wild, "run_id": "../../etc/passwd"}))
    (run,) = loaded.runs
    assert run.name == wild[:200]
    assert [path.parent.parent for path in tmp_path.rglob("*.jsonl")] == [tmp_path / "runs"]

"""carbontracker's logs: the lines are of its formats 1.x and 2.x, faults included."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from aiocarbon import imports, journal
from aiocarbon._core.reading import Basis
from aiocarbon._core.report import RunReport
from aiocarbon.errors import JournalError

J_PER_KWH = 3.6e6
STEM = "unet_4711.42_2026-03-01T120000Z"
HEAD = """\
2026-03-01 12:00:00 - carbontracker version 2.4.7
2026-03-01 12:00:00 - Only predicted and actual consumptions are multiplied by a PUE coefficient of 1.58 (Daniel Bizo, \
2023, Uptime Institute Global Data Center Survey).
"""
TAIL = """\
2026-03-01 12:05:00 - Carbon intensities (gCO2eq/kWh) fetched every 900 s at detected location: Copenhagen, Capital \
Region, DK: [100.0, 140.0]
2026-03-01 12:05:00 - Average carbon intensity during training was 120.00 gCO2eq/kWh.\u0020
2026-03-01 12:05:00 - Monitoring thread ended.
"""


def found(line: str) -> str:
    return f"2026-03-01 12:00:00 - The following components were found: {line}\n"


def epoch(n: int | str, at: str, duration: str, **powers: object) -> str:
    lines = [f"Epoch {n}:", f"Duration: {duration}"]
    lines += [f"Average power usage (W) for {name}: {power}" for name, power in powers.items()]
    return "".join(f"2026-03-01 {at} - {line}\n" for line in lines)


def told(tmp_path: Path, log: str, output: str = "", err: str = "", stem: str = STEM) -> RunReport:
    folder = tmp_path / "logs"
    folder.mkdir(exist_ok=True)
    (folder / f"{stem}_carbontracker.log").write_text(log)
    if output:
        (folder / f"{stem}_carbontracker_output.log").write_text(output)
    if err:
        (folder / f"{stem}_carbontracker_err.log").write_text(err)
    imports.import_logs("carbontracker", [folder], tmp_path / "runs", zone=UTC)
    (run,) = journal.load(tmp_path / "runs").runs
    return run


def joules(kwh: float) -> float:
    return kwh * J_PER_KWH


def test_whole_run_of_one_gpu_and_cpu(tmp_path: Path) -> None:
    log = (
        HEAD
        + found("GPU with device(s) NVIDIA A100. CPU with device(s) Intel(R) Xeon(R) CPU @ 2.30GHz.")
        + epoch(1, "12:01:00", "0:01:00.00", gpu=300.0, cpu=60.0)
        + epoch(2, "12:02:00", "0:01:00.00", gpu=310.0, cpu=60.0)
        + TAIL
    )
    run = told(tmp_path, log)
    assert joules(run.it_energy_kwh) == pytest.approx(60 * (300 + 310 + 120))
    assert run.energy_kwh == pytest.approx(run.it_energy_kwh * 1.58)
    assert run.co2eq_g == pytest.approx(run.energy_kwh * 120.0)
    assert (run.tool, run.version, run.name, run.ended_well) == ("carbontracker", "2.4.7", "unet", True)
    assert run.started_at == datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
    assert (run.epochs_total, [round(e.duration_s) for e in run.epochs]) == (2, [60, 60])
    assert run.coverage == pytest.approx(1.0)
    gpu, cpu = run.devices
    assert (gpu.name, gpu.basis) == ("NVIDIA A100", Basis.POWER)
    assert (cpu.name, cpu.basis) == ("Intel(R) Xeon(R) CPU @ 2.30GHz", Basis.ASSUMED)
    assert (run.location.zone, run.location.is_guess) == ("DK", False)
    assert run.intensity_sources[0].source == "carbontracker 2.4.7"
    assert "Daniel Bizo, 2023" in run.pue.source


def test_importing_again_changes_nothing(tmp_path: Path) -> None:
    log = HEAD + found("CPU with device(s) X.") + epoch(1, "12:01:00", "0:01:00.00", cpu=60.0)
    first = told(tmp_path, log)
    (path,) = (tmp_path / "runs").rglob("*.jsonl")
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    again = imports.import_logs("carbontracker", [tmp_path / "logs", tmp_path / "logs"], tmp_path / "runs", zone=UTC)
    assert [became for _, became in again.runs] == ["there already"]
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    # The training went on: the journal follows, still as one run.
    longer = told(tmp_path, log + epoch(2, "12:02:00", "0:01:00.00", cpu=60.0) + TAIL)
    assert longer.run_id == first.run_id
    assert (first.epochs_total, longer.epochs_total) == (1, 2)
    assert (first.ended_well, longer.ended_well) == (False, True)


def test_mean_of_2x_counts_once_a_device(tmp_path: Path) -> None:
    log = (
        HEAD
        + found(
            "GPU with device(s) NVIDIA A100, NVIDIA A100, NVIDIA H100. CPU with device(s) cpu:0, dram:0, cpu:1, dram:1."
        )
        + epoch(1, "12:01:00", "0:01:00.00", gpu=300.0, cpu=25.0)
        + TAIL
    )
    run = told(tmp_path, log, "2026-03-01 12:05:00 - CarbonTracker: \nActual consumption for 1 epoch(s):\n"
               "\tTime:\t0:01:00\n\tEnergy:\t0.008558333333 kWh\n\tCO2eq:\t1.027 g\n")  # fmt: skip
    assert joules(run.it_energy_kwh) == pytest.approx(60 * (3 * 300 + 4 * 25))
    assert [device.basis for device in run.devices] == [Basis.POWER, Basis.POWER]
    assert run.scope.measured == ("cpu", "memory", "gpu")
    assert any("it counts 3 times" in text for text in run.warnings)
    assert any("carbontracker itself says 0.00855833 kWh for 1 epoch(s)" in text for text in run.warnings)


def test_list_of_1x_is_one_figure_a_device_also_over_two_lines(tmp_path: Path) -> None:
    log = (
        HEAD.replace("2.4.7", "1.2.5")
        + found("GPU with device(s) TITAN RTX, TITAN RTX, TITAN RTX. CPU with device(s) cpu:0, dram:0.")
        + "2026-03-01 12:01:00 - Epoch 1:\n2026-03-01 12:01:00 - Duration: 0:01:00.00\n"
        + "2026-03-01 12:01:00 - Average power usage (W) for gpu: [ 40.1  60.2\n 100.7]\n"
        + "2026-03-01 12:01:00 - Average power usage (W) for cpu: [20. 4.]\n"
        + "2026-03-01 12:05:00 - Average carbon intensity during training was 82.00 gCO2/kWh at detected location: "
        + "Copenhagen, Capital Region, DK.\n2026-03-01 12:05:00 - Monitoring thread ended.\n"
    )
    run = told(tmp_path, log)
    watts = [joules(device.it_energy_kwh) / 60 for device in run.devices]
    assert watts == pytest.approx([40.1, 60.2, 100.7, 20.0, 4.0])
    assert [str(device.kind) for device in run.devices] == ["gpu", "gpu", "gpu", "cpu", "dram"]
    assert (run.location.zone, round(run.intensity_g_per_kwh, 6)) == ("DK", 82.0)


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("NVIDIA A100 v1.5, 80GB", "NVIDIA A100 v1.5, 80GB"),
        ("NVIDIA A100 v1.5, 80GB, NVIDIA A100 v1.5, 80GB", "2 x NVIDIA A100 v1.5, 80GB"),
        ("Acme, Inc., Acme, Inc.", "2 x Acme, Inc."),
        ("My own card, rev. 2", "My own card, rev. 2"),
    ],
)
def test_names_hold_dots_and_commas(tmp_path: Path, line: str, names: str) -> None:
    log = HEAD + found(f"GPU with device(s) {line}.") + epoch(1, "12:01:00", "0:00:10.00", gpu=10.0)
    run = told(tmp_path, log)
    assert run.devices[0].name == names
    assert joules(run.it_energy_kwh) == pytest.approx(100.0 * (2 if names.startswith("2 x") else 1))


def test_finished_epochs_count_not_those_that_stop_reports(tmp_path: Path) -> None:
    log = (
        HEAD
        + found("CPU with device(s) X.")
        + "".join(epoch(n, f"12:0{n}:00", "0:01:00.00", cpu=60.0) for n in range(1, 5))
        + "2026-03-01 12:04:00 - Training was interrupted before all 9 epochs were monitored.\n"
        + TAIL
    )
    run = told(tmp_path, log, "Actual consumption for 3 epoch(s):\n\tTime:\t0:04:00\n\tEnergy:\t0.00632 kWh\n")
    assert (run.epochs_total, run.ended_well) == (4, True)
    assert joules(run.it_energy_kwh) == pytest.approx(4 * 3600.0)


def test_prediction_is_never_taken_for_a_measurement(tmp_path: Path) -> None:
    log = HEAD + found("CPU with device(s) X.") + epoch(1, "12:01:00", "0:01:00.00", cpu=60.0)
    output = "Predicted consumption for 1000 epoch(s):\n\tTime:\t16:40:00\n\tEnergy:\t1.58 kWh\n\tCO2eq:\t700.0 g\n"
    err = "12:00:00,1 - M - WARNING - Defaulting to global average carbon intensity for 2024: 445.00 gCO2eq/kWh."
    run = told(tmp_path, log, output, err)
    assert joules(run.it_energy_kwh) == pytest.approx(3600.0)
    assert not run.ended_well
    assert any("did not end by itself" in text for text in run.warnings)
    assert (run.intensity_g_per_kwh, run.location.zone, run.location.is_guess) == (445.0, "WORLD", True)


def test_epoch_without_a_sample_is_bridged_and_said(tmp_path: Path) -> None:
    log = (
        HEAD
        + found("CPU with device(s) X.")
        + epoch(1, "12:01:00", "0:01:00.00", cpu=100.0)
        + epoch(2, "12:02:00", "0:01:00.00", cpu="None")
        + epoch(3, "12:03:00", "0:01:00.00", cpu=60.0)
        + TAIL
    )
    run = told(tmp_path, log)
    assert joules(run.epochs[1].it_energy_kwh) == pytest.approx(6000.0)
    assert joules(run.epochs[1].it_energy_kwh_low) < 3600.0 * 0.51
    assert run.epochs[1].coverage == 0.0
    assert run.coverage == pytest.approx(2 / 3)


def test_zero_watts_is_a_reading_that_failed(tmp_path: Path) -> None:
    log = (
        HEAD
        + found("GPU with device(s) A, B. CPU with device(s) cpu:0.")
        + epoch(1, "12:01:00", "0:01:00.00", gpu=100.0, cpu=0.0)
        + epoch(2, "12:02:00", "0:01:00.00", gpu=0.0, cpu=0.0)
        + TAIL
    )
    run = told(tmp_path, log)
    assert [str(device.kind) for device in run.devices] == ["gpu"]
    assert "cpu" in run.scope.missing
    assert run.epochs[1].it_energy_kwh == 0.0
    assert run.epochs[1].coverage == 0.0
    assert joules(run.epochs[1].it_energy_kwh_high) >= 6000.0
    assert any("could not read any power of the cpu" in text for text in run.warnings)


def test_time_between_epochs_is_a_gap_and_not_energy(tmp_path: Path) -> None:
    log = (
        HEAD
        + found("CPU with device(s) X.")
        + epoch(1, "12:01:00", "0:01:00.00", cpu=60.0)
        + epoch(2, "12:04:00", "0:01:00.00", cpu=60.0)
        + TAIL
    )
    run = told(tmp_path, log)
    assert joules(run.it_energy_kwh) == pytest.approx(7200.0)
    assert (run.duration_s, run.outside.duration_s) == (pytest.approx(240.0), pytest.approx(120.0))
    assert run.coverage == pytest.approx(0.5)
    assert joules(run.outside.it_energy_kwh_high) >= 7200.0
    assert any("between epochs" in text for text in run.warnings)


def test_forked_child_counts_once_and_negative_lengths_never(tmp_path: Path) -> None:
    block = "".join(epoch(n, f"12:0{n}:00", "0:01:00.00", cpu=60.0) for n in (1, 2))
    log = HEAD + found("CPU with device(s) X.") + block + block + epoch(3, "12:03:00", "-0:59:58.00", cpu=60.0)
    log += epoch(4, "12:04:00", "0:00:00.00", cpu=60.0) + TAIL
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / f"{STEM}_carbontracker.log").write_text(log)
    done = imports.import_logs("carbontracker", [folder], tmp_path / "runs", zone=UTC)
    assert [draft.epochs for draft, _ in done.runs] == [2]
    assert any("counted once" in problem for problem in done.problems)
    assert any("2 epochs without a length" in problem for problem in done.problems)


def test_nan_intensity_is_no_intensity(tmp_path: Path) -> None:
    log = HEAD + found("CPU with device(s) X.") + epoch(1, "12:01:00", "0:01:00.00", cpu=60.0)
    log += TAIL.replace("120.00 gCO2eq", "nan gCO2eq").replace("[100.0, 140.0]", "[nan]")
    run = told(tmp_path, log)
    assert run.location.zone == "DK"
    assert 50.0 < run.intensity_g_per_kwh < 400.0  # the yearly average of the table
    assert any("tells no carbon intensity" in text for text in run.warnings)


def test_intensities_that_were_fetched_hold_from_when_they_were(tmp_path: Path) -> None:
    fetched = "2026-03-01 12:0{}:00 - Carbon intensity fetched: {}.00 gCO2/kWh at Copenhagen, Capital Region, DK\n"
    log = HEAD + found("CPU with device(s) X.") + fetched.format(0, 50) + epoch(1, "12:01:00", "0:01:00.00", cpu=60.0)
    log += fetched.format(1, 150) + epoch(2, "12:02:00", "0:01:00.00", cpu=60.0) + TAIL
    run = told(tmp_path, log)
    assert [e.co2eq_g / e.energy_kwh for e in run.epochs] == pytest.approx([50.0, 150.0])


def test_times_are_local_to_the_machine_that_wrote_them(tmp_path: Path) -> None:
    from zoneinfo import ZoneInfo

    folder = tmp_path / "logs"
    folder.mkdir()
    log = HEAD + found("CPU with device(s) X.") + epoch(1, "12:01:00", "0:01:00.00", cpu=60.0) + TAIL
    (folder / f"{STEM}_carbontracker.log").write_text(log)
    imports.import_logs("carbontracker", [folder], tmp_path / "runs", zone=ZoneInfo("Asia/Tokyo"))
    assert journal.load(tmp_path / "runs").runs[0].started_at == datetime(2026, 3, 1, 3, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0\1\2\xff" * 100, HEAD.encode(), b"2026-99-01 12:00:00 - Epoch 1:\n", HEAD.encode() + b"x" * 2_000_000]
    + [
        (HEAD + epoch(n, at, duration, cpu=60.0)).encode()
        for n, at, duration in (("9" * 5000, "12:01:00", "0:00:00.00"), (1, "12:01:00", f"{'9' * 400}:00:10.00"))
    ]
    + [(HEAD + epoch(1, "12:01:00", "0:10:00.00", cpu=60.0)).replace("2026-03-01 12:01", "1970-01-01 00:01").encode()],
    ids=["empty", "binary", "no epoch", "no date", "huge line", "huge number", "huge length", "before 1970"],
)
def test_log_without_an_epoch_gives_a_clear_word_and_others_count(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a_carbontracker.log").write_bytes(content)
    with pytest.raises(JournalError, match="no finished epoch"):
        imports.import_logs("carbontracker", [tmp_path], tmp_path / "runs", zone=UTC)
    log = HEAD + found("CPU with device(s) X.") + epoch(1, "12:01:00", "0:01:00.00", cpu=60.0)
    (tmp_path / f"{STEM}_carbontracker.log").write_text(log)
    done = imports.import_logs("carbontracker", [tmp_path], tmp_path / "runs", zone=UTC)
    assert len(done.runs) == 1
    assert all("a_carbontracker.log" in problem for problem in done.problems)


def test_folder_that_cannot_be_written_is_an_error_in_words(tmp_path: Path) -> None:
    log = HEAD + found("CPU with device(s) X.") + epoch(1, "12:01:00", "0:01:00.00", cpu=60.0)
    (tmp_path / f"{STEM}_carbontracker.log").write_text(log)
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(JournalError, match="cannot be written"):
        imports.import_logs("carbontracker", [tmp_path], tmp_path / "runs", zone=UTC)
    assert [name for name in os.listdir(tmp_path) if "imported" in name] == []


def test_wild_names_stay_names(tmp_path: Path) -> None:
    wild = '<script>alert(1)</script> "A100", ' + "x" * 10_000
    log = HEAD + found(f"GPU with device(s) {wild}.") + epoch(1, "12:01:00", "0:00:10.00", gpu=10.0) + TAIL
    run = told(tmp_path, log, stem="..-$(rm)_1.2_2026-03-01T120000Z")
    assert run.devices[0].name == wild
    assert (tmp_path / "runs" / run.run_id).is_dir()
    assert run.name == "..-$(rm)"


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("unet_4711.42_2026-03-01T120000Z", "unet"),
        ("my_u_net_4711_2026-03-01T120000Z", "my_u_net"),
        ("3_2026-03-01T120000Z", ""),
        ("2020-05-17T19:02Z", ""),
        ("renamed", "renamed"),
    ],
)
def test_name_is_the_prefix_that_the_user_gave(tmp_path: Path, stem: str, name: str) -> None:
    log = HEAD + found("CPU with device(s) X.") + epoch(1, "12:01:00", "0:00:10.00", cpu=10.0) + TAIL
    assert told(tmp_path, log, stem=stem).name == name


def test_undetected_place_of_1x_is_none(tmp_path: Path) -> None:
    log = HEAD + found("CPU with device(s) X.") + epoch(1, "12:01:00", "0:00:10.00", cpu="[10.]")
    at = "2026-03-01 12:01:00 - "
    log += f"{at}Carbon intensities (gCO2/kWh) fetched every 900 s at detected location UNDETECTED: [475]\n"
    log += f"{at}Average carbon intensity during training was 475.00 gCO2/kWh at detected location: UNDETECTED.\n"
    run = told(tmp_path, log)
    assert (run.location.zone, run.intensity_g_per_kwh) == ("WORLD", 475.0)

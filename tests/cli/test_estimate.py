"""`aiocarbon estimate`: the paper's numbers on the terminal, honest defaults, refusals that say what counts."""

from __future__ import annotations

import json
from pathlib import Path
from shlex import split
from typing import Any

import pytest

from aiocarbon._version import __version__
from aiocarbon.cli.main import main

PAPER = split("--flops 3.14e23 --flops-rate 130e12 --watts 250 --pue 1.125 --intensity 449.06 --car-g-per-km 120.4")
PLACE = ["--location", "DK", "--pue", "1.2"]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of this machine or of a folder above counts."""
    for name in ("LOCATION", "INTENSITY", "PUE"):
        monkeypatch.delenv(f"AIOCARBON_{name}", raising=False)
    monkeypatch.chdir(tmp_path)


def told(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(["estimate", *argv]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def as_json(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    return json.loads(told(capsys, *argv, "--json", "-"))


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(["estimate", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


# -- the paper ----------------------------------------------------------------------------------------------------


def test_the_paper_s_appendix_to_its_printed_digits(capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(capsys, *PAPER).splitlines()
    steps = [
        "3.14e23 FLOP / 130e12 FLOP/s = 2415384615.38 s of one device",
        "2415384615.38 s / 86400 s/d = 27955.84 d",
        "250 W x 2415384615.38 s x PUE 1.125 = 679326923075.63 J",
        "679326923075.63 J / 3600000 J/kWh = 188701.92 kWh",
        "188701.92 kWh x 449.06 g/kWh = 84738484.20 g",
        "84738484.20 g / 1000 g/kg = 84738.48 kg",
        "84738484.20 g / 120.4 g/km = 703808.01 km by car",
    ]
    assert [line[14:] for line in lines[1 : 1 + len(steps)]] == steps
    assert lines[0].startswith("aiocarbon: 84.7 t CO2eq and 189 MWh, estimated; nothing was measured")


def test_json_has_the_exact_chain(capsys: pytest.CaptureFixture[str]) -> None:
    plain = as_json(capsys, *PAPER)
    assert list(plain)[:2] == ["schema", "version"]
    assert (plain["schema"], plain["version"]) == ("aiocarbon.estimate/1", __version__)
    assert plain["exact"]["co2eq_kg"] == pytest.approx(84738.4856, abs=5e-5)
    assert plain["exact"]["car_km"] == pytest.approx(703808.02, abs=5e-3)
    assert plain["printed"]["co2eq_kg"] == 84738.48
    assert plain["printed"]["car_km"] == 703808.01
    assert plain["basis"] == "assumed"
    assert plain["inputs"]["g_per_kwh"] == 449.06
    assert plain["inputs"]["location"] is None


def test_units_say_the_same_as_powers_of_ten(capsys: pytest.CaptureFixture[str]) -> None:
    same = split("--flops 314ZFLOP --flops-rate 130TFLOP/s --watts 0.25kW --pue 1.125 --intensity 449.06")
    assert as_json(capsys, *same, "--car-g-per-km", "120.4 g/km")["exact"] == as_json(capsys, *PAPER)["exact"]


def test_a_rate_without_utilization_is_called_what_it_may_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert "if it is the device's peak, time, energy and CO2eq at this power are LOWER BOUNDS" in told(capsys, *PAPER)
    assert "LOWER BOUND" not in told(capsys, *PAPER, "--utilization", "0.4")
    assert "130e12 FLOP/s x 0.4 reached = 52e12 FLOP/s" in told(capsys, *PAPER, "--mfu", "40%")


# -- devices of the table -----------------------------------------------------------------------------------------


def test_a_device_at_its_peak_gives_a_lower_bound_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    out = told(capsys, "--flops", "1e21", "--device", "V100S", *PLACE)
    assert out.startswith("aiocarbon: at least ")
    assert "130e12 FLOP/s: fp16, dense, of NVIDIA V100S PCIe" in out
    assert "PEAK rate, which no training reaches" in out
    assert "250 W: power consumption of NVIDIA V100S PCIe" in out
    assert "the specified power is taken as drawn all the time" in out
    assert as_json(capsys, "--flops", "1e21", "--device", "V100S", *PLACE)["is_lower_bound"] is True


def test_utilization_lifts_the_bound(capsys: pytest.CaptureFixture[str]) -> None:
    bound = as_json(capsys, "--flops", "1e21", "--device", "A100 SXM4", *PLACE)
    reached = as_json(capsys, "--flops", "1e21", "--device", "A100 SXM4", "--utilization", "0.5", *PLACE)
    assert reached["is_lower_bound"] is False
    assert reached["exact"]["co2eq_g"] == pytest.approx(2 * bound["exact"]["co2eq_g"])
    assert bound["inputs"]["precision"] == "bf16"


def test_another_precision_has_another_rate(capsys: pytest.CaptureFixture[str]) -> None:
    slow = as_json(capsys, "--flops", "1e21", "--device", "A100 SXM4", "--precision", "tf32", *PLACE)
    assert slow["inputs"]["rate_flop_per_s"] == 156e12


def test_device_hours_need_no_rate(capsys: pytest.CaptureFixture[str]) -> None:
    out = told(capsys, "--device", "A100 SXM4", "--device-hours", "100", "--devices", "8", *PLACE)
    assert "100 h x 3600 s/h = 360000.00 s of all devices together" in out
    assert "360000.00 s / 8 devices = 45000.00 s" in out
    assert "400 W x 360000.00 s x PUE 1.2 = 172800000.00 J" in out
    assert "the devices are taken to share the work without loss" in out
    assert "FLOP" not in out
    assert "LOWER" not in out


def test_device_hours_with_a_utilization_tell_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    out = told(capsys, "--device", "V100S", "--device-hours", "100", "--utilization", "0.4", *PLACE)
    assert "360000.00 s x 52e12 FLOP/s = 1.87e19 FLOP" in out


def test_measured_watts_count_before_specified_ones(capsys: pytest.CaptureFixture[str]) -> None:
    plain = as_json(capsys, "--device", "A100 SXM4", "--device-hours", "10", "--watts", "310", *PLACE)
    assert (plain["inputs"]["power_w"], plain["inputs"]["power_source"]) == (310.0, "as given")
    assert not any("specified power" in note for note in plain["notes"])


def test_watts_and_hours_alone_are_enough(capsys: pytest.CaptureFixture[str]) -> None:
    plain = as_json(capsys, "--device-hours", "10", "--watts", "100", *PLACE)
    assert plain["exact"]["energy_kwh"] == pytest.approx(1.2)
    assert plain["inputs"]["device"] == ""


# -- where the other inputs come from -----------------------------------------------------------------------------


def test_the_location_s_yearly_average_comes_with_its_range(capsys: pytest.CaptureFixture[str]) -> None:
    out = told(capsys, "--device-hours", "1000", "--watts", "100", "--pue", "1", "--location", "SE")
    assert "yearly average of SE, life-cycle: Ember" in out
    assert "for the intensity alone" in out
    assert "Sweden (SE), as given" in out
    plain = as_json(capsys, "--device-hours", "1000", "--watts", "100", "--pue", "1", "--location", "SE")
    chain = plain["exact"]
    assert chain["co2eq_g_low"] == pytest.approx(0.85 * chain["co2eq_g"])
    assert chain["co2eq_g_high"] == pytest.approx(1.15 * chain["co2eq_g"])
    assert plain["inputs"]["factor_basis"] == "life-cycle"


def test_a_given_intensity_has_no_range_and_no_place(capsys: pytest.CaptureFixture[str]) -> None:
    out = told(capsys, "--device-hours", "1000", "--watts", "100", "--intensity", "0")
    assert "90 % range" not in out
    assert "0 gCO2eq/kWh, as given" in out
    assert "= 0.00 kg" in out


def test_the_environment_counts_where_no_option_says_otherwise(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIOCARBON_PUE", "1.3")
    monkeypatch.setenv("AIOCARBON_LOCATION", "PL")
    plain = as_json(capsys, "--device-hours", "1", "--watts", "100")
    assert (plain["inputs"]["pue"], plain["inputs"]["location"]) == (1.3, "PL")
    assert "as a run on this machine" not in plain["inputs"]["pue_source"]


def test_a_file_of_intensities_in_the_settings_is_not_taken_for_a_number(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIOCARBON_INTENSITY", "energycharts")
    plain = as_json(capsys, "--device-hours", "1", "--watts", "100", "--location", "DE")
    assert plain["inputs"]["intensity_quality"] == "average"
    assert any("not asked" in note for note in plain["notes"])


def test_a_found_out_pue_says_that_it_is_of_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    out = told(capsys, "--device-hours", "1", "--watts", "100", "--location", "DE")
    assert "as a run on this machine would find it, --pue for another" in out


def test_todays_car_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert "106.8 g/km: an average new car of the EU, 2024" in told(capsys, *PAPER[:-2])


# -- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--flops", "--flops-rate", "--watts", "--device-hours", "--car-g-per-km"])
@pytest.mark.parametrize(
    "text",
    ["0", "0.0", "-1", "-1e9", "nan", "inf", "+5", "1,000", "1_000", "1e999", "1e-99", "1e", "", " ", "x", "0x10",
     "٣", "1 2", "250 w", "5 mW", "3 FLOPSS", "1e2.5"],
)  # fmt: skip
def test_an_amount_that_is_none_is_refused(option: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--flops-rate", "1e12", "--watts", "5"] + ([] if option == "--device-hours" else ["--flops", "1e20"])
    assert "is not accepted: " in refused(capsys, *argv, f"{option}={text}")


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        ("", "either as --flops N or as --device-hours H"),
        ("--watts 5", "either as --flops N or as --device-hours H"),
        ("--flops 1e20 --device-hours 5 --device V100S", "either as --flops N or as --device-hours H"),
        ("--flops 1e20 --watts 5", "--flops-rate R, or --device NAME"),
        ("--flops 1e20 --flops-rate 1e12", "--watts W, or --device NAME"),
        ("--device-hours 5", "--watts W, or --device NAME"),
        ("--device-hours 5 --watts 5 --utilization 0.5", "--utilization needs a rate"),
        ("--device-hours 5 --device V100", "fits several: NVIDIA V100 PCIe, NVIDIA V100 SXM2"),
        ("--device-hours 5 --device RTX9090", "nearest: NVIDIA GeForce RTX 4090; give --watts W"),
        ("--device-hours 5 --device Abacus", "is not in the bundled table; give --watts W"),
        ("--device-hours 5 --device TPU-v4", "publishes no power of Google TPU v4: give --watts W"),
        ("--flops 1e20 --device V100S --precision bf16", "no bf16 rate of NVIDIA V100S PCIe, only fp16, fp32"),
        ("--flops 1e20 --device V100S --precision fp12", "expected bf16, fp16, fp8, tf32, fp32"),
        ("--flops 1e20 --device V100S --flops-rate 1e12 --precision fp16", "stands instead of them"),
        ("--device-hours 5 --watts 5 --devices 0", "a whole number from 1 to 10000000"),
        ("--device-hours 5 --watts 5 --devices 2.0", "a whole number from 1 to 10000000"),
        ("--flops 1e20 --device V100S --utilization 0", 'a share above 0, at most 1, "0.38" or "38%"'),
        ("--flops 1e20 --device V100S --utilization 38", "a share above 0, at most 1"),
        ("--flops 1e20 --device V100S --utilization nan", "a share above 0, at most 1"),
        ("--device-hours 5 --watts 5 --pue 0.9", "a ratio from 1 to 10"),
        ("--device-hours 5 --watts 5 --intensity -1", "from 0 to 3000"),
        ("--device-hours 5 --watts 5 --intensity nan", "from 0 to 3000"),
        ("--device-hours 5 --watts 5 --intensity day.csv", "an estimate takes a number of gCO2eq/kWh, 0 to 3000"),
        ("--device-hours 5 --watts 5 --location Atlantis", "ISO 3166"),
        ("--device-hours 5 --watts 5 --json no/such/folder/f", "there is no folder no/such/folder"),
        ("--device-hours 5 --watts 5 stray", "unrecognized arguments: stray"),
        ("--device-hour 5", "unrecognized arguments"),
    ],
)
def test_what_lacks_or_contradicts_is_refused_with_what_is_accepted(
    argv: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert word in refused(capsys, *argv.split())


def test_the_largest_and_smallest_amounts_give_finite_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    most = split("--flops 1e40 --flops-rate 1 --watts 1e9 --pue 10 --intensity 3000 --car-g-per-km 1e-6")
    least = split("--flops 1 --flops-rate 1e30 --watts 1e-3 --pue 1 --intensity 0.001 --car-g-per-km 1e6")
    for argv in (most, least):
        chain = as_json(capsys, *argv)["exact"]
        assert all(0.0 < value < 1e80 for value in chain.values())
        assert "nan" not in told(capsys, *argv)


def test_json_to_a_file_leaves_stdout_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "estimate.json"
    assert told(capsys, *PAPER, "--json", str(file)) == ""
    assert json.loads(file.read_text(encoding="utf-8"))["schema"] == "aiocarbon.estimate/1"

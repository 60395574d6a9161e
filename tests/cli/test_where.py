"""`aiocarbon where`: rankings that hold, factor bases that are kept apart, and what a run was where it ran."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiocarbon._core.intensity import FactorBasis, IntensityValue, Pue, Quality
from aiocarbon._core.places import Energy, Place, Where, rank
from aiocarbon._version import __version__
from aiocarbon.cli.main import main
from aiocarbon.intensity import places
from aiocarbon.intensity.table import average, parse_zone
from aiocarbon.render.places import can_show_bars, where_lines

HERE = ["--energy-kwh", "37.4", "--location", "DK", "--pue", "1.5"]
PUE = Pue(value=1.5, source="given")
KWH = Energy(kwh=37.4, low_kwh=37.4, high_kwh=37.4, source="given")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of this machine or of a folder above counts."""
    for name in ("LOCATION", "INTENSITY", "PUE"):
        monkeypatch.delenv(f"AIOCARBON_{name}", raising=False)
    monkeypatch.chdir(tmp_path)


def told(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(["where", *argv]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def as_json(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    return json.loads(told(capsys, *argv, "--json", "-"))


def ranking(plain: Any, basis: str) -> Any:
    return next(one for one in plain["rankings"] if one["factor_basis"] == basis)


def of(plain: Any, code: str) -> Any:
    return next(row for one in plain["rankings"] for row in one["places"] if row["code"] == code)


# -- what is ranked -----------------------------------------------------------------------------------------------


def test_every_place_of_the_tables_is_in_the_json_once(capsys: pytest.CaptureFixture[str]) -> None:
    plain = as_json(capsys, *HERE)
    assert (plain["schema"], plain["version"], plain["network"]) == ("aiocarbon.where/1", __version__, False)
    keys = [(row["kind"], row["code"]) for one in plain["rankings"] for row in one["places"]]
    assert len(keys) == len(set(keys))
    assert len(keys) > 400
    assert {kind for kind, _ in keys} == {"country", "state", "aws", "azure", "gcp", "ovh"}


def test_a_row_is_energy_times_pue_times_intensity_with_its_range(capsys: pytest.CaptureFixture[str]) -> None:
    for one in as_json(capsys, *HERE)["rankings"]:
        grams = [row["co2eq_g"] for row in one["places"]]
        assert grams == sorted(grams)
        assert one["places"][0]["rank"] == 1
        for row in one["places"]:
            assert row["factor_basis"] == one["factor_basis"]
            assert row["co2eq_g"] == pytest.approx(37.4 * row["pue"] * row["g_per_kwh"])
            assert row["co2eq_g_low"] == pytest.approx(0.85 * row["co2eq_g"])
            assert row["co2eq_g_high"] == pytest.approx(1.15 * row["co2eq_g"])
            assert 2009 <= row["year"] <= 2026
            assert str(row["year"]) in row["intensity_source"]
            assert row["pue_source"]


def test_a_region_has_its_own_pue_else_its_cloud_s_else_that_of_here(capsys: pytest.CaptureFixture[str]) -> None:
    plain = as_json(capsys, *HERE)
    own, of_cloud, of_here = of(plain, "eu-north-1"), of(plain, "eu-west-3"), of(plain, "fr-paris")
    assert (own["pue"], own["pue_of"]) == (1.1, "region")
    assert own["pue_source"].startswith("AWS eu-north-1, 2024")
    assert (of_cloud["pue"], of_cloud["pue_of"]) == (1.14, "cloud")
    assert (of_here["pue"], of_here["pue_of"], of_here["pue_source"]) == (1.5, "here", "given")
    assert of(plain, "SE")["pue"] == 1.5


def test_a_grid_zone_without_a_value_says_whose_it_has(capsys: pytest.CaptureFixture[str]) -> None:
    row = of(as_json(capsys, *HERE), "us-east-1")
    assert (row["zone"], row["intensity_zone"]) == ("US-MIDA-PJM", "US")
    assert "no value for US-MIDA-PJM: that of United States" in row["intensity_note"]
    assert "~ the tables have nothing of that grid zone" in told(capsys, *HERE, "--filter", "virginia")


def test_factor_bases_are_never_ranked_together(capsys: pytest.CaptureFixture[str]) -> None:
    plain = as_json(capsys, "--energy-kwh", "1", "--location", "DE")
    assert [one["factor_basis"] for one in plain["rankings"]] == ["life-cycle", "direct", "unknown"]
    assert all(row["against_here"] is None for row in ranking(plain, "direct")["places"])
    assert ranking(plain, "direct")["here"] is None
    out = told(capsys, "--energy-kwh", "1", "--location", "DE")
    assert "NOT COMPARABLE" in out
    assert "direct factors (what leaves the stack alone): 81 places" in out


def test_a_state_is_here_among_states_and_its_country_among_countries(capsys: pytest.CaptureFixture[str]) -> None:
    plain = as_json(capsys, "--energy-kwh", "1", "--location", "US-CA", "--pue", "1.5")
    direct, life_cycle = ranking(plain, "direct"), ranking(plain, "life-cycle")
    assert (direct["here"]["code"], direct["here"]["kind"]) == ("US-CA", "state")
    assert (life_cycle["here"]["code"], life_cycle["here"]["name"]) == ("US", "United States")
    assert sum(row["is_here"] for one in plain["rankings"] for row in one["places"]) == 2
    oregon = of(plain, "US-OR")
    assert oregon["against_here"] == pytest.approx(oregon["g_per_kwh"] / direct["here"]["g_per_kwh"])


def test_one_basis_alone_needs_no_warning_of_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert "NOT COMPARABLE" not in told(capsys, *HERE, "--cloud", "gcp", "--filter", "europe")


# -- choosing and showing -----------------------------------------------------------------------------------------


def test_the_text_shows_ends_and_here_and_counts_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(capsys, *HERE, "--top", "3", "--bottom", "1").splitlines()
    assert lines[0] == "aiocarbon: 37.4 kWh of IT energy elsewhere, by yearly tables; no network was asked"
    begin = next(n for n, line in enumerate(lines) if line.startswith("life-cycle factors"))
    end = next(n for n, line in enumerate(lines) if line.startswith("direct factors"))
    rows = lines[begin + 2 : end]
    assert [row[:2] for row in rows] == ["  ", "  ", "  ", "  ", "> ", "  ", "  "]
    assert rows[4].startswith("> Denmark (DK)")
    assert " here " in rows[4]
    hidden = sum(int(row.split()[1]) for row in rows if row.startswith("  ... "))
    assert f"{hidden + 5} places" in lines[begin]
    assert "Turkmenistan" in rows[-1]


def test_all_shows_all(capsys: pytest.CaptureFixture[str]) -> None:
    out = told(capsys, *HERE, "--all")
    assert " more\n" not in out
    assert sum("+-15 %" in line for line in out.splitlines()) == sum(
        len(one["places"]) for one in as_json(capsys, *HERE)["rankings"]
    )


def test_a_cloud_s_regions_come_with_here_to_compare_with(capsys: pytest.CaptureFixture[str]) -> None:
    plain = as_json(capsys, *HERE, "--cloud", "AWS, gcp")
    kinds = {row["kind"] for one in plain["rankings"] for row in one["places"] if not row["is_here"]}
    assert kinds == {"aws", "gcp"}
    assert ranking(plain, "life-cycle")["here"]["code"] == "DK"


@pytest.mark.parametrize(
    ("text", "code"), [("stockholm", "eu-north-1"), ("SE-SE3", "europe-north2"), ("us-ca", "US-CA")]
)
def test_a_filter_looks_at_names_codes_and_zones(text: str, code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert of(as_json(capsys, *HERE, "--filter", text), code)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
@pytest.mark.parametrize("blocks", [True, False])
def test_no_line_of_a_table_is_wider_than_the_terminal(width: int, blocks: bool) -> None:
    location = parse_zone("DK")
    found = Where(
        energy=KWH,
        location=location,
        here_pue=PUE,
        rankings=rank(KWH, places.places(PUE), places.here(location, PUE)),
        ran=(),
        notes=(),
    )
    lines = list(where_lines(found, top=500, bottom=0, width=width, blocks=blocks))
    rows = [line for line in lines if "+-15 %" in line]
    assert len(rows) == sum(len(one.rows) for one in found.rankings)
    assert all(len(line) <= max(width, 64) for line in rows)
    bars = [line[len(line.rstrip("▏▎▍▌▋▊▉█#")) :] for line in rows]
    if width >= 80:
        assert any("█" in bar for bar in bars) == blocks
        assert any("#" in bar for bar in bars) != blocks
        assert max(map(len, bars)) <= 40
        assert min(map(len, bars)) >= 1, "something is never shown as nothing"


def test_bars_are_shown_only_where_their_blocks_can_be() -> None:
    assert can_show_bars("utf-8")
    assert not can_show_bars("ascii")
    assert not can_show_bars(None)
    assert not can_show_bars("no such encoding")


# -- here ---------------------------------------------------------------------------------------------------------


def test_an_unknown_place_is_compared_with_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--energy-kwh", "1", "--location", "WORLD"]
    assert "the tables hold nothing of here to compare with" in told(capsys, *argv)
    plain = as_json(capsys, *argv)
    assert all(one["here"] is None for one in plain["rankings"])
    assert all(row["against_here"] is None for one in plain["rankings"] for row in one["places"])


def test_a_guessed_place_is_called_a_guess(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Copenhagen")
    assert "Denmark (DK), a GUESS from the time zone" in told(capsys, "--energy-kwh", "1")


def test_an_intensity_of_the_settings_is_not_mixed_in(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIOCARBON_INTENSITY", "5")
    plain = as_json(capsys, *HERE)
    assert ranking(plain, "life-cycle")["here"]["g_per_kwh"] == average("DK").g_per_kwh
    assert any("not used here" in note for note in plain["notes"])


def test_no_packet_is_sent_even_where_the_network_is_allowed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A patch, since what is shown is that nothing of the whole interpreter makes a socket.
    def no_socket(*_: object, **__: object) -> Any:
        raise AssertionError("a socket was made")

    monkeypatch.setattr(socket, "socket", no_socket)
    monkeypatch.setenv("AIOCARBON_OFFLINE", "false")
    assert told(capsys, "--energy-kwh", "1")


# -- journals -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for name, zone in (("one", "DK"), ("two", "DK"), ("far", "PL")):
        options = ["--meters", "simulated:250", "--location", zone, "--pue", "1.2", "--quiet", "--run-id", name]
        command = [sys.executable, "-m", "aiocarbon", "run", *options, "--journal", str(folder), "--"]
        command += [sys.executable, "-c", "import time; time.sleep(0.1)"]
        subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    return folder


def test_a_run_s_energy_is_taken_and_what_it_was_is_told(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = as_json(capsys, str(runs / "one"))
    (ran,) = plain["ran"]
    assert (ran["run_id"], ran["zone"], ran["pue"]) == ("one", "DK", 1.2)
    assert plain["it_energy_kwh"] == pytest.approx(ran["it_energy_kwh"])
    assert plain["it_energy_kwh"] > 0.0
    assert plain["it_energy_kwh_low"] <= plain["it_energy_kwh"] <= plain["it_energy_kwh_high"]
    here = ranking(plain, "life-cycle")["here"]
    # The run had no network, so its own figure rests on the same yearly average.
    assert here["co2eq_g"] == pytest.approx(ran["co2eq_g"])
    assert here["co2eq_g_low"] <= 0.85 * here["co2eq_g"] * (1 + 1e-9)
    out = told(capsys, str(runs / "one"))
    assert "it ran      one in DK: " in out
    assert "Denmark (DK), as given" in out


def test_runs_of_one_place_add_up_and_are_compared_with_it(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = as_json(capsys, str(runs / "one"), str(runs / "two"))
    assert plain["location"]["zone"] == "DK"
    assert plain["pue"] == 1.2
    assert plain["it_energy_kwh"] == pytest.approx(sum(run["it_energy_kwh"] for run in plain["ran"]))
    assert plain["energy_source"] == "the journals of 2 runs"


def test_a_given_place_counts_before_the_run_s(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = as_json(capsys, str(runs / "one"), "--location", "SE", "--pue", "1.7")
    assert (plain["location"]["zone"], plain["pue"]) == ("SE", 1.7)
    assert plain["ran"][0]["zone"] == "DK"


def test_runs_of_several_places_are_compared_with_this_machine_s(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIOCARBON_LOCATION", "FR")
    plain = as_json(capsys, str(runs))
    assert plain["location"]["zone"] == "FR"
    assert {run["zone"] for run in plain["ran"]} == {"DK", "PL"}


def test_a_journal_without_energy_is_no_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--meters", "simulated:0", "--location", "DK", "--quiet", "--journal", str(tmp_path / "runs"), "--"]
    command = [sys.executable, "-m", "aiocarbon", "run", *options, sys.executable, "-c", "pass"]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    assert main(["where", str(tmp_path / "runs")]) == 1
    assert "hold no energy" in capsys.readouterr().err


def test_what_cannot_be_read_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["where", str(tmp_path / "nowhere")]) == 1
    assert "nowhere is not there" in capsys.readouterr().err


# -- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "1e99", "", "1,5", "3 J", "5 kwh"])
def test_an_energy_that_is_none_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["where", f"--energy-kwh={text}"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert 'kilowatt-hours, "37.4"' in err


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        ([], "either by --energy-kwh E or by journals"),
        (["--energy-kwh", "1", "runs"], "either by --energy-kwh E or by journals"),
        (["--energy-kwh", "1", "--cloud", "ibm"], "--cloud 'ibm' is not accepted: expected aws, azure, gcp, ovh"),
        (["--energy-kwh", "1", "--cloud", ""], "--cloud '' is not accepted"),
        (["--energy-kwh", "1", "--filter", "nosuchplace"], "no place fits"),
        (["--energy-kwh", "1", "--top", "-1"], "a whole number from 0 to 1000"),
        (["--energy-kwh", "1", "--bottom", "x"], "a whole number from 0 to 1000"),
        (["--energy-kwh", "1", "--location", "ZZ"], "ISO 3166"),
        (["--energy-kwh", "1", "--pue", "0.5"], "a ratio from 1 to 10"),
        (["--energy-kwh", "1", "--json", "/"], "is a folder"),
    ],
)
def test_wrong_usage_says_what_is_right(argv: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["where", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert word in err


def test_units_of_energy_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    one, other = (as_json(capsys, "--energy-kwh", text)["it_energy_kwh"] for text in ("1.2 MWh", "1200"))
    assert one == other == 1200.0


# -- the ranking, purely ------------------------------------------------------------------------------------------


def place(code: str, g_per_kwh: float, pue: float, basis: FactorBasis) -> Place:
    value = IntensityValue(
        g_per_kwh=g_per_kwh,
        low_g_per_kwh=g_per_kwh * 0.9,
        high_g_per_kwh=g_per_kwh * 1.2,
        source="a table, 2025",
        zone=code,
        quality=Quality.AVERAGE,
        factor_basis=basis,
    )
    return Place(
        kind="country", code=code, name=code, zone=code, value=value, year=2025, pue=Pue(value=pue, source="x")
    )


somewhere = st.builds(
    place, st.uuids().map(str), st.floats(0.0, 3000.0), st.floats(1.0, 10.0), st.sampled_from(list(FactorBasis))
)


@given(st.lists(somewhere, max_size=12), st.data())
def test_rankings_hold_each_place_once_and_in_order(some: list[Place], data: st.DataObject) -> None:
    here = [data.draw(st.sampled_from(some))] if some and data.draw(st.booleans()) else []
    rankings = rank(KWH, some, here)
    told = [row.place.code for one in rankings for row in one.rows]
    assert sorted(told) == sorted(place.code for place in some)
    for one in rankings:
        grams = [row.co2eq_g for row in one.rows]
        assert grams == sorted(grams)
        for row in one.rows:
            assert row.place.value.factor_basis is one.basis
            assert row.co2eq_g_low <= row.co2eq_g <= row.co2eq_g_high
            assert row.rank == 1 + sum(other < row.co2eq_g for other in grams)
        if one.here is not None:
            assert one.here.against in (None, 1.0)
            assert one.here.is_here


def test_clean_electricity_here_divides_nothing_by_zero() -> None:
    zero, other = place("A", 0.0, 1.0, FactorBasis.DIRECT), place("B", 5.0, 1.0, FactorBasis.DIRECT)
    (one,) = rank(KWH, [zero, other], [zero])
    assert [row.against for row in one.rows] == [None, None]
    found = Where(energy=KWH, location=parse_zone("DK"), here_pue=PUE, rankings=(one,), ran=(), notes=())
    assert "nan" not in "\n".join(where_lines(found, top=5, bottom=0, width=80, blocks=True))

"""Settings: what is accepted, where it comes from, and what is said about what is not."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aiocarbon import Budget, ConfigError, Tracker, sync
from aiocarbon._engine.resuming import run_meant
from aiocarbon.settings import check_arguments, origin, resolve

BAD = [
    ("epochs", -1),
    ("epochs", 0),
    ("epochs", 1.5),
    ("epochs", True),
    ("epochs", "many"),
    ("epochs", 10**12),
    ("name", 7),
    ("pue", 10**400),
    ("budget", {"co2eq_g": 10**400}),
    ("name", "x" * 201),
    ("location", "Atlantis"),
    ("location", 7),
    ("location", "91,0"),
    ("location", "55.67,12.57,3"),
    ("intensity", -1.0),
    ("intensity", math.nan),
    ("intensity", 3001),
    ("intensity", "dirty"),
    ("intensity", "3001"),
    ("intensity", "nan"),
    ("intensity", True),
    ("intensity", ["DE"]),
    ("intensity", "electricitymap"),
    ("intensity", "no/such/file.csv"),
    ("intensity", Path("no/such/file.csv")),
    ("intensity", "http://example.org/grid.csv"),
    ("intensity", "https://"),
    ("pue", 0.99),
    ("pue", math.inf),
    ("pue", math.nan),
    ("pue", False),
    ("interval_s", 0.001),
    ("interval_s", 61),
    ("interval_s", None),
    ("meters", "sundial"),
    ("meters", ["nvml", 7]),
    ("meters", []),
    ("meters", "simulated:many"),
    ("journal", ""),
    ("journal", 7),
    ("run_id", "../../etc"),
    ("run_id", ""),
    ("node", "a b"),
    ("offline", "perhaps"),
    ("strict", None),
    ("device_sync", "cuda"),
    ("budget", 500),
    ("budget", "co2=5"),
]


@pytest.mark.parametrize(("field", "value"), BAD)
def test_a_bad_argument_is_refused_before_anything_starts(field: str, value: Any) -> None:
    for make in (Tracker, sync.Tracker):
        with pytest.raises(ConfigError) as told:
            make(**{field: value})
        assert told.value.field.split(".")[0] == field
        assert told.value.accepted
        assert field in str(told.value)
        assert isinstance(told.value, ValueError)


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, v in BAD if isinstance(v, str) and v])
def test_a_bad_variable_is_refused_by_its_name(field: str, value: str, tmp_path: Path) -> None:
    if field == "name":
        return
    variable = f"AIOCARBON_{field.upper()}"
    with pytest.raises(ConfigError) as told:
        resolve({}, environ={variable: value}, folder=tmp_path)
    assert told.value.origin == variable
    assert variable in str(told.value)


def test_argument_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.aiocarbon]\npue = 1.1\nname = "file"\ninterval-s = 2\n')
    below = tmp_path / "deep" / "er"
    below.mkdir(parents=True)
    environ = {"AIOCARBON_PUE": "1.2", "AIOCARBON_EPOCHS": "none"}
    settings = resolve(check_arguments({"pue": 1.3}), environ=environ, folder=below)
    assert (settings.pue, settings.name, settings.interval_s, settings.epochs) == (1.3, "file", 2.0, None)
    assert resolve({}, environ=environ, folder=below).pue == 1.2
    assert resolve({}, environ={}, folder=below).pue == 1.1


@pytest.mark.parametrize(
    "text",
    [
        "[tool]\naiocarbon = { pue = 1.3 }",
        "[tool]\naiocarbon.pue = 1.3",
        '[tool."aiocarbon"]\npue = 1.3',
        "[tool . aiocarbon]\npue = 1.3",
    ],
)
def test_a_section_is_found_however_toml_lets_it_be_written(text: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    assert resolve({}, environ={}, folder=tmp_path).pue == 1.3


@pytest.mark.parametrize("text", ["[[tool.aiocarbon]]\npue = 1.3", "tool.aiocarbon = 3", "tool = 3  # aiocarbon"])
def test_a_section_that_is_no_table_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"a table, \[tool\.aiocarbon\].*pyproject\.toml|pyproject\.toml.*a table"):
        resolve({}, environ={}, folder=tmp_path)


def test_a_run_may_be_called_none(tmp_path: Path) -> None:
    assert resolve({}, environ={"AIOCARBON_NAME": "None"}, folder=tmp_path).name == "None"


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    for text in ("[tool.aiocarbon]\npue = 0.5\n", "[tool.aiocarbon]\nwatts = 5\n", "[tool.aiocarbon]\nbroken"):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"pyproject\.toml"):
            resolve({}, environ={}, folder=tmp_path)


def test_none_is_a_value(tmp_path: Path) -> None:
    environ = {"AIOCARBON_JOURNAL": str(tmp_path), "AIOCARBON_BUDGET": "co2eq_g=500,duration_s=60"}
    settings = resolve(check_arguments({"journal": None}), environ=environ, folder=tmp_path)
    assert settings.journal is None
    assert settings.budget == Budget(co2eq_g=500.0, duration_s=60.0)


def test_a_folder_of_journals_is_that_of_where_it_was_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, other = tmp_path / "base", tmp_path / "other"
    base.mkdir()
    other.mkdir()
    (base / "pyproject.toml").write_text('[tool.aiocarbon]\njournal = "filed"\n')
    monkeypatch.chdir(base)
    given = check_arguments({"journal": "runs"})
    by_variable = resolve({}, environ={"AIOCARBON_JOURNAL": "named"})
    by_file = resolve({}, environ={}, folder=base)
    by_id, _ = run_meant("job", None)
    monkeypatch.chdir(other)
    assert resolve(given, environ={}).journal == base / "runs"
    assert by_variable.journal == base / "named"
    assert by_file.journal == base / "filed"
    assert by_id == base / "aiocarbon_runs"
    assert check_arguments({"journal": base})["journal"] == base


@pytest.mark.skipif(sys.platform == "win32", reason="a folder that is in use cannot be removed")
def test_where_the_present_folder_is_gone_a_journal_is_no_reason_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert check_arguments({"journal": "runs"})["journal"] == Path("runs")


def test_a_budget_needs_a_limit_above_zero() -> None:
    for bad in ({}, {"co2eq_g": 0}, {"energy_kwh": math.nan}, {"duration_s": -1}, {"co2eq_g": 1, "action": "shout"}):
        with pytest.raises(ConfigError, match="budget"):
            Budget(**bad)  # type: ignore[arg-type]


def test_an_intensity_is_a_number_a_file_a_url_or_a_source(tmp_path: Path) -> None:
    path = tmp_path / "grid.csv"
    path.write_text("time,value\n")
    for given, taken in (
        (449, 449.0),
        ("449.06", 449.06),
        ("0", 0.0),
        (str(path), str(path)),
        (path, str(path)),
        ("https://example.org/grid.csv?key=1", "https://example.org/grid.csv?key=1"),
        ("energidataservice", "energidataservice"),
        (None, None),
    ):
        assert check_arguments({"intensity": given})["intensity"] == taken
    with pytest.raises(ConfigError, match="near: electricitymaps") as told:
        check_arguments({"intensity": "electricitymap"})
    for word in ("0 to 3000", "a file that is there", "https://", "watttime"):
        assert word in told.value.accepted


def test_a_file_beside_pyproject_is_found_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.aiocarbon]\nintensity = "data/grid.csv"\n')
    below = tmp_path / "deep"
    (below / "data").mkdir(parents=True)
    (below / "data" / "grid.csv").write_text("another one\n")
    with pytest.raises(ConfigError, match=r"pyproject\.toml.*a file that is there"):
        resolve({}, environ={}, folder=below)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "grid.csv").write_text("time,value\n")
    assert resolve({}, environ={}, folder=below).intensity == str(tmp_path / "data" / "grid.csv")
    for text, taken in (
        ("449", 449.0),
        ('"449"', 449.0),
        ('"watttime"', "watttime"),
        ('"https://x.org/"', "https://x.org/"),
    ):
        (tmp_path / "pyproject.toml").write_text(f"[tool.aiocarbon]\nintensity = {text}\n")
        assert resolve({}, environ={}, folder=below).intensity == taken


def test_where_a_value_comes_from_can_be_asked(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text('[tool.aiocarbon]\nlocation = "SE"\n')
    environ = {"AIOCARBON_LOCATION": "DK"}
    assert origin("location", {"location": "DE"}, environ, tmp_path) == "argument"
    assert origin("location", {"location": None}, environ, tmp_path) == "argument", "None is a value"
    assert origin("location", {}, environ, tmp_path) == "AIOCARBON_LOCATION"
    assert origin("location", {}, {}, tmp_path) == str(path)
    assert origin("location", {}, {"AIOCARBON_LOCATION": ""}, tmp_path) == str(path)
    assert origin("pue", {}, environ, tmp_path) == "default"
    with pytest.raises(ConfigError, match="AIOCARBON_LOCATION"):
        origin("pue", {}, {"AIOCARBON_LOCATION": "Atlantis"}, tmp_path)


def test_a_number_loads_no_source() -> None:
    code = """
import sys
from aiocarbon.settings import check_arguments
check_arguments({"intensity": 449.06, "location": None})
check_arguments({"intensity": None})
print(sorted(name for name in sys.modules if name.startswith("aiocarbon.intensity.") or name == "anyio"))
check_arguments({"intensity": "watttime"})
print("anyio" in sys.modules, "aiohttp" in sys.modules)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == ["[]", "False False"]

"""`aiocarbon import`, and the forms of `aiocarbon report` that go into papers, cards and dashboards."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest

from aiocarbon import journal, sync
from aiocarbon.cli.main import main
from aiocarbon.cli.resume import with_resume

LOG = """\
2026-03-01 12:00:00 - carbontracker version 2.4.7
2026-03-01 12:00:00 - Only predicted and actual consumptions are multiplied by a PUE coefficient of 1.58 (D, 2023, U).
2026-03-01 12:00:00 - The following components were found: GPU with device(s) Tesla T4.
2026-03-01 12:01:00 - Epoch 1:
2026-03-01 12:01:00 - Duration: 0:01:00.00
2026-03-01 12:01:00 - Average power usage (W) for gpu: 60.0
2026-03-01 12:01:00 - Average carbon intensity during training was 100.00 gCO2eq/kWh.\u0020
2026-03-01 12:01:00 - Monitoring thread ended.
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of our own with two epochs of three steps, and an imported one."""
    folder = tmp_path_factory.mktemp("runs")
    with sync.Tracker(epochs=2, name="own", meters="simulated:250", location="DK", pue=1.2, journal=folder) as tracker:
        for _ in range(2):
            with tracker.epoch():
                tracker.step(3)
    (folder / "unet_1.2_2026-03-01T120000Z_carbontracker.log").write_text(LOG)
    assert main(["import", "carbontracker", str(folder), "--journal", str(folder), "--timezone", "UTC"]) == 0
    return folder


def test_import_tells_each_run_and_what_became_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "unet_1.2_2026-03-01T120000Z_carbontracker.log").write_text(LOG)
    words = ["import", "carbontracker", str(tmp_path), "--journal", str(tmp_path / "j")]
    for became in ("new", "there already"):
        assert main(words) == 0
        out, err = capsys.readouterr()
        assert "(unet): 1 epochs, 1 min 00 s, 1.00 Wh by the devices, by carbontracker 2.4.7; " + became in out
        assert out.splitlines()[-1] == f"1 run in {tmp_path / 'j'}: aiocarbon report {tmp_path / 'j'}"
        assert err == ""
    assert main(["report", str(tmp_path / "j")]) == 0
    out = capsys.readouterr().out
    assert "measured by carbontracker 2.4.7; imported from its log" in out
    assert "overhead" not in out


def test_imported_run_that_broke_off_is_none_to_go_on_with(tmp_path: Path) -> None:
    cut = "".join(LOG.splitlines(keepends=True)[:6])
    (tmp_path / "unet_1.2_2026-03-01T120000Z_carbontracker.log").write_text(cut)
    assert main(["import", "carbontracker", str(tmp_path), "--journal", str(tmp_path)]) == 0
    assert not journal.load(tmp_path).runs[0].ended_well
    settings, said = with_resume({}, tmp_path, "", "")
    assert "run_id" not in settings
    assert "a new one begins" in said


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["import", "codecarbon", "/nix"], 1, "/nix is not there"),
        (["import", "eco2ai", "."], 2, "carbontracker"),
        (["import", "carbontracker"], 2, "PATH"),
        (["import", "codecarbon", ".", "--timezone", "Mars/Olympus"], 2, "no time zone"),
        (["import", "codecarbon", ".", "--timezone", "../../etc/passwd"], 2, "no time zone"),
        (["report", ".", "--sci-unit", "image"], 2, "--sci-units N"),
        (["report", ".", "--sci-units", "3"], 2, "--sci-unit NAME"),
        (["report", ".", "--sci-unit", "image", "--sci-units", "0"], 2, "above 0"),
        (["report", ".", "--sci-unit", "image", "--sci-units", "nan"], 2, "above 0"),
        (["report", ".", "--sci-unit", "x" * 61, "--sci-units", "1"], 2, "60 characters"),
        (["report", ".", "--car-g-per-km", "-1"], 2, "above 0"),
        (["report", ".", "--latex", "-", "--markdown", "-"], 2, "one output"),
    ],
    ids=str,
)
def test_wrong_words(
    words: list[str],
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # the default folder and "." are the process's own
    assert main(words) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err


def test_all_forms_at_once(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["statement", "markdown", "latex", "csv", "json"]
    targets = [str(tmp_path / name) for name in names]
    options = [word for name, target in zip(names, targets, strict=True) for word in (f"--{name}", target)]
    capsys.readouterr()
    assert main(["report", str(runs), *options]) == 0
    assert capsys.readouterr().out == ""
    made_up = "of that is of simulated or replayed devices."
    text, markdown, latex, table, plain = (Path(target).read_text(encoding="utf-8") for target in targets)
    assert text.startswith("The training of models in this work is estimated to use ")
    assert all(made_up in content for content in (text, markdown, latex))
    assert markdown.startswith("## Environmental Impact\n")
    assert "\\begin{tabular}" in latex
    rows = list(csv.DictReader(table.splitlines()))
    assert [row["project_name"] for row in rows] == ["unet", "own"]
    assert [row["country_iso_code"] for row in rows] == ["", "DNK"]
    assert all(content.endswith("\n") and not content.endswith("\n\n") for content in (text, markdown, latex, table))
    stated = json.loads(plain)["statement"]
    assert stated["tools"][0] == {"name": "carbontracker", "version": "2.4.7", "runs": 1}
    assert stated["text"] == text.strip().replace("\n\n", " ")


@pytest.mark.parametrize(("unit", "units"), [("run", "2"), ("epoch", "3"), ("step", "6")])
def test_sci_of_what_reports_count(runs: Path, unit: str, units: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["report", str(runs), "--sci-unit", unit]) == 0
    out = capsys.readouterr().out
    assert f"R = {units} {unit}" in out
    assert "operational part: " in out


def test_sci_of_a_unit_of_which_there_was_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with sync.Tracker(meters="simulated:250", location="DK", journal=tmp_path):
        pass
    assert main(["report", str(tmp_path), "--sci-unit", "step"]) == 2
    assert "--sci-units N says it" in capsys.readouterr().err


def test_sci_and_car_as_the_user_says(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    words = ["--sci-unit", "image", "--sci-units", "5e4", "--car-g-per-km", "120.4", "--json", "-"]
    assert main(["report", str(runs), *words]) == 0
    stated = json.loads(capsys.readouterr().out)["statement"]
    assert stated["sci"]["units"] == 50_000
    assert stated["sci"]["embodied_g"] is None
    assert stated["sci"]["operational_g_per_unit"] == pytest.approx(stated["total"]["co2eq_g"] / 50_000)
    assert stated["equivalent"]["g_per_unit"] == 120.4


def test_form_that_cannot_be_written_is_told_and_the_others_are(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = tmp_path / "x.md"
    assert main(["report", str(runs), "--latex", "/dev/full", "--markdown", str(good)]) == 1
    assert "No space left" in capsys.readouterr().err
    assert good.read_text().startswith("## ")
    assert main(["report", str(runs), "--csv", os.fspath(tmp_path / "no" / "x.csv")]) == 2

"""The statement in all its forms, of runs whose figures are known and whose names are not nice."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
import shutil
import subprocess
from datetime import UTC
from pathlib import Path

import pytest

from aiocarbon import imports, journal
from aiocarbon._core.report import RunReport
from aiocarbon._core.sci import sci_of, units_of
from aiocarbon.render.emissions_csv import COLUMNS, emissions_csv
from aiocarbon.render.statement import Statement, statement, statement_text
from aiocarbon.render.statement_forms import statement_latex, statement_markdown

HEADER = "timestamp,run_id,project_name,duration,emissions,cpu_energy,gpu_energy,ram_energy,energy_consumed,pue,"
HEADER += "country_iso_code,codecarbon_version,cpu_model,gpu_model,gpu_count\n"

WILD = [
    "\"quoted\" 'n' `ticked`",
    "two\nlines\r\n\tand a tab",
    "<script>alert('1')</script>&amp;",
    "100 % & #1 _a_ $x$ ~ ^ {b} \\c \\input{/etc/passwd}",
    "=cmd|' /C calc'!A0",
    "@SUM(1+1) [link](javascript:1) ![i](x) | cell | -- ---",
    "Łódź Æsir ñ ß Ð þ 訓練 \u202e\u0000\ufeff",
    "x" * 10_000,
    "",
]


def loaded(folder: Path, *rows: dict[str, str]) -> journal.Loaded:
    """Runs with the figures of the reference paper's own statement: 37.445 kWh, 3.166 kg."""
    usual = {
        "timestamp": "2026-03-01T12:00:00", "duration": "36000", "emissions": "3.166", "cpu_energy": "7.445",
        "gpu_energy": "30", "energy_consumed": "37.445", "pue": "1.25", "country_iso_code": "DNK",
        "codecarbon_version": "3.3.2", "cpu_model": "AMD EPYC", "gpu_model": "NVIDIA A100", "gpu_count": "1",
    }  # fmt: skip
    out = io.StringIO(HEADER)
    out.seek(0, io.SEEK_END)
    writer = csv.DictWriter(out, HEADER.strip().split(","))
    writer.writerows(usual | {"run_id": str(n)} | row for n, row in enumerate(rows))
    (folder / "emissions.csv").write_text(out.getvalue())
    imports.import_logs("codecarbon", [folder / "emissions.csv"], folder / "runs", zone=UTC)
    return journal.load(folder / "runs")


def stated(told: journal.Loaded, **more: object) -> Statement:
    return statement(told.runs, told.total, **more)  # type: ignore[arg-type]  # handed through


def wild(folder: Path, name: str) -> journal.Loaded:
    return loaded(folder, {"project_name": name, "cpu_model": name, "gpu_model": name, "codecarbon_version": name})


# -- what it says ------------------------------------------------------------------------------------------------------


def test_facts_of_the_paper_s_statement(tmp_path: Path) -> None:
    facts = stated(loaded(tmp_path, {}), g_per_km=120.4)
    assert facts.total.energy_kwh == pytest.approx(37.445)
    assert facts.total.co2eq_g == pytest.approx(3166.0)
    assert facts.equivalent is not None
    assert facts.equivalent.amount == pytest.approx(26.296, abs=5e-4)
    text = statement_text(facts)
    assert text.startswith(
        "The training of models in this work is estimated to use 37.4 kWh of electricity (90 % range"
    )
    assert "contributing to 3.2 kg of CO2eq" in text
    assert "This is equivalent to 26 km travelled by car (120.4 g/km)." in text
    assert "Measured by codecarbon 3.3.2 (its logs, imported)." in text


def test_measured_and_estimated_are_told_apart(tmp_path: Path) -> None:
    text = statement_text(stated(loaded(tmp_path, {"emissions": "1"}, {"gpu_energy": "0", "energy_consumed": "7.445"})))
    assert "67 % measured by energy counters and 33 % assumed" in text
    assert "PUE of 1.25 (as codecarbon counted)" in text
    assert "Not in these figures: memory and gpu (of some runs)." in text
    assert "codecarbon 3.3.2" in text


def test_what_was_not_measured_is_stated_as_that_and_not_as_zero(tmp_path: Path) -> None:
    told = loaded(tmp_path, {})
    nothing = dataclasses.replace(
        told.total, it_energy_kwh=0.0, energy_kwh=0.0, co2eq_g=0.0, coverage=0.0, basis_shares={}
    )
    facts = statement(told.runs, nothing, sci=sci_of(told.total, "image", 1))
    assert statement_text(facts).startswith("Nothing was measured")
    assert facts.equivalent is None
    names = [field.name for field in dataclasses.fields(nothing)]
    run = dataclasses.replace(told.runs[0], **{name: getattr(nothing, name) for name in names})
    (row,) = csv.DictReader(io.StringIO(emissions_csv([run], str)))
    assert (row["energy_consumed"], row["emissions"], row["cpu_energy"]) == ("", "", "")
    for text in (statement_text(facts), statement_markdown(facts), statement_latex(facts)):
        assert not re.search(r"\b0 (m?Wh|g|m)\b", text)
        assert "emissions:" not in text
        assert "Coverage" not in text or "0 %" in text.replace("~\\%", " %")


def test_equivalent_is_the_newest_car_unless_given(tmp_path: Path) -> None:
    facts = stated(loaded(tmp_path, {}))
    assert facts.equivalent is not None
    assert (facts.equivalent.g_per_unit, facts.equivalent.year) == (106.8, 2024)


def test_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a run"):
        statement((), loaded(tmp_path, {}).total)


# -- the SCI -----------------------------------------------------------------------------------------------------------


def test_sci_shows_its_terms(tmp_path: Path) -> None:
    told = loaded(tmp_path, {})
    sci = sci_of(told.total, "image", 50_000)
    assert sci.operational_g_per_unit == pytest.approx(3166.0 / 50_000)
    assert sci.intensity_g_per_kwh is not None
    assert sci.energy_kwh * sci.intensity_g_per_kwh == pytest.approx(sci.operational_g)
    text = statement_text(stated(told, sci=sci))
    assert "63 mg of CO2eq per image" in text
    assert "E = 37.45 kWh (PUE included), I = 84.55 g/kWh" in text
    assert "O = 3.166 kg, R = 50,000 image" in text
    assert "Embodied emissions (M) are not known and not counted." in text


def test_sci_of_units_that_reports_count(tmp_path: Path) -> None:
    told = loaded(tmp_path, {}, {"timestamp": "2026-03-02T12:00:00"})
    assert units_of(told.runs, told.total, "run") == 2
    assert units_of(told.runs, told.total, "hour") == pytest.approx(20.0)
    assert units_of(told.runs, told.total, "epoch") == 0
    with pytest.raises(ValueError, match="above 0"):
        sci_of(told.total, "epoch", 0)
    many = [dataclasses.replace(run, epochs_total=20_000) for run in told.runs]
    with pytest.raises(ValueError, match="steps are not known"):
        units_of(many, told.total, "step")


# -- forms -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WILD, ids=range(len(WILD)))
def test_wild_names_are_text_in_markdown(tmp_path: Path, name: str) -> None:
    text = statement_markdown(stated(wild(tmp_path, name)))
    assert len(text) < 10_000
    assert "<script" not in text
    assert "](" not in text[: text.index("```yaml")].replace("\\](", "")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 4 for line in rows)
    fenced = text[text.index("```yaml") :]
    assert fenced.count("`") == 6
    assert fenced.endswith("```")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex: apt-get install texlive-latex-base")
@pytest.mark.parametrize("encoding", ["OT1", "T1"])
def test_latex_compiles_with_all_wild_names(tmp_path: Path, encoding: str) -> None:
    told = loaded(tmp_path, *({"project_name": name, "cpu_model": name, "codecarbon_version": name} for name in WILD))
    text = statement_latex(stated(told, sci=sci_of(told.total, WILD[3], 3)))
    (tmp_path / "statement.tex").write_text(text)
    head = "" if encoding == "OT1" else "\\usepackage[T1]{fontenc}"
    main = f"\\documentclass{{article}}{head}\\begin{{document}}\\input{{statement}}\\end{{document}}"
    (tmp_path / "main.tex").write_text(main)
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "-no-shell-escape", "main.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode("utf-8", "replace")[-2000:]
    assert (tmp_path / "main.pdf").stat().st_size > 10_000


def test_latex_escapes_each_special(tmp_path: Path) -> None:
    text = statement_latex(stated(wild(tmp_path, WILD[3])))
    assert r"100~\% \& \#1 \_a\_ \$x\$ \textasciitilde{} \textasciicircum{} \{b\} \textbackslash{}c" in text
    assert "\\input{/etc" not in text


@pytest.mark.parametrize("name", WILD, ids=range(len(WILD)))
def test_csv_holds_no_formula_and_reads_back(tmp_path: Path, name: str) -> None:
    told = wild(tmp_path, name)
    text = emissions_csv(told.runs, lambda code: {"DK": "DNK"}.get(code, ""))
    (row,) = csv.DictReader(io.StringIO(text))
    assert not any(value.startswith(("=", "+", "-", "@", "\t", "\r")) for value in row.values())
    assert len(row["project_name"]) <= 201
    assert len(text.splitlines()) == 2


def test_csv_has_codecarbon_s_columns_and_unknown_is_empty(tmp_path: Path) -> None:
    told = loaded(tmp_path, {"gpu_energy": "0", "energy_consumed": "7.445"})
    text = emissions_csv(told.runs, lambda code: {"DK": "DNK"}.get(code, ""))
    (row,) = csv.DictReader(io.StringIO(text))
    assert tuple(row) == COLUMNS
    assert len(COLUMNS) == 38
    assert float(row["energy_consumed"]) == pytest.approx(7.445)
    assert float(row["cpu_energy"]) == pytest.approx(7.445)
    assert float(row["emissions"]) == pytest.approx(3.166)
    assert row["country_iso_code"] == "DNK"
    assert row["timestamp"] == "2026-03-01T12:00:00"
    unknown = ("gpu_energy", "gpu_power", "gpu_count", "ram_energy", "water_consumed", "wue", "longitude", "cpu_count",
               "os", "cpu_utilization_percent", "on_cloud", "experiment_id")  # fmt: skip
    assert [row[name] for name in unknown] == [""] * len(unknown)


def test_csv_goes_round(tmp_path: Path) -> None:
    """What is written here imports as what it was."""
    first = loaded(tmp_path, {})
    text = emissions_csv(first.runs, lambda code: {"DK": "DNK"}.get(code, ""))
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "out.csv").write_text(text)
    imports.import_logs("codecarbon", [tmp_path / "again"], tmp_path / "again" / "runs", zone=UTC)
    second = journal.load(tmp_path / "again" / "runs")
    for name in ("energy_kwh", "co2eq_g", "duration_s", "it_energy_kwh"):
        assert getattr(second.total, name) == pytest.approx(getattr(first.total, name))


def test_states_and_clouds_have_their_columns(tmp_path: Path) -> None:
    run = loaded(tmp_path, {}).runs[0]

    def row(zone: str, name: str, region: str) -> dict[str, str]:
        placed: RunReport = dataclasses.replace(
            run, location=dataclasses.replace(run.location, zone=zone, name=name, region=region)
        )
        (told,) = csv.DictReader(io.StringIO(emissions_csv([placed], lambda code: code + "X")))
        return told

    told = row("US-CA", "California, United States", "aws us-west-1")
    assert (told["country_name"], told["region"], told["country_iso_code"]) == ("United States", "california", "USX")
    assert (told["cloud_provider"], told["cloud_region"], told["on_cloud"]) == ("aws", "us-west-1", "Y")
    assert row("WORLD", "the world", "")["country_name"] == ""

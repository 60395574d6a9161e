"""The published JSON Schema: it is that of the classes, and what is written keeps it to the letter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest
from jsonschema import Draft202012Validator, FormatChecker

import aiocarbon
from aiocarbon import sync
from aiocarbon.cli.main import main
from aiocarbon.render.schema import report_schema

PUBLISHED = Path(aiocarbon.__file__).parent / "data" / "report.schema.json"
CODECARBON = "timestamp,run_id,duration,energy_consumed,cpu_energy,emissions\n2026-03-01T12:00:00,1,60,0.1,0.1,0.02\n"


def strict(node: Any) -> Any:
    """The schema with no room for a field that it does not name."""
    if isinstance(node, dict):
        closed = {"additionalProperties": False} if "properties" in node else {}
        return {key: strict(value) for key, value in node.items()} | closed
    return [strict(part) for part in node] if isinstance(node, list) else node


def refuse(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is no JSON")


def errors(text: str, of: str | None = None) -> list[str]:
    published = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    schema = strict(published if of is None else {"$ref": f"#/$defs/{of}", "$defs": published["$defs"]})
    validator = Draft202012Validator(schema, format_checker=FormatChecker())
    plain = json.loads(text, parse_constant=refuse)
    return [f"{list(error.absolute_path)}: {error.message[:300]}" for error in validator.iter_errors(plain)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with epochs, spans and a child, one without any of that, one that broke off, and an imported one."""
    folder = tmp_path_factory.mktemp("runs")
    place: dict[str, Any] = {"meters": "simulated:250", "location": "DK", "journal": folder, "offline": True}
    with sync.Tracker(epochs=2, name='n"1', run_id="one", **place) as tracker, tracker.child("c") as child:
        for _ in range(2):
            with tracker.epoch(), tracker.span("s", kind="t"), child.span("of child"):
                tracker.step(3)
    with sync.Tracker(run_id="two", **place):
        pass
    with sync.Tracker(run_id="three", **place):
        pass
    (journal,) = (folder / "three").glob("*.jsonl")
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:-1]))
    (folder / "emissions.csv").write_text(CODECARBON)
    assert main(["import", "codecarbon", str(folder / "emissions.csv"), "--journal", str(folder)]) == 0
    return folder


def test_published_schema_is_that_of_the_classes() -> None:
    told = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    remedy = "python -m aiocarbon.render.schema > aiocarbon/data/report.schema.json"
    assert told == report_schema(), f"a report has other fields than its published schema: {remedy}"
    Draft202012Validator.check_schema(told)


def test_it_is_written_by_its_module() -> None:
    code = [sys.executable, "-m", "aiocarbon.render.schema"]
    assert json.loads(subprocess.run(code, capture_output=True, check=True).stdout) == report_schema()


def test_all_fields_are_described() -> None:
    for name, definition in report_schema()["$defs"].items():
        assert definition["description"], name
        bare = [
            field
            for field, node in definition["properties"].items()
            if "description" not in node and "const" not in node
        ]
        assert not bare, f"{name}: {bare}"


def test_reports_keep_it(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["report", str(runs), "--json", "-", "--sci-unit", "run"]) == 0
    text = capsys.readouterr().out
    assert len(json.loads(text)["runs"]) == 4
    assert errors(text, "Report") == []
    assert errors(text) == []


def test_one_run_keeps_it(runs: Path) -> None:
    with sync.Tracker(epochs=3, meters="simulated:250", location="DK", offline=True) as tracker:
        with tracker.epoch():
            pass
        open_report = tracker.report()
    assert errors(json.dumps(open_report.to_dict()), "RunReport") == []
    assert errors(json.dumps(tracker.report().to_dict()), "RunReport") == []


def test_a_wrong_report_does_not(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["report", str(runs), "--json", "-"]) == 0
    told = json.loads(capsys.readouterr().out)
    told["runs"][0]["co2eq_g"] = "much"
    del told["total"]["energy_kwh"]
    assert len(errors(json.dumps(told), "Report")) == 2

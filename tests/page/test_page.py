"""The page as a file: nothing of it is fetched, nothing that was named becomes markup, and it stays small."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from aiocarbon.cli.main import main
from aiocarbon.journal.read import gather, tell
from aiocarbon.page.html import LIMIT, page, shell
from aiocarbon.page.words import cut
from benchmarks.made_runs import BEGIN_S, put

WILD = "</script><script>alert(1)</script><!-- \" ' & \u2028\u2029\n\0 {{data}} "


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.attributes: list[tuple[str, str | None]] = []
        self._open = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._open = tag

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self._open, []).append(data)

    def handle_endtag(self, tag: str) -> None:
        self._open = ""


def made(folder: Path, **how: Any) -> tuple[str, dict[str, Any]]:
    problems: list[str] = []
    processes = gather([folder], problems)
    text = page(tell(processes, problems), processes, **how)
    return text, data_of(text)


def data_of(text: str) -> dict[str, Any]:
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    found: dict[str, Any] = json.loads(data)
    return found


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("day")
    put(folder)
    return folder


def test_a_day_s_page_is_small_and_holds_all_of_it(day: Path) -> None:
    text, data = made(day)
    assert len(text.encode()) < 400_000
    (run,) = data["runs"]
    assert {"power", "used", "intensity", "epochs", "shares", "spans", "methods", "places", "devices", "facts"} <= {
        key for key, value in run["detail"].items() if value
    }
    assert run["detail"]["used"]["predictions"]["t"]
    for curve in (run["detail"]["power"], run["detail"]["used"]):
        assert len(curve["t"]) <= 722


def test_nothing_of_it_is_fetched(day: Path) -> None:
    text, _ = made(day)
    parser = Elements()
    parser.feed(text)
    addresses = [value for name, value in parser.attributes if name in ("src", "href", "action", "srcset", "data")]
    assert sorted(map(str, addresses)) == ["#main", "data:,"]
    assert not re.search(r"@import|url\(", text)
    (policy,) = [value for name, value in parser.attributes if name == "content" and "default-src" in str(value)]
    assert "connect-src 'none'" in str(policy)
    assert "unsafe" not in str(policy)


def test_its_policy_allows_its_own_script_and_style_alone(day: Path) -> None:
    text, _ = made(day)
    parser = Elements()
    parser.feed(text)
    for tag in ("script", "style"):
        body = parser.texts[tag][-1]
        assert f"'sha256-{base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()}'" in text


def test_wild_names_stay_text(tmp_path: Path) -> None:
    put(tmp_path, name=WILD + "x" * 10_000, hours=1.0, epochs=2, spans=(WILD,), warnings=(WILD * 50,))
    text, data = made(tmp_path)
    parser = Elements()
    parser.feed(text)
    assert parser.tags.count("script") == 2
    assert "alert(1)</script>" not in text
    assert "\u2028" not in parser.texts["script"][0]
    text.encode("utf-8")
    (run,) = data["runs"]
    assert run["name"].startswith("</script><script>alert(1)</script><!-- \" ' &")
    assert run["name"].endswith("characters)")
    assert len(run["name"]) <= 100


def test_half_a_character_breaks_no_page(tmp_path: Path) -> None:
    path = put(tmp_path, name="NAME", hours=1.0, epochs=0)
    path.write_text(path.read_text(encoding="utf-8").replace('"NAME"', '"a\\ud800b"'), encoding="utf-8")
    text, data = made(tmp_path)
    text.encode("utf-8")
    assert data["runs"][0]["name"] == "a b"


def test_what_is_put_in_is_not_looked_at_for_fields(tmp_path: Path) -> None:
    put(tmp_path, name="{{script}} {{data}}", hours=1.0, epochs=0)
    text, data = made(tmp_path)
    assert data["runs"][0]["name"] == "{{script}} {{data}}"
    assert "<title>{{script}} {{data}} - aiocarbon</title>" in text


def test_without_a_script_the_report_is_there_as_text(day: Path) -> None:
    text, _ = made(day)
    assert re.search(r"<noscript><pre>aiocarbon: resnet-50 on 8 GPUs \(day\) on node-1\n", text)


def test_many_runs_are_in_one_page_that_stays_within_the_limit(tmp_path: Path) -> None:
    for n in range(12):
        put(tmp_path, run_id=f"run-{n}", hours=1.0, epochs=3, gpus=1, begin_s=BEGIN_S + 7200 * n)
    text, data = made(tmp_path)
    assert len(text) < LIMIT
    assert [row["run_id"] for row in data["runs"]] == [f"run-{n}" for n in range(12)]
    assert all("detail" in row for row in data["runs"])
    assert data["total"]["runs"] == 12


def test_where_there_is_no_room_curves_get_coarser_and_then_the_oldest_go(tmp_path: Path) -> None:
    for n in range(4):
        put(tmp_path, run_id=f"run-{n}", hours=12.0, epochs=3, gpus=8, begin_s=BEGIN_S + 90_000 * n)
    whole, data = made(tmp_path)
    details = [len(json.dumps(row["detail"], separators=(",", ":"))) + 11 for row in data["runs"]]
    bare = len(whole) - sum(details)
    text, data = made(tmp_path, limit=len(whole) - sum(details) // 3)
    assert len(text) <= len(whole) - sum(details) // 3
    assert all("detail" in row for row in data["runs"])
    text, data = made(tmp_path, limit=bare + details[0] // 4)
    assert len(text) <= bare + details[0] // 4
    assert [bool(row.get("detail")) for row in data["runs"]] == [False, False, False, True]
    text, data = made(tmp_path, limit=bare)
    assert not any("detail" in row for row in data["runs"])
    assert len(data["runs"]) == 4


def test_every_figure_says_its_basis_and_source(day: Path) -> None:
    _, data = made(day)
    found = data["runs"][0]["detail"]
    assert "measured (energy counter)" in found["power"]["note"]
    assert "ESTIMATED (model)" in found["power"]["note"]
    assert "PUE 1.2 (given by the user)" in found["used"]["energy_note"]
    assert "Energi Data Service (Energinet)" in found["used"]["co2eq_note"]
    assert "live" in found["intensity"]["note"]
    assert "Ember" in found["places"]["note"]
    assert all(row["source"] and row["note"] for row in found["methods"]["rows"])
    assert all(basis for _, _, _, basis in found["kpis"])
    assert {row["basis"] for row in found["shares"]["rows"]} == {"measured (energy counter)", "ESTIMATED (model)"}


def test_the_same_figures_as_in_the_report(day: Path) -> None:
    _, data = made(day)
    (run,) = tell(gather([day], []), []).runs
    found = data["runs"][0]["detail"]
    assert found["used"]["energy"]["value"][-1] == pytest.approx(run.energy_kwh, rel=1e-4)
    assert found["used"]["co2eq"]["value"][-1] == pytest.approx(run.co2eq_g, rel=1e-4)
    assert sum(found["epochs"]["energy"]) == pytest.approx(sum(e.energy_kwh for e in run.epochs), rel=1e-3)
    assert found["places"]["kwh"][0] == pytest.approx(run.energy_kwh, rel=1e-6)


def test_the_command_writes_it(day: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "page.html"
    assert main(["report", str(day), "--html", str(target)]) == 0
    assert target.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert main(["report", str(day), "--html", str(tmp_path / "no" / "page.html")]) == 2
    assert "no folder" in capsys.readouterr().err


def test_the_live_page_has_no_run_and_asks_its_own_server_alone() -> None:
    text = shell()
    data = data_of(text)
    assert data["runs"] == []
    assert len(data["places"]) > 200
    assert "connect-src 'self'" in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\nb\tc", "a b c"), ("", ""), ("a\u2028b\x1b[31m", "a b [31m"), ("y" * 200, "y" * 76 + "... (200 characters)")],
)
def test_a_text_is_cut_to_one_line_that_has_room(text: str, shown: str) -> None:
    assert cut(text, 100) == shown

"""What ends badly loses nothing that was measured, and takes no kept result's place."""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

import benchmarks.__main__ as program
from benchmarks import table
from benchmarks.__main__ import CTRL_C, main
from benchmarks.plots import REMEDY
from benchmarks.result import ENDED, Row, skipped

FIGURE = Row("figure", 1.0, "ms")
GROUP = ("scale", "memory", "cluster", "records")


def fails(**_: object) -> list[Row]:
    raise OSError("no such thing")


def is_interrupted(**_: object) -> list[Row]:
    raise KeyboardInterrupt


@pytest.fixture
def stands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Puts `run`s in the place of the benchmarks of the group `scale`; what is kept lies in a folder of the test."""
    # The program imports what it runs by name: what is run instead has to stand there; and no kept result may be hurt.
    monkeypatch.setattr(program, "RESULTS", tmp_path)

    def put(*runs: Callable[..., list[Row]], **more: object) -> None:
        for name, run in zip(GROUP, runs, strict=True):
            monkeypatch.setitem(
                sys.modules, f"benchmarks.{name}", types.SimpleNamespace(QUESTION="q?", run=run, **more)
            )

    return put


def works(**_: object) -> list[Row]:
    return [FIGURE]


def stopped(**_: object) -> list[Row]:
    return [FIGURE, skipped("other", "ms", ENDED)]


def test_ctrl_c_ends_all_and_what_was_measured_stays(
    stands: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stands(works, is_interrupted, works, works)
    assert main(["scale", "--json", str(tmp_path / "told")]) == CTRL_C
    assert json.loads((tmp_path / "told").read_text())["name"] == "scale"
    assert "memory: ended by Ctrl-C" in capsys.readouterr().out


def test_one_that_tells_what_it_has_at_ctrl_c_ends_all_and_is_not_kept(
    stands: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stands(stopped, works, works, works)
    assert main(["scale", "--keep"]) == CTRL_C
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out.count("figure") == 1


def test_one_that_fails_takes_no_kept_results_place(stands: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "scale.json").write_text("kept")
    stands(fails, works, works, works)
    assert main(["scale", "--keep"]) == 1
    assert (tmp_path / "scale.json").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "cluster.json", "memory.json", "records.json", "scale.json",
    ]  # fmt: skip


def test_where_no_versions_can_be_told_that_is_a_failure_as_another(
    stands: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    def versions() -> dict[str, str]:
        raise OSError("no such interpreter")

    stands(works, works, works, works, versions=versions)
    assert main(["scale"]) == 1
    assert capsys.readouterr().out.count("failed: OSError: no such interpreter") == len(GROUP)


def test_a_file_that_cannot_be_written_is_told_and_ends_nothing(
    stands: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stands(works, works, works, works)
    (tmp_path / "folder").mkdir()
    assert main(["scale", "--json", str(tmp_path / "folder")]) == 0
    told = capsys.readouterr().out
    assert told.count("figure") == len(GROUP)
    assert f"not written: {tmp_path / 'folder'}" in told
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is not None, reason="matplotlib is here")
def test_that_nothing_will_be_drawn_is_told_before_anything_is_measured(
    stands: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stands(works, works, works, works)
    assert main(["scale", "--plot", str(tmp_path / "plots")]) == 0
    assert capsys.readouterr().out.startswith(f"nothing will be drawn: {REMEDY}")
    assert not (tmp_path / "plots").exists()


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs the extra bench")
def test_a_folder_that_takes_no_drawings_is_told(
    stands: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stands(works, works, works, works)
    (tmp_path / "file").write_text("")
    assert main(["scale", "--plot", str(tmp_path / "file")]) == 0
    assert "not drawn: " in capsys.readouterr().out


@pytest.mark.parametrize("argv", [["scale", "--json", "/no/such/folder/file"], ["scale", "--keep", "--quick"]])
def test_what_would_be_lost_in_the_end_is_refused_at_once(argv: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(argv)


def test_who_was_not_measured_before_ctrl_c_is_not_said_to_fail() -> None:
    rows = [{"metric": "eight GPUs: zeus", "value": None, "unit": "%", "ok": None, "note": ENDED}]
    kept = {"rows": rows, "machine": {"cpu": "", "cores": 2}, "versions": {}, "commit": "abc", "quick": False}
    assert "fails" not in table.table({"accuracy_peers": kept})

"""Following a folder: what is new, what has changed, what went away, and what cannot be read."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from aiocarbon.journal import records
from aiocarbon.page.follow import RECENT_S, Follower
from benchmarks.made_runs import BEGIN_S, lines, put


class Clock:
    """Seconds that go on when told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def small(folder: Path, run_id: str, **more: Any) -> Path:
    return put(folder, **{"run_id": run_id, "hours": 0.2, "epochs": 2, "gpus": 1, "spans": ()} | more)


def followed(folder: Path) -> tuple[Follower, Clock]:
    clock = Clock()
    return Follower(folder, clock=clock), clock


def test_a_folder_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    follower, _ = followed(tmp_path / "runs")
    assert follower.look() is False
    assert follower.list()["runs"] == []
    assert follower.list()["is_there"] is False
    small(tmp_path / "runs", "one")
    follower.look()
    assert [row["run_id"] for row in follower.list()["runs"]] == ["one"]


def test_runs_keep_their_numbers_and_the_newest_is_first(tmp_path: Path) -> None:
    follower, _ = followed(tmp_path)
    small(tmp_path, "one")
    follower.look()
    small(tmp_path, "two", begin_s=BEGIN_S + 3600)
    follower.look()
    rows = follower.list()["runs"]
    assert [(row["run_id"], row["n"]) for row in rows] == [("two", 1), ("one", 0)]
    shutil.rmtree(tmp_path / "one")
    follower.look()
    assert [(row["run_id"], row["n"]) for row in follower.list()["runs"]] == [("two", 1)]
    assert follower.detail(0) is None


def test_a_run_that_goes_on_is_read_again_after_a_rest(tmp_path: Path) -> None:
    reads = list(lines(run_id="one", hours=0.2, epochs=4, gpus=1, spans=()))
    path = small(tmp_path, "one")
    half = len(reads) // 2
    path.write_text("".join(map(records.line, reads[:half])), encoding="utf-8")
    steps = Clock()

    def clock() -> float:
        steps.now_s += 0.1  # each look at the clock takes so long: so does reading
        return steps.now_s

    follower = Follower(tmp_path, clock=clock)
    follower.look()
    (before,) = follower.list()["runs"]
    path.write_text("".join(map(records.line, reads)), encoding="utf-8")
    follower.look()
    assert follower.list()["runs"][0]["version"] == before["version"]
    steps.now_s += 60.0
    follower.look()
    (after,) = follower.list()["runs"]
    assert after["version"] == before["version"] + 1
    assert after["energy"] != before["energy"]


def test_what_has_not_changed_is_not_read_again(tmp_path: Path) -> None:
    follower, clock = followed(tmp_path)
    small(tmp_path, "one")
    follower.look()
    clock.now_s += 1e6
    follower.look()
    assert follower.list()["runs"][0]["version"] == 1


def test_many_runs_are_read_in_several_looks(tmp_path: Path) -> None:
    for n in range(4):
        small(tmp_path, f"run-{n}")
    steps = Clock()

    def clock() -> float:
        steps.now_s += 0.4
        return steps.now_s

    follower = Follower(tmp_path, clock=clock)
    assert follower.look() is True
    assert 0 < len(follower.list()["runs"]) < 4
    assert follower.list()["unread"] > 0
    while follower.look():
        pass
    assert len(follower.list()["runs"]) == 4
    assert follower.list()["unread"] == 0


def test_whether_an_open_run_goes_on_is_told_by_when_it_was_last_written(tmp_path: Path) -> None:
    path = small(tmp_path, "one", has_end=False)
    wall = Clock()
    wall.now_s = path.stat().st_mtime + 5.0
    follower = Follower(tmp_path, wall=wall)
    follower.look()
    assert follower.list()["runs"][0]["state"] == "running"
    wall.now_s += RECENT_S
    assert follower.list()["runs"][0]["state"] == "broke off"


def test_foreign_empty_and_torn_files_are_told_and_stop_nothing(tmp_path: Path) -> None:
    small(tmp_path, "one")
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "foreign.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "binary.jsonl").write_bytes(os.urandom(2000).replace(b"\n", b"x"))
    os.mkfifo(tmp_path / "pipe.jsonl")
    follower, _ = followed(tmp_path)
    follower.look()
    told = follower.list()
    assert [row["run_id"] for row in told["runs"]] == ["one"]
    assert len([problem for problem in told["problems"] if "is no journal" in problem or "is empty" in problem]) == 3


def test_a_file_that_becomes_a_journal_is_taken(tmp_path: Path) -> None:
    (tmp_path / "new.jsonl").touch()
    follower, _ = followed(tmp_path)
    follower.look()
    assert follower.list()["problems"]
    journal = small(tmp_path / "other", "one").read_bytes()
    shutil.rmtree(tmp_path / "other")
    (tmp_path / "new.jsonl").write_bytes(journal)
    follower.look()
    assert [row["run_id"] for row in follower.list()["runs"]] == ["one"]
    assert follower.list()["problems"] == []


def test_the_details_of_a_run_have_its_version_and_state(tmp_path: Path) -> None:
    small(tmp_path, "one")
    follower, _ = followed(tmp_path)
    follower.look()
    found = follower.detail(0)
    assert found is not None
    assert (found["version"], found["state"]) == (1, "ended")
    assert found["power"]
    assert follower.detail(1) is None


@pytest.mark.skipif(os.name != "posix", reason="links of POSIX")
def test_links_to_other_folders_are_not_followed(tmp_path: Path) -> None:
    small(tmp_path / "elsewhere", "secret")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "elsewhere")
    follower, _ = followed(tmp_path / "runs")
    follower.look()
    assert follower.list()["runs"] == []

"""A run that goes on after it was broken off: what was measured before counts, the time in between does not."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import anyio
import pytest

from aiocarbon import Budget, ConfigError, Tracker, sync
from aiocarbon._core.former import Former, continued
from aiocarbon._core.report import RunReport
from aiocarbon.journal import load
from aiocarbon.journal.alive import is_alive
from aiocarbon.journal.former import former_of
from aiocarbon.journal.read import gather
from aiocarbon.journal.view import View

KNOWN = {"meters": "simulated:300", "location": "DK", "intensity": 100.0, "pue": 1.0}


def start(folder: Path | None, count: int, *, breaks_off: bool = False, **settings: object) -> RunReport:
    """One start of a run that does some epochs with a span each, and breaks off inside the next where it shall."""
    tracker = sync.Tracker(**(KNOWN | {"journal": folder} | settings))  # type: ignore[arg-type]
    try:
        with tracker:
            for _ in range(count):
                with tracker.epoch(), tracker.span("work"):
                    time.sleep(0.02)
            if breaks_off:
                with tracker.epoch():
                    raise InterruptedError
    except InterruptedError:
        pass
    return tracker.report()


def same(live: RunReport, read: RunReport) -> None:
    """What a tracker says of the whole run is what its journals say."""
    for field in ("it_energy_kwh", "energy_kwh", "co2eq_g", "duration_s"):
        assert getattr(live, field) == pytest.approx(getattr(read, field), rel=1e-3), field
    # A tracker adds the errors at the edges of its tries, journals square them: it never says less.
    assert read.it_energy_kwh_high <= live.it_energy_kwh_high * (1.0 + 1e-6) < read.it_energy_kwh_high * 1.1
    assert [epoch.index for epoch in live.epochs] == [epoch.index for epoch in read.epochs]
    assert live.epochs_total == read.epochs_total
    assert live.paused_s == pytest.approx(read.paused_s, abs=0.05)
    assert len(live.attempts) == len(read.attempts)
    assert sum(a.it_energy_kwh for a in read.attempts) == pytest.approx(read.it_energy_kwh)
    assert [(span.name, span.count) for span in live.spans] == [(span.name, span.count) for span in read.spans]


@pytest.mark.parametrize("how", ["id", "folder", "true", "environment"])
def test_energy_epochs_spans_and_prediction_go_on(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = start(tmp_path, 3, breaks_off=True, run_id="job")
    said: dict[str, object] = {
        "id": {"resume": "job"},
        "folder": {"resume": tmp_path / "job", "journal": None},
        "true": {"resume": True, "run_id": "job"},
        "environment": {},
    }[how]  # type: ignore[assignment]
    if how == "environment":
        monkeypatch.setenv("AIOCARBON_RESUME", str(tmp_path / "job"))  # the environment is what is tested
    second = start(tmp_path, 2, **{"epochs": 10, **said})  # type: ignore[arg-type]
    assert second.run_id == "job"
    assert second.it_energy_kwh > first.it_energy_kwh
    assert second.started_at == pytest.approx(first.started_at, abs=timedelta(milliseconds=1))
    assert second.spans[0].count == 5
    assert second.prediction is not None
    assert (second.prediction.epochs, second.prediction.epochs_seen) == (10, 5)
    assert second.prediction.energy_kwh is not None
    assert second.prediction.energy_kwh > sum(epoch.energy_kwh for epoch in second.epochs)
    assert [attempt.ended_well for attempt in second.attempts] == [False, True]
    (read,) = load(tmp_path).runs
    same(second, read)


def test_the_time_in_between_is_a_pause_and_no_energy(tmp_path: Path) -> None:
    start(tmp_path, 1, run_id="job")
    time.sleep(0.3)  # the pause is what is measured
    again = start(tmp_path, 1, resume="job")
    assert again.paused_s >= 0.25
    assert again.it_energy_kwh * 3.6e6 == pytest.approx(300.0 * again.duration_s, rel=0.01)
    whole_s = (again.ended_at - again.started_at).total_seconds()
    assert whole_s == pytest.approx(again.duration_s + again.paused_s, abs=1e-4)
    (read,) = load(tmp_path).runs
    same(again, read)


def test_what_one_try_counted_and_the_other_only_showed_stay_two(tmp_path: Path) -> None:
    """Their meters may have found other devices, which decides what is only another view of them."""
    first, second = start(tmp_path, 1), start(tmp_path, 1)
    shown = replace(first, devices=tuple(replace(device, counted=False) for device in first.devices))
    whole = continued(Former(run=shown, is_open=False), second)
    counted = [device.it_energy_kwh for device in whole.devices if device.counted]
    assert sum(counted) == pytest.approx(second.it_energy_kwh)
    assert len(whole.devices) == 2 * len(second.devices)


def test_epochs_of_a_child_go_on_behind_those_of_the_try_before(tmp_path: Path) -> None:
    for total in (2, 4):
        tracker = sync.Tracker(**KNOWN, journal=tmp_path, run_id="job", resume=True)  # type: ignore[arg-type]
        with tracker:
            child = tracker.child("actor")
            for _ in range(2):
                with child.epoch(), child.span("work"):
                    time.sleep(0.02)
        (told,) = tracker.report().children
        assert told.epochs_total == total
        assert [epoch.index for epoch in told.epochs] == list(range(total))


def test_a_budget_is_of_all_tries_together(tmp_path: Path) -> None:
    first = start(tmp_path, 3, run_id="job")
    limit = Budget(energy_kwh=first.energy_kwh * 1.0001, action="warn")
    again = start(tmp_path, 1, resume="job", budget=limit)
    assert any("budget" in text and "used up" in text for text in again.warnings)


def test_where_there_is_nothing_yet_the_run_begins_and_says_so(tmp_path: Path) -> None:
    report = start(tmp_path, 1, resume="job")
    assert report.run_id == "job"
    assert report.attempts == ()
    assert any("nothing yet to go on with" in text for text in report.warnings)
    assert (tmp_path / "job").is_dir()


def test_a_third_start_goes_on_with_both(tmp_path: Path) -> None:
    for _ in range(3):
        report = start(tmp_path, 1, resume="job")
    assert [epoch.index for epoch in report.epochs] == [0, 1, 2]
    assert len(report.attempts) == 3
    (read,) = load(tmp_path).runs
    same(report, read)


def marked(folder: Path, count: int, *, breaks_off: bool = False, **settings: object) -> RunReport:
    """One start that marks the ends of some epochs, and breaks off on its way to the next where it shall."""
    tracker = Tracker(**(KNOWN | {"journal": folder} | settings))  # type: ignore[arg-type]

    async def main() -> None:
        async with tracker:
            for _ in range(count):
                await anyio.sleep(0.02)
                await tracker.epoch()
            if breaks_off:
                await anyio.sleep(0.2)
                raise InterruptedError

    with contextlib.suppress(InterruptedError):
        anyio.run(main)
    return tracker.report()


def test_what_tries_left_unfinished_is_rework_once_their_next_epoch_is_done(tmp_path: Path) -> None:
    def both() -> tuple[RunReport, RunReport]:
        (read,) = load(tmp_path).runs
        return tracked, read

    first = marked(tmp_path, 2, breaks_off=True, run_id="job")
    assert first.rework is None
    unfinished_kwh = first.outside.it_energy_kwh
    tracked = marked(tmp_path, 0, breaks_off=True, resume="job")  # comes no further
    own, read = both()
    assert own.rework is read.rework is None
    assert own.outside.it_energy_kwh == pytest.approx(read.outside.it_energy_kwh, rel=1e-3)
    assert own.outside.it_energy_kwh > 1.8 * unfinished_kwh
    for tries in (3, 4):
        tracked = marked(tmp_path, 1, breaks_off=True, resume="job")
        own, read = both()
        assert len(own.attempts) == tries
        assert own.rework is not None
        assert read.rework is not None
        for mine, its in ((own.rework, read.rework), (own.outside, read.outside)):
            assert mine.it_energy_kwh == pytest.approx(its.it_energy_kwh, rel=1e-3)
            assert mine.duration_s == pytest.approx(its.duration_s, rel=1e-3)
            assert mine.it_energy_kwh_low <= mine.it_energy_kwh <= mine.it_energy_kwh_high
            assert 0.0 <= mine.coverage <= 1.0
        assert own.rework.it_energy_kwh >= 0.99 * unfinished_kwh
        parts = (*own.epochs, own.outside, own.rework)
        assert sum(part.it_energy_kwh for part in parts) == pytest.approx(own.it_energy_kwh)


def test_what_was_left_unfinished_of_an_epoch_that_is_passed_over_stays_outside(tmp_path: Path) -> None:
    first = marked(tmp_path, 2, breaks_off=True, run_id="job")
    own = marked(tmp_path, 1, run_id="job", resume=7)
    assert own.rework is None
    assert own.outside.it_energy_kwh >= first.outside.it_energy_kwh


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe" * 1000, b'{"schema":"aiocarbon.journal/9"}\n', b"hello\n"])
def test_what_cannot_be_read_of_earlier_tries_holds_nothing_up(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "x-1-0.jsonl").write_bytes(content)
    report = start(tmp_path, 1, resume="job")
    assert [epoch.index for epoch in report.epochs] == [0]
    assert any("x-1-0.jsonl" in text for text in report.warnings)


def test_a_folder_of_several_runs_is_none(tmp_path: Path) -> None:
    start(tmp_path, 1, run_id="a")
    start(tmp_path, 1, run_id="b")
    with pytest.raises(ConfigError, match="holds several"), sync.Tracker(resume=tmp_path, **KNOWN):  # type: ignore[arg-type]
        pass
    with pytest.raises(ConfigError, match="folder of a run"), sync.Tracker(resume=tmp_path / "no word", **KNOWN):  # type: ignore[arg-type]
        pass


@pytest.mark.anyio
async def test_the_asynchronous_twin_goes_on_likewise(tmp_path: Path) -> None:
    start(tmp_path, 2, run_id="job")
    async with Tracker(**KNOWN, journal=tmp_path, resume="job") as tracker:  # type: ignore[arg-type]
        assert tracker.run_id == "job"
        epoch = await tracker.epoch()
    assert epoch.index == 2
    (read,) = load(tmp_path).runs
    same(tracker.report(), read)


SCRIPT = """
import sys, time
from aiocarbon import sync
with sync.Tracker(meters="simulated:300", intensity=100.0, location="DK", pue=1.0, journal=sys.argv[1], resume="job",
                  interval_s=0.05) as tracker:
    print("begun", flush=True)
    while True:
        with tracker.epoch():
            time.sleep(0.05)
        print(time.time(), flush=True)
"""


def child(folder: Path) -> subprocess.Popen[str]:
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", SCRIPT, str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def read_lines(process: subprocess.Popen[str], count: int, *, after_s: float = 0.0) -> None:
    """Wait for so many epochs of a child that ended after an instant."""
    assert process.stdout is not None
    ended = (float(line) for line in process.stdout)
    deque(islice((at_s for at_s in ended if at_s > after_s), count), maxlen=0)


def test_killed_and_resumed_is_one_report_of_what_the_device_used(tmp_path: Path) -> None:
    """The truth is known: the device draws 300 W, and the run's own clock says how long it ran."""
    for _ in range(3):
        with child(tmp_path) as process:
            read_lines(process, 6)
            process.send_signal(signal.SIGKILL)
    broken = load(tmp_path).runs[0]
    assert not broken.ended_well
    assert any("did not end by" in text and "last seen" in text for text in broken.warnings)
    last = start(tmp_path, 2, resume="job")
    (read,) = load(tmp_path).runs
    same(last, read)
    assert read.ended_well
    assert len(read.attempts) == 4
    assert not any("at one time" in text for text in read.warnings)
    assert [attempt.is_open for attempt in read.attempts] == [True, True, True, False]
    # Where a kill came late behind the newest reading, none vouches for the milliseconds between.
    assert read.it_energy_kwh * 3.6e6 == pytest.approx(300.0 * read.duration_s * read.coverage, rel=0.005)
    assert read.coverage > 0.9
    indices = [epoch.index for epoch in read.epochs]
    assert indices == list(range(len(indices)))


def test_two_that_go_on_with_one_run_at_once_are_told_apart_and_nothing_counts_twice(tmp_path: Path) -> None:
    start(tmp_path, 1, run_id="job")
    with child(tmp_path) as one, child(tmp_path) as two:
        read_lines(one, 5)
        read_lines(two, 5)
        beside = start(tmp_path, 1, resume="job")
        for process in (one, two):
            read_lines(process, 5, after_s=time.time())  # what it wrote is all that is known of when it was killed
            process.send_signal(signal.SIGKILL)
    assert sum("at the same time" in text for text in beside.warnings) == 2
    assert beside.paused_s < 30.0
    loaded = load(tmp_path)
    (read,) = loaded.runs
    assert len(list((tmp_path / "job").glob("*.jsonl"))) == 4
    # Where a kill came late behind the newest reading, none vouches for the milliseconds between.
    assert read.it_energy_kwh * 3.6e6 == pytest.approx(300.0 * read.duration_s * read.coverage, rel=0.005)
    assert read.coverage > 0.9
    assert loaded.total.it_energy_kwh == pytest.approx(read.it_energy_kwh)
    assert any("3 processes went on with this run at one time" in text for text in read.warnings)


def test_what_an_earlier_try_of_another_rank_measured_is_its_own(tmp_path: Path) -> None:
    start(tmp_path, 2, run_id="job")
    (file,) = (tmp_path / "job").glob("*.jsonl")
    first, *rest = file.read_text().splitlines()
    file.write_text("\n".join([json.dumps(json.loads(first) | {"rank": 1, "world": 2}), *rest, ""]))
    assert former_of(tmp_path / "job", "job", 0).former is None
    assert former_of(tmp_path / "job", "job", 1).former is not None


def test_of_a_large_cluster_a_node_reads_its_own_journals_and_some_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiocarbon.journal.former.MOST_FILES", 2)  # thousands of journals would be as many runs
    monkeypatch.setattr("aiocarbon.journal.former.FILES_BESIDE", 1)
    for node in ("a", "b", "c", "here"):
        start(tmp_path, 2 if node == "a" else 1, run_id="job", node=node)
    found = former_of(tmp_path / "job", "job", host="here")
    assert found.former is not None
    assert found.former.run.host == "a, here"
    assert found.epochs_done == 2


def test_what_cannot_be_added_is_told_and_costs_nothing_else(tmp_path: Path) -> None:
    report = start(tmp_path, 1, run_id="job")
    (process,) = gather([tmp_path], [])
    process.facts = replace(process.facts, former=Former(run=None, is_open=False))  # type: ignore[arg-type]
    read = View(process).report()
    assert read.it_energy_kwh == pytest.approx(report.it_energy_kwh)
    assert "what earlier tries measured cannot be added" in read.warnings[0]


def test_who_is_alive(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    now = datetime.now(UTC).timestamp()

    def alive(
        pid: int = 1, here: str = "c", *, began_s: float = now, now_s: float = now, is_before: bool = False
    ) -> bool:
        return is_alive(file, boot="b", pid=pid, began_s=began_s, boot_id=here, is_before=is_before, now_s=now_s)

    assert not alive()
    file.with_suffix(".tail").touch()
    assert alive(os.getppid(), "b")
    assert not alive(os.getppid(), "b", began_s=1.0)  # another has that number by now
    assert not alive(os.getpid(), "b")  # that number is ours by now
    ended = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    assert not alive(ended.pid, "b")  # nobody has looked how it ended yet
    ended.wait()
    assert not alive(2**22 + 1, "b")  # beyond the kernel's largest
    assert alive()
    assert not alive(is_before=True)
    assert not alive(now_s=now + 11.0)


def test_a_copy_of_the_folder_goes_on_apart(tmp_path: Path) -> None:
    first = start(tmp_path / "a", 2, run_id="job")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    second = start(None, 1, resume=tmp_path / "b" / "job")
    assert second.it_energy_kwh > first.it_energy_kwh
    loaded = load(tmp_path)  # the first try lies there twice
    (read,) = loaded.runs
    same(second, read)
    assert any("journals of one process: counted once" in problem for problem in loaded.problems)

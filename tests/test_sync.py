"""The blocking tracker, and its verbs from many threads at once."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from aiocarbon import Budget, ConfigError, UsageError, sync
from aiocarbon.meters.simulated import Constant, SimulatedMeter

KNOWN: dict[str, Any] = {"location": "DK", "pue": 1.0}


def watts() -> SimulatedMeter:
    return SimulatedMeter(wave=Constant(250.0), refresh_s=0.001)


def at_once(work: Callable[[], object], threads: int = 4) -> None:
    """Run something in several threads at once; an error of one is raised here."""
    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(work) for _ in range(threads)]:
            future.result()


def test_every_verb_may_be_used_by_many_threads_at_once() -> None:
    with sync.Tracker(meters=[watts()], interval_s=0.02, **KNOWN) as tracker:

        def work() -> None:
            for _ in range(20):
                with tracker.epoch():
                    tracker.step()
                tracker.snapshot()
                assert tracker.report().duration_s >= 0

        at_once(work)
    report = tracker.report()
    assert report.is_final
    assert 20 <= report.epochs_total <= 80
    total = math.fsum(e.it_energy_kwh for e in report.epochs) + report.outside.it_energy_kwh
    assert total == pytest.approx(report.it_energy_kwh, rel=1e-9)


def test_a_run_that_several_threads_end_ends_once() -> None:
    tracker = sync.Tracker(meters=[watts()], **KNOWN)
    tracker.start()
    at_once(tracker.stop)
    tracker.stop()
    with pytest.raises(UsageError, match="once"):
        tracker.start()
    assert tracker.report().is_final


def test_runs_in_several_threads_do_not_meet() -> None:
    def work() -> None:
        with sync.Tracker(meters=[watts()], **KNOWN) as tracker:
            assert list(tracker.epochs(3)) == [0, 1, 2]
        assert tracker.report().epochs_total == 3

    at_once(work)


def test_epochs_left_by_break_and_by_an_error_are_partial() -> None:
    with sync.Tracker(meters=[watts()], **KNOWN) as tracker:
        for i in tracker.epochs():
            if i == 2:
                break
    assert [e.is_partial for e in tracker.report().epochs] == [False, False, True]
    tracker = sync.Tracker(meters=[watts()], **KNOWN)
    with pytest.raises(ZeroDivisionError), tracker, tracker.epoch():
        raise ZeroDivisionError
    assert [e.is_partial for e in tracker.report().epochs] == [True]
    assert not tracker.report().ended_well


def test_epoch_end_without_a_begin_marks_nothing_and_is_told() -> None:
    with sync.Tracker(meters=[watts()], **KNOWN) as tracker:
        assert tracker.epoch_end().coverage == 0.0
        tracker.epoch_start()
        tracker.epoch_start()
        tracker.epoch_end()
    assert tracker.report().epochs_total == 1
    assert len([w for w in tracker.report().warnings if "marks nothing" in w or "its begin stays" in w]) == 2


def test_a_fork_keeps_the_child_quiet_and_the_parent_s_journal_its_own(tmp_path: Path) -> None:
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    code = f"""
import os, sys, warnings
warnings.simplefilter("ignore")
from aiocarbon import sync
tracker = sync.Tracker(meters="simulated:250", location="DK", journal={str(tmp_path)!r})
with tracker:
    with tracker.epoch():
        pid = os.fork()
        if pid == 0:
            with tracker.epoch():
                tracker.step()
            sys.exit(7)  # leaves the parent's blocks, and runs its exit handlers
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
print(tracker.report().epochs_total)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("1\n", "")
    (file,) = tmp_path.rglob("*.jsonl")
    assert file.read_text(encoding="utf-8").count('"k":"end"') == 1


def test_a_forked_child_may_have_a_run_of_its_own() -> None:
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    code = """
import os, warnings
warnings.simplefilter("ignore")
from aiocarbon import sync
with sync.Tracker(meters="simulated:250", location="DK"):
    pid = os.fork()
    if pid == 0:
        with sync.Tracker(meters="simulated:250", location="DK") as own:
            own.snapshot()
        os._exit(0 if own.report().is_final and own.report().coverage > 0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_energy_of_blocking_work_is_measured_while_it_blocks() -> None:
    with sync.Tracker(meters=[watts()], interval_s=0.02, **KNOWN) as tracker:
        with tracker.epoch() as epoch:
            until = time.monotonic() + 0.1
            while time.monotonic() < until:
                pass
    assert epoch.report is not None
    last = tracker.report().epochs[0]
    assert last.it_energy_kwh * 3.6e6 == pytest.approx(250 * last.duration_s, rel=0.05)


# -- live, from a thread of its own -----------------------------------------------------------------------------


def test_a_stream_tells_live_reports_and_ends_with_the_final_one() -> None:
    with ThreadPoolExecutor(1) as pool, sync.Tracker(meters=[watts()], **KNOWN) as tracker:
        stream = tracker.stream(0.02)
        first, second = next(stream), next(stream)
        assert first.duration_s < second.duration_s
        rest = pool.submit(list, stream)
        tracker.stop()
        last = rest.result(30)[-1]
    assert not second.is_final
    assert last.is_final


def test_a_stream_that_waits_for_a_minute_ends_with_the_run() -> None:
    with ThreadPoolExecutor(1) as pool:
        with sync.Tracker(meters=[watts()], **KNOWN) as tracker:
            stream = tracker.stream(60.0)
            next(stream)
            rest = pool.submit(next, stream)
        assert rest.result(30).is_final


def test_an_interval_that_is_none_is_refused() -> None:
    with sync.Tracker(meters=[watts()], **KNOWN) as tracker, pytest.raises(ConfigError, match="interval_s"):
        next(tracker.stream(0.0))


def test_a_budget_that_is_used_up_is_told_to_a_thread_that_waits() -> None:
    limit = Budget(energy_kwh=1e-9, action="warn")
    with (
        ThreadPoolExecutor(1) as pool,
        sync.Tracker(meters=[watts()], budget=limit, interval_s=0.02, **KNOWN) as tracker,
    ):
        assert pool.submit(tracker.exceeded.wait).result(30)
        assert tracker.exceeded.is_set()


def test_a_budget_that_holds_is_not_exceeded() -> None:
    with sync.Tracker(meters=[watts()], budget=Budget(energy_kwh=1e9), **KNOWN) as tracker:
        assert not tracker.exceeded.wait(0.01)

"""Sinks of every kind of bad will: they cost figures, which is told, and never the training."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aiocarbon import ConfigError, Tracker, UsageError, sync
from aiocarbon.integrations._sink import Row, Sink
from aiocarbon.meters.simulated import Constant, SimulatedMeter

KNOWN: dict[str, Any] = {"location": "DK", "pue": 1.0, "intensity": 100.0, "interval_s": 0.02}
SOON_S = 0.02


def tracker(**settings: Any) -> sync.Tracker:
    meter = SimulatedMeter(wave=Constant(100.0), device_id="simulated-0", refresh_s=0.001)
    return sync.Tracker(meters=[meter], **KNOWN, **settings)


class Told(Sink):
    """A sink that keeps rows, and does before each what the test says."""

    name = "Told"

    def __init__(self, of: Any, before: Callable[[Row], object] = lambda _: None, **options: Any) -> None:
        wanted = {"every_s": SOON_S, "devices": False, "spans": False, "close_s": 5.0, **options}
        super().__init__(of, **wanted)
        self.before = before
        self.rows: list[Row] = []
        self.flushed = 0
        self.changed = threading.Condition()

    def _send(self, row: Row) -> None:
        self.before(row)
        with self.changed:
            self.rows.append(row)
            self.changed.notify_all()

    def _flush(self) -> None:
        self.flushed += 1

    def wait(self, what: Callable[[], object]) -> None:
        with self.changed:
            assert self.changed.wait_for(what, 30)

    def epochs(self) -> list[int]:
        return [int(row.figures["carbon/epoch"]) for row in self.rows if "carbon/epoch" in row.figures]


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


# -- bad days --------------------------------------------------------------------------------------------------


def test_a_sink_that_hangs_holds_neither_the_training_nor_the_closing(gate: threading.Event) -> None:
    run = tracker()
    sink = Told(run, lambda _: gate.wait(), close_s=0.05)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with sink, run:
            for _ in run.epochs(3):
                time.sleep(0.03)
    assert run.report().epochs_total == 3
    assert sink.sent == 0
    assert any("did not take the newest figures within 0.05 s" in note for note in run.report().warnings)
    assert any("did not take" in str(warning.message) for warning in shown)


def test_what_hangs_at_last_sends_nothing_behind_the_end(gate: threading.Event) -> None:
    run = tracker()
    sink = Told(run, lambda _: gate.wait(), close_s=0.05)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with sink, run:
            time.sleep(0.1)
    gate.set()
    assert sink._thread is not None
    sink._thread.join(30)
    assert len(sink.rows) <= 1
    assert sink.flushed == 0


def test_where_warnings_are_errors_a_sink_s_is_none(gate: threading.Event) -> None:
    run = tracker()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Told(run, lambda _: gate.wait(), close_s=0.05), run:
            time.sleep(0.05)
    assert any("did not take" in note for note in run.report().warnings)


def test_a_sink_that_refuses_is_told_once_and_asked_again_less_and_less_often() -> None:
    def refuse(_: Row) -> None:
        raise ConnectionError(f"no route to host at {time.monotonic()}")

    run = tracker()
    sink = Told(run, refuse)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with sink, run:
            for _ in run.epochs(4):
                time.sleep(0.05)
    notes = [note for note in run.report().warnings if "refuses figures (ConnectionError)" in note]
    assert len(notes) == 1
    assert 2 <= sink.failed <= 3  # the first one, one at the end, and what a slow machine fits in between
    assert sink.problem.startswith("ConnectionError")


def test_what_was_refused_for_a_while_is_there_in_the_end() -> None:
    left = [2]

    def refuse(_: Row) -> None:
        if left[0]:
            left[0] -= 1
            raise TimeoutError("busy")

    run = tracker(epochs=3)
    sink = Told(run, refuse)
    sink.first_pause_s = 0.001
    with sink, run:
        for _ in run.epochs(3):
            time.sleep(0.03)
        sink.wait(lambda: sink.rows)
    assert sink.epochs() == [0, 1, 2]
    assert sink.failed == 2
    assert not sink.problem


@pytest.mark.parametrize("every_s", [SOON_S, None])
def test_a_row_that_is_refused_for_good_costs_itself_alone(every_s: float | None) -> None:
    def refuse(row: Row) -> None:
        if row.figures.get("bad@1"):
            raise ValueError("no such name")

    run = tracker(epochs=3)
    sink = Told(run, refuse, every_s=every_s)
    sink.first_pause_s = 0.001
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with sink, run:
            for name in ("bad@1", "bad@1", "good", "bad@1", "fine"):
                sink.log({name: 1.0})
            for _ in run.epochs(3):
                time.sleep(0.03)
            sink.wait(lambda: sink.dropped == 3 or sum("fine" in row.figures for row in sink.rows))
    mine = [name for row in sink.rows for name in row.figures if not name.startswith("carbon/")]
    assert mine == ["good", "fine"]
    assert sink.epochs() == ([] if every_s is None else [0, 1, 2])
    assert sink.dropped == 3
    assert any("takes others" in note and "no such name" in note for note in run.report().warnings)
    assert "3 rows were not sent to Told" in run.report().warnings


def test_at_the_end_a_refused_row_holds_no_other_back() -> None:
    def refuse(row: Row) -> None:
        if "bad@1" in row.figures:
            raise ValueError("no such name")

    run = tracker()
    sink = Told(run, refuse, every_s=60.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with sink, run:
            sink.log({"bad@1": 1.0})
            sink.log({"good": 1.0})
    assert [name for row in sink.rows for name in row.figures if not name.startswith("carbon/")] == ["good"]
    assert run.report().energy_kwh in [row.figures.get("carbon/energy_kwh") for row in sink.rows]


def test_an_epoch_stands_at_its_end_however_late_it_is_sent() -> None:
    run = tracker(epochs=2)
    sink = Told(run, every_s=60.0)
    ends = []
    with sink, run:
        for _ in run.epochs(2):
            time.sleep(0.03)
            ends.append(time.time())
        time.sleep(0.2)
    told = [row.at_s for row in sink.rows if "carbon/epoch" in row.figures]
    assert ends[0] <= told[0] <= ends[1] <= told[1] <= ends[1] + 0.19


def test_a_queue_that_is_full_drops_the_oldest_and_counts(gate: threading.Event) -> None:
    run = tracker()
    sink = Told(run, lambda _: gate.wait(), every_s=None, queued=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with sink, run:
            for i in range(10):
                sink.log({"mine": float(i)}, step=i)
            assert sink.dropped >= 6
            gate.set()
    assert [row.step for row in sink.rows][-3:] == [7, 8, 9]
    assert sink.dropped + sink.sent == 10
    assert f"{sink.dropped} rows were not sent to Told" in run.report().warnings


def test_no_instant_comes_twice() -> None:
    run = tracker()
    sink = Told(run)
    with sink, run:
        time.sleep(0.05)
        sink.wait(lambda: sink.rows)
    instants = [row.at_s for row in sink.rows if "carbon/co2eq_g" in row.figures]
    assert len(set(instants)) == len(instants)


def test_a_training_that_breaks_off_still_tells_what_it_used() -> None:
    run = tracker()
    sink = Told(run, every_s=60.0)
    with pytest.raises(ZeroDivisionError), sink, run:
        time.sleep(0.03)
        raise ZeroDivisionError
    assert sink.rows[-1].figures["carbon/energy_kwh"] == run.report().energy_kwh > 0
    assert sink.flushed == 1


def test_closed_twice_is_closed_and_entered_twice_is_misuse() -> None:
    run = tracker()
    sink = Told(run)
    with sink, run:
        pass
    sink.close()
    with pytest.raises(UsageError, match="entered once"):
        sink.start()
    sink.log({"late": 1.0})
    assert sink.dropped == 1
    assert sink.flushed == 1


def test_a_tracker_that_never_began_is_no_row() -> None:
    with Told(tracker()) as sink:
        sink.log({"mine": 1.0})
    assert [row.figures for row in sink.rows] == [{"mine": 1.0}]


@pytest.mark.parametrize("wrong", [0, -1.0, float("inf"), float("nan"), "1", True])
@pytest.mark.parametrize("field", ["every_s", "close_s"])
def test_a_wrong_pace_is_refused_before_the_training(field: str, wrong: Any) -> None:
    with pytest.raises(ConfigError, match=field):
        Told(tracker(), **{field: wrong})


def test_in_a_forked_child_nothing_is_sent_and_nothing_waits() -> None:
    code = """
import os, sys, warnings
from aiocarbon import sync
from aiocarbon.integrations._sink import Sink
class Null(Sink):
    def _send(self, row): pass
run = sync.Tracker(meters="simulated:100", intensity=1.0, location="DK")
sink = Null(run, every_s=0.05, devices=False, spans=False, close_s=60.0)
warnings.simplefilter("ignore")
with sink, run:
    child = os.fork()
    if child == 0:
        sink.log({"a": 1.0})
        sink.close()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
print(sink.dropped, sink.sent > 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=50)
    assert done.stdout.split() == ["0", "True"]


def test_a_sink_that_hangs_does_not_hold_the_exit() -> None:
    code = """
import threading
from aiocarbon import sync
from aiocarbon.integrations._sink import Sink
class Hangs(Sink):
    def _send(self, row): print("hangs", flush=True); threading.Event().wait()
run = sync.Tracker(meters="simulated:100", intensity=1.0, location="DK")
Hangs(run, every_s=0.01, devices=False, spans=False, close_s=60.0).start()
with run:
    import time; time.sleep(0.2)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout, done.stderr) == (0, "hangs\n", "")


# -- what it is for --------------------------------------------------------------------------------------------


def test_each_epoch_comes_once_and_the_last_row_is_the_final_report() -> None:
    run = tracker(epochs=4)
    sink = Told(run)
    with sink, run:
        for _ in run.epochs(4):
            time.sleep(0.04)
    report = run.report()
    assert sink.epochs() == [0, 1, 2, 3]
    for row in sink.rows:
        if "carbon/epoch" in row.figures:
            epoch = report.epochs[int(row.figures["carbon/epoch"])]
            assert row.figures["carbon/epoch_energy_kwh"] == epoch.energy_kwh
            assert row.step == epoch.index
            assert not row.figures.keys() & report.metrics().keys()
    assert sink.rows[-1].figures == report.metrics()
    assert (sink.sent, sink.dropped, sink.failed) == (len(sink.rows), 0, 0)
    assert not [note for note in report.warnings if "Told" in note]


def test_closed_before_the_run_it_has_the_figures_of_that_instant() -> None:
    run = tracker()
    with run:
        with Told(run, every_s=60.0) as sink:
            time.sleep(0.05)
        assert sink.rows[-1].figures["carbon/duration_s"] >= 0.05


def test_it_takes_no_time_of_a_loop() -> None:
    async def train() -> None:
        meter = SimulatedMeter(wave=Constant(100.0), device_id="simulated-0", refresh_s=0.001)
        run = Tracker(meters=[meter], **KNOWN)
        gate = threading.Event()
        sink = Told(run, lambda _: gate.wait())
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while not gate.is_set():
                beats += 1
                if sink._is_closing and beats > 100:
                    gate.set()
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            group.create_task(beat())
            async with sink, run:
                await asyncio.sleep(0.05)
        assert sink.rows[-1].figures == run.report().metrics()

    asyncio.run(train())


def test_one_s_own_reports_and_steps_are_sent_as_they_are() -> None:
    run = tracker()
    with Told(run, every_s=None, spans=True, devices=True) as sink, run:
        with run.span("fit"), run.epoch() as epoch:
            time.sleep(0.02)
        assert epoch.report is not None
        sink.log(epoch.report, step=77)
        sink.log(run.snapshot())
        sink.log({"loss": 0.5, "bad": float("nan")})
        sink.wait(lambda: len(sink.rows) == 3)
    mine, live, loss = sink.rows
    assert mine.step == 77
    assert "carbon/device/simulated-0/epoch_power_w" in mine.figures
    assert {"carbon/span/fit/co2eq_g", "carbon/device/simulated-0/power_w"} <= live.figures.keys()
    assert loss.figures == {"loss": 0.5}


def test_two_sinks_and_two_trackers_do_not_meet() -> None:
    one, two = tracker(name="one"), tracker(name="two")
    with Told(one) as a, Told(two) as b, one, two:
        list(one.epochs(1))
        time.sleep(0.05)
    assert a.epochs() == [0]
    assert b.epochs() == []

"""Runs under the async and the blocking tracker, with meters whose joules are known; the bad days first."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiocarbon import Budget, BudgetExceededError, EngineError, MeterLostError, Tracker, UsageError, sync, track
from aiocarbon.errors import MeterUnavailableError, ReadError
from aiocarbon.meters import Device, DeviceKind, Quantity
from aiocarbon.meters.simulated import Constant, SimulatedMeter
from aiocarbon.testing import ScriptedMeter
from tests.deadly import kill_engine

KNOWN = {"location": "DK", "pue": 1.0}
J_PER_KWH = 3.6e6


def watts(power_w: float = 250.0, ident: str = "simulated-0", **fields: Any) -> SimulatedMeter:
    return SimulatedMeter(wave=Constant(power_w), device_id=ident, refresh_s=0.001, **fields)


def growing(step_uj: int = 1_000_000) -> Iterator[int]:
    total = 0
    while True:
        yield total
        total += step_uj


# -- the parts add up ------------------------------------------------------------------------------------------


def test_awaited_epochs_and_outside_add_up_to_the_run() -> None:
    async def run() -> None:
        async with Tracker(epochs=4, meters=[watts()], **KNOWN) as tracker:
            live = []
            for _ in range(4):
                await asyncio.sleep(0.05)
                tracker.step(3)
                live.append(await tracker.epoch())
            await asyncio.sleep(0.05)
            assert not tracker.report().is_final
        report = tracker.report()
        assert report.is_final
        assert report.ended_well
        assert [e.index for e in live] == [e.index for e in report.epochs] == [0, 1, 2, 3]
        assert all(e.is_final and not e.is_partial and e.steps == 3 for e in report.epochs)
        for field in ("it_energy_kwh", "energy_kwh", "co2eq_g", "duration_s"):
            parts = math.fsum(getattr(e, field) for e in report.epochs) + getattr(report.outside, field)
            assert parts == pytest.approx(getattr(report, field), rel=1e-9)
        assert report.outside.duration_s >= 0.05
        assert report.it_energy_kwh * J_PER_KWH == pytest.approx(250 * report.duration_s, rel=0.02)
        assert report.coverage == pytest.approx(1.0)
        assert report.it_energy_kwh_low <= report.it_energy_kwh <= report.it_energy_kwh_high

    asyncio.run(run())


def test_parts_add_up_where_the_run_ends_right_behind_a_mark() -> None:
    # The load model's value is 5 ms old on average: the mark is extrapolated, and the end comes before a reading.
    async def run() -> Any:
        async with Tracker(meters=["model"], **KNOWN) as tracker:
            for busy_s in (0.03, 0.0, 0.03):
                until = time.monotonic() + busy_s
                while time.monotonic() < until:
                    pass
                await tracker.epoch()
        return tracker.report()

    for _ in range(3):
        report = asyncio.run(run())
        parts = math.fsum(e.it_energy_kwh for e in report.epochs) + report.outside.it_energy_kwh
        assert parts == pytest.approx(report.it_energy_kwh, rel=1e-9, abs=1e-15)


def test_entered_epochs_bound_exactly_and_what_lies_between_is_outside() -> None:
    async def run() -> None:
        async with Tracker(meters=[watts()], **KNOWN) as tracker:
            for _ in range(2):
                async with tracker.epoch() as epoch:
                    await asyncio.sleep(0.05)
                assert epoch.report is not None
                assert epoch.report.duration_s == pytest.approx(0.05, abs=0.045)
                await asyncio.sleep(0.05)
            with pytest.raises(ValueError, match="body"):
                async with tracker.epoch():
                    raise ValueError("body")
        report = tracker.report()
        assert [e.is_partial for e in report.epochs] == [False, False, True]
        assert report.outside.duration_s >= 0.1
        total = math.fsum(e.it_energy_kwh for e in report.epochs) + report.outside.it_energy_kwh
        assert total == pytest.approx(report.it_energy_kwh, rel=1e-9)

    asyncio.run(run())


def test_iterated_epochs_mark_themselves_and_break_leaves_the_last_partial() -> None:
    async def run() -> list[bool]:
        async with Tracker(meters=[watts()], **KNOWN) as tracker:
            async for i in tracker.epochs(5):
                await asyncio.sleep(0.01)
                if i == 2:
                    break
        return [e.is_partial for e in tracker.report().epochs]

    assert asyncio.run(run()) == [False, False, True]
    with sync.Tracker(meters=[watts()], **KNOWN) as tracker:
        assert list(tracker.epochs(3)) == [0, 1, 2]
    assert [e.is_partial for e in tracker.report().epochs] == [False, False, False]


def test_mixing_styles_is_a_warning_and_nothing_else() -> None:
    async def run() -> Any:
        async with Tracker(meters=[watts()], **KNOWN) as tracker:
            async with tracker.epoch():
                await tracker.epoch()
            await tracker.epoch()
        return tracker.report()

    report = asyncio.run(run())
    assert report.epochs_total == 1
    assert len([w for w in report.warnings if "epoch" in w]) == 2


def test_an_epoch_neither_awaited_nor_entered_warns() -> None:
    with sync.Tracker(meters=[watts()], **KNOWN) as tracker, pytest.warns(RuntimeWarning, match="marked nothing"):
        tracker.epoch()


def test_blocking_epochs_by_start_and_end() -> None:
    with sync.Tracker(meters=[watts()], **KNOWN) as tracker:
        tracker.epoch_start()
        time.sleep(0.02)  # the work that is measured
        report = tracker.epoch_end()
        assert report.duration_s >= 0.02
        assert tracker.snapshot().duration_s >= report.duration_s
    assert tracker.report().epochs_total == 1


def test_verbs_out_of_their_time() -> None:
    async def run() -> None:
        tracker = Tracker(meters=[watts()], **KNOWN)
        with pytest.raises(UsageError, match="before the tracker was entered"):
            await tracker.epoch()
        with pytest.raises(UsageError):
            tracker.report()
        async with tracker:
            await tracker.epoch()
        before = tracker.report()
        late = await tracker.epoch()
        assert late.index == 0
        assert tracker.report().it_energy_kwh == before.it_energy_kwh
        await tracker.aclose()
        with pytest.raises(UsageError, match="entered once"):
            await tracker.start()

    asyncio.run(run())


def test_a_stream_gives_live_reports_until_the_end() -> None:
    async def run() -> None:
        async with Tracker(meters=[watts()], **KNOWN) as tracker:
            seen = []
            async for report in tracker.stream(0.02):
                seen.append(report.duration_s)
                if len(seen) == 3:
                    break
        assert seen == sorted(seen)
        assert [r.is_final async for r in tracker.stream(0.02)] == [True]

    asyncio.run(run())


# -- what leaves the block -------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_an_error_of_the_body_comes_out_unchanged_after_the_final_report(error: type[BaseException]) -> None:
    ours = error("mine")
    tracker = sync.Tracker(meters=[watts()], **KNOWN)
    with pytest.raises(error) as seen, tracker:
        raise ours
    assert seen.value is ours
    assert tracker.report().is_final
    assert not tracker.report().ended_well


def test_a_cancelled_task_still_takes_the_last_reading() -> None:
    async def run() -> None:
        tracker = Tracker(meters=[watts()], **KNOWN)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), tracker:
                await asyncio.sleep(60)
        report = tracker.report()
        assert report.is_final
        assert report.it_energy_kwh * J_PER_KWH == pytest.approx(250 * report.duration_s, rel=0.05)

    asyncio.run(run())


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
def test_the_same_code_runs_in_every_loop(loop: str) -> None:
    code = f"""
import anyio
from aiocarbon import Tracker
async def main(sleep):
    async with Tracker(epochs=2, meters="simulated:250", location="DK") as tracker:
        for _ in range(2):
            await sleep(0.05)
            await tracker.epoch()
    report = tracker.report()
    assert report.is_final and report.epochs_total == 2, report
    print(round(report.it_energy_kwh * 3.6e6 / report.duration_s, -1))
if {loop!r} == "trio":
    import trio
    trio.run(main, trio.sleep)
else:
    import asyncio
    run = asyncio.run
    if {loop!r} == "uvloop":
        import uvloop
        run = uvloop.run
    run(main(asyncio.sleep))
"""
    if loop != "asyncio":
        pytest.importorskip(loop)
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("250.0", "")


def test_a_jupyter_kernel_runs_both_trackers() -> None:
    manager = pytest.importorskip("jupyter_client.manager", reason="the extra test brings jupyter-client")
    pytest.importorskip("ipykernel")
    kernel, client = manager.start_new_kernel(kernel_name="python3")
    try:
        code = """
from aiocarbon import Tracker, sync
async with Tracker(meters="simulated:250", location="DK") as tracker:
    epoch = await tracker.epoch()
with sync.Tracker(meters="simulated:250", location="DK") as plain:
    with plain.epoch():
        pass
print(tracker.report().is_final, plain.report().is_final, plain.report().epochs_total)
"""
        printed: list[str] = []
        reply = client.execute_interactive(
            code, timeout=50, output_hook=lambda m: printed.append(m["content"].get("text", str(m["content"])))
        )
        assert reply["content"]["status"] == "ok", reply["content"]
        assert any("True True 1" in text for text in printed), printed
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)


# -- meters that fail ------------------------------------------------------------------------------------------


def test_a_read_that_hangs_stops_neither_the_others_nor_the_end() -> None:
    release = threading.Event()
    answers = growing()

    def answer() -> int:
        value = next(answers)
        if value >= 3_000_000:
            release.wait(30)
        return value

    hanging = ScriptedMeter(energy_uj=[answer])
    try:
        with sync.Tracker(meters=[hanging, watts()], interval_s=0.02, **KNOWN) as tracker:
            while not any("did not answer" in w for w in tracker.report().warnings):
                tracker.snapshot()
        report = tracker.report()
    finally:
        release.set()
    by_id = {d.id: d for d in report.devices}
    assert by_id["simulated-0"].coverage == pytest.approx(1.0, abs=0.02)
    assert by_id["simulated-0"].power_w == pytest.approx(250, rel=0.05)
    assert by_id["scripted-0"].coverage < 0.9
    assert report.coverage < 0.95


def test_a_lost_device_is_told_and_the_others_go_on() -> None:
    lost = ScriptedMeter(energy_uj=[0, 1_000_000, 2_000_000, MeterLostError("fell off the bus")])
    with sync.Tracker(meters=[lost, watts()], interval_s=0.02, **KNOWN) as tracker:
        while not any("fell off the bus" in w for w in tracker.report().warnings):
            tracker.snapshot()
        for _ in range(30):
            tracker.snapshot()
    report = tracker.report()
    assert report.is_final
    by_id = {d.id: d for d in report.devices}
    assert by_id["simulated-0"].coverage == pytest.approx(1.0, abs=0.02)
    assert any("vouch" in w for w in report.warnings)
    assert by_id["scripted-0"].it_energy_kwh_high >= by_id["scripted-0"].it_energy_kwh


def test_one_bad_read_is_nothing_and_a_foreign_exception_is_survived() -> None:
    values = iter(range(0, 10**9, 1000))
    script: list[Any] = [lambda: next(values), ReadError("EIO"), lambda: next(values), ZeroDivisionError("plug-in")]
    script += [lambda: next(values)] * 500
    with sync.Tracker(meters=[ScriptedMeter(energy_uj=script)], interval_s=0.02, **KNOWN) as tracker:
        for _ in range(10):
            tracker.snapshot()
    assert not any("scripted" in w for w in tracker.report().warnings)
    assert tracker.report().coverage == pytest.approx(1.0, abs=0.05)


def test_a_meter_that_cannot_be_opened_is_told_and_nothing_is_zero_without_a_word() -> None:
    closed = ScriptedMeter(energy_uj=[0], open_error=MeterUnavailableError("no such thing"))
    with sync.Tracker(meters=[closed], **KNOWN) as tracker:
        pass
    report = tracker.report()
    assert report.devices == ()
    assert report.coverage == 0.0
    assert any("no such thing" in w for w in report.warnings)
    assert any("no device could be read" in w for w in report.warnings)


def test_a_counter_that_begins_anew_is_told() -> None:
    script = [0, 50_000_000, 100_000_000, 1_000_000, 2_000_000, 3_000_000]
    script += [3_000_000 + i * 1000 for i in range(1, 500)]
    with sync.Tracker(meters=[ScriptedMeter(energy_uj=script)], interval_s=0.02, **KNOWN) as tracker:
        while not any("began anew" in w for w in tracker.report().warnings):
            tracker.snapshot()
    assert tracker.report().it_energy_kwh * J_PER_KWH < 110


class Deadly:
    """A meter at whose read the engine ends."""

    name = "deadly"

    def __init__(self) -> None:
        self._inner = ScriptedMeter(energy_uj=[0, 1_000_000, kill_engine])

    def open(self, covered: Any = frozenset()) -> Any:
        return self._inner.open(covered)

    def read(self, device: Device) -> Any:
        return self._inner.read(device)

    def close(self) -> None:
        self._inner.close()


def test_a_dead_engine_is_told_once_and_never_stops_the_training() -> None:
    async def run() -> None:
        async with Tracker(meters=[Deadly()], interval_s=0.02, **KNOWN) as tracker:
            while not any("engine" in w for w in tracker.report().warnings):
                await tracker.epoch()
                await asyncio.sleep(0)
            await asyncio.sleep(0.05)  # longer than a dead counter can vouch for
            last = await tracker.epoch()
        report = tracker.report()
        assert report.is_final
        assert not report.ended_well
        assert last.coverage < 1.0
        assert len([w for w in report.warnings if "engine died" in w]) == 1
        async with Tracker(meters=[watts()], **KNOWN) as again:
            await asyncio.sleep(0.05)
            assert (await again.epoch()).coverage == pytest.approx(1.0)

    asyncio.run(run())


def test_a_strict_run_raises_what_the_engine_died_of() -> None:
    async def run() -> None:
        with pytest.raises(EngineError):
            async with Tracker(meters=[Deadly()], interval_s=0.02, strict=True, **KNOWN) as tracker:
                while True:
                    await tracker.epoch()

    asyncio.run(run())


# -- several at once, threads, forks, exits --------------------------------------------------------------------


def test_two_trackers_share_a_meter_and_each_counts_its_own_time() -> None:
    meter = watts()
    with sync.Tracker(meters=[meter], name="long", **KNOWN) as long:
        with sync.Tracker(meters=[meter], name="short", interval_s=0.05, location="FR", pue=2.0) as short:
            time.sleep(0.1)  # the work that is measured
        time.sleep(0.1)
    for tracker in (long, short):
        report = tracker.report()
        assert report.it_energy_kwh * J_PER_KWH == pytest.approx(250 * report.duration_s, rel=0.05)
    assert short.report().energy_kwh == pytest.approx(2 * short.report().it_energy_kwh)
    assert long.report().duration_s > short.report().duration_s + 0.05


def test_the_engine_s_thread_ends_with_the_last_run() -> None:
    with sync.Tracker(meters=[watts()], **KNOWN):
        engines = [t for t in threading.enumerate() if t.name == "aiocarbon-engine"]
        assert engines
        assert all(t.daemon for t in engines)
    for thread in engines:
        thread.join(10)
    assert not any(t.is_alive() for t in engines)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_inside_an_epoch_leaves_both_alone() -> None:
    code = """
import os, sys, warnings
warnings.simplefilter("ignore")
from aiocarbon import sync
with sync.Tracker(meters="simulated:250", location="DK") as tracker:
    with tracker.epoch() as epoch:
        pid = os.fork()
        if pid == 0:
            with tracker.epoch():
                tracker.step()
            tracker.report()
            tracker.stop()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert tracker.report().is_final and tracker.report().epochs_total == 1
print("ok")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
    assert (done.stdout, done.stderr) == ("ok\n", "")


def test_a_run_that_nobody_ends_writes_its_end_when_the_process_does(tmp_path: Path) -> None:
    code = f"""
from aiocarbon import sync
tracker = sync.Tracker(meters="simulated:250", location="DK", journal={str(tmp_path)!r})
tracker.start()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=50)
    (file,) = tmp_path.rglob("*.jsonl")
    assert '"k":"end"' in file.read_text()


def test_an_interrupted_loop_reports_and_dies_of_the_interrupt() -> None:
    code = """
import asyncio
from aiocarbon import Tracker
async def main():
    tracker = Tracker(meters="simulated:250", location="DK")
    try:
        async with tracker:
            print("ready", flush=True)
            while True:  # Python hears of a signal that comes as it gives the interpreter away only when it wakes again
                await asyncio.sleep(0.05)
    finally:
        print(tracker.report().is_final, flush=True)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        child.send_signal(signal.SIGINT)
        out, error = child.communicate(timeout=50)
    assert out == b"True\n"
    assert b"KeyboardInterrupt" in error


# -- the rest of the surface -----------------------------------------------------------------------------------


def test_device_sync_runs_before_the_mark_and_its_errors_are_told() -> None:
    def wait() -> None:
        time.sleep(0.05)  # queued work of a device

    def broken() -> None:
        raise RuntimeError("no device")

    async def run(how: Any) -> Any:
        async with Tracker(meters=[watts()], device_sync=how, **KNOWN) as tracker:
            await tracker.epoch()
        return tracker.report()

    assert asyncio.run(run(wait)).epochs[0].duration_s >= 0.05
    assert any("no device" in w for w in asyncio.run(run(broken)).warnings)
    assert asyncio.run(run("torch")).epochs_total == 1


def test_a_budget_that_is_used_up_raises_from_the_verbs_and_keeps_the_report() -> None:
    async def run() -> None:
        tracker = Tracker(meters=[watts()], budget=Budget(energy_kwh=1e-9), **KNOWN)
        with pytest.raises(BudgetExceededError, match="energy"):
            async with tracker:
                while True:
                    await asyncio.sleep(0.01)
                    await tracker.epoch()
        assert tracker.report().is_final
        assert tracker.exceeded.is_set()

    asyncio.run(run())
    called: list[Any] = []
    with sync.Tracker(meters=[watts()], budget=Budget(duration_s=1e-6, action=called.append), **KNOWN) as tracker:
        for _ in range(3):
            with tracker.epoch():
                pass
    assert len(called) == 1
    with sync.Tracker(meters=[watts()], budget=Budget(duration_s=1e-6, action="warn"), **KNOWN) as tracker:
        list(tracker.epochs(1))
    assert any("budget" in w for w in tracker.report().warnings)


def test_track_measures_each_kind_of_function() -> None:
    @track(meters=[watts()], **KNOWN)
    def plain() -> int:
        return 1

    @track(meters=[watts()], **KNOWN)
    def items() -> Iterator[int]:
        yield 2

    @track(meters=[watts()], **KNOWN)
    async def later() -> int:
        return 3

    @track(meters=[watts()], **KNOWN)
    async def stream() -> Any:
        yield 4

    async def collect() -> list[int]:
        return [item async for item in stream()]

    assert (plain(), list(items()), asyncio.run(later()), asyncio.run(collect())) == (1, [2], 3, [4])
    for function in (plain, items, later, stream):
        assert function.last_report.is_final
        assert function.last_report.name.endswith(function.__name__)
    with sync.Tracker(meters=[watts()], **KNOWN):
        plain.last_report = None
        assert plain() == 1
        assert plain.last_report is None


def test_uncounted_devices_are_shown_and_not_added() -> None:
    view = watts(1000, "view", counted=False)
    with sync.Tracker(meters=[watts(), view], **KNOWN) as tracker:
        time.sleep(0.05)  # the work that is measured
    report = tracker.report()
    assert report.power_w == pytest.approx(250, rel=0.1)
    assert {d.id: d.counted for d in report.devices} == {"simulated-0": True, "view": False}


def test_a_power_sensor_is_integrated() -> None:
    meter = SimulatedMeter(wave=Constant(100.0), quantity=Quantity.POWER, kind=DeviceKind.GPU, refresh_s=0.02)
    with sync.Tracker(meters=[meter], **KNOWN) as tracker:
        time.sleep(0.3)  # the work that is measured
    report = tracker.report()
    assert report.it_energy_kwh * J_PER_KWH == pytest.approx(100 * report.duration_s, rel=0.02)
    assert report.basis == "power"


def test_no_handler_filter_or_signal_is_touched() -> None:
    filters, handlers = list(warnings.filters), {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    with sync.Tracker(meters=[watts()], **KNOWN):
        assert {s: signal.getsignal(s) for s in handlers} == handlers
    assert list(warnings.filters) == filters

"""Meters that fail in every way a driver or a plug-in can: the training is untouched, and what is missing is told."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from aiocarbon import EngineError, MeterLostError, Tracker, sync
from aiocarbon._core.reading import Basis, Device, DeviceKind, Part, Quantity, Reading
from aiocarbon._engine.hops import Hop
from aiocarbon._engine.track import make_track
from aiocarbon.errors import MeterPermissionError, ReadError
from aiocarbon.meters.base import Inventory
from aiocarbon.meters.simulated import Constant, SimulatedMeter
from aiocarbon.testing import ScriptedMeter
from tests.deadly import kill_engine

QUICK = {"location": "DK", "pue": 1.0, "interval_s": 0.02}
J_PER_KWH = 3.6e6


def watts() -> SimulatedMeter:
    return SimulatedMeter(wave=Constant(250.0), refresh_s=0.001)


def growing(step_uj: int = 1000) -> Iterator[int]:
    total = 0
    while True:
        yield total
        total += step_uj


def until(tracker: sync.Tracker, is_so: Callable[[], object]) -> None:
    """Go on measuring until something is so; pytest's own limit ends a test in which it never is."""
    while not is_so():
        tracker.snapshot()


def told(tracker: sync.Tracker, what: str) -> bool:
    return any(what in warning for warning in tracker.report().warnings)


class Odd(ScriptedMeter):
    """A plug-in whose methods do what a test says; what is not said is a counter that grows."""

    def __init__(self, **methods: Callable[..., Any]) -> None:
        super().__init__(energy_uj=growing())
        for name, method in methods.items():
            setattr(self, name, method)


def broken(*_: object) -> Any:
    raise ZeroDivisionError("plug-in")


# -- plug-ins ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("thrown", [ZeroDivisionError, SystemExit, KeyboardInterrupt, asyncio.CancelledError])
@pytest.mark.parametrize("method", ["open", "read", "check", "close"])
def test_what_a_plug_in_throws_ends_neither_the_run_nor_the_engine(method: str, thrown: type[BaseException]) -> None:
    def broken(*_: object) -> Any:
        raise thrown("plug-in")

    with sync.Tracker(meters=[Odd(**{method: broken}), watts()], **QUICK) as tracker:
        for _ in range(5):
            with tracker.epoch() as epoch:
                time.sleep(0.01)  # the work that is measured
    report = tracker.report()
    assert report.is_final
    assert report.ended_well
    assert epoch.report is not None
    assert next(d for d in report.devices if d.id == "simulated-0").coverage > 0.9
    assert not told(tracker, "engine died")
    if method in {"open", "read"}:
        assert told(tracker, "plug-in")


def test_a_check_that_throws_is_not_asked_again() -> None:
    asked = []

    def check() -> Any:
        asked.append(1)
        raise ZeroDivisionError("plug-in")

    with sync.Tracker(meters=[Odd(check=check)], **QUICK) as tracker:
        until(tracker, lambda: asked)
    assert len(asked) == 1


@pytest.mark.parametrize("answer", [None, 3.5, Inventory(devices=())])
def test_a_meter_that_opens_to_nothing_is_told(answer: object) -> None:
    with sync.Tracker(meters=[Odd(open=lambda covered=None: answer), watts()], **QUICK) as tracker:
        pass
    assert told(tracker, "found no device")
    assert [d.id for d in tracker.report().devices] == ["simulated-0"]


def test_a_sum_that_fits_nowhere_is_told() -> None:
    with sync.Tracker(meters=[ScriptedMeter(energy_uj=[2**63]), watts()], **QUICK) as tracker:
        until(tracker, lambda: told(tracker, "no sensor can"))
    assert tracker.report().ended_well


@pytest.mark.parametrize("value", ["7", None, b"7", [7]])
def test_an_answer_that_is_no_number_is_a_read_that_failed(value: Any) -> None:
    odd = ScriptedMeter(energy_uj=[lambda: value])
    with sync.Tracker(meters=[odd, watts()], **QUICK) as tracker:
        until(tracker, lambda: told(tracker, "no reading"))
    assert tracker.report().ended_well


def test_a_read_that_answers_nothing_at_all_is_told() -> None:
    with sync.Tracker(meters=[Odd(read=lambda device: None), watts()], **QUICK) as tracker:
        until(tracker, lambda: told(tracker, "no reading"))
    assert tracker.report().ended_well


@pytest.mark.parametrize("stamps", [(0.5, 1.5), (None, None), (2**70, 2**70)])
def test_a_read_at_no_instant_is_told_and_costs_no_other_device_its_engine(stamps: tuple[Any, Any]) -> None:
    odd = Odd(read=lambda device: Reading(*stamps, 5))
    with sync.Tracker(meters=[odd, watts()], **QUICK) as tracker:
        until(tracker, lambda: told(tracker, "no reading") or told(tracker, "no sensor can"))
        until(tracker, lambda: tracker.report().it_energy_kwh > 0.0)
    assert tracker.report().ended_well
    assert not told(tracker, "engine died")


def test_a_run_that_wants_other_meters_while_one_is_asked_what_it_found_ends_no_engine() -> None:
    other = sync.Tracker(meters=[ScriptedMeter(energy_uj=growing())], **QUICK)
    began = threading.Event()

    def check() -> Any:
        if not began.is_set():
            other.start()
            began.set()
        return ()

    with sync.Tracker(meters=[Odd(check=check), watts()], **QUICK) as tracker:
        until(tracker, began.is_set)
        until(tracker, lambda: tracker.report().it_energy_kwh > 0.0)
        other.stop()
    assert tracker.report().ended_well
    assert not told(tracker, "engine died")


def test_what_was_read_before_a_device_that_hangs_counts() -> None:
    release, hangs = threading.Event(), threading.Event()

    class Hanging(ScriptedMeter):
        def read(self, device: Device) -> Reading:
            hangs.set()
            release.wait(30)
            return super().read(device)

    meters = [ScriptedMeter(energy_uj=[7]), Hanging(energy_uj=[7])]
    tracks = [make_track(meter.device, meter, "s", 1000) for meter in meters]
    hop = Hop(tracks)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(hop.run)
        hangs.wait(30)
        hop.is_abandoned = True
        release.set()
        done.result(30)
    assert [(track, result.value) for track, result in hop.results] == [(tracks[0], 7)]  # type: ignore[union-attr]


# -- meters that answer late, or fill what others leave ---------------------------------------------------------


def test_a_meter_that_fails_late_is_told() -> None:
    release = threading.Event()

    def late(covered: object = None) -> Inventory:
        release.wait(30)
        raise MeterPermissionError("no permission", remedy="ask for it")

    with sync.Tracker(meters=[Odd(open=late), watts()], **QUICK) as tracker:
        assert not told(tracker, "no permission")
        release.set()
        until(tracker, lambda: told(tracker, "no permission"))


def test_a_meter_that_never_answers_is_told_at_the_end() -> None:
    release = threading.Event()
    odd = Odd(open=lambda covered=None: release.wait(30))
    try:
        with sync.Tracker(meters=[odd, watts()], **QUICK) as tracker:
            pass
    finally:
        release.set()
    assert told(tracker, "had not answered when the run ended")


def cpu(*parts: Part) -> ScriptedMeter:
    device = Device(
        id="cpu-0",
        kind=DeviceKind.CPU,
        name="a CPU",
        quantity=Quantity.ENERGY,
        basis=Basis.COUNTER,
        covers=frozenset(parts),
        refresh_s=0.001,
    )
    return ScriptedMeter(energy_uj=growing(), device=device)


@pytest.mark.parametrize("is_first", [True, False])
def test_a_cpu_that_is_measured_is_not_modelled_beside_in_whatever_order_meters_are_named(is_first: bool) -> None:
    meters: list[Any] = [cpu(Part.CPU, Part.MEMORY), "model"]
    with sync.Tracker(meters=meters if is_first else meters[::-1], **QUICK) as tracker:
        pass
    assert [d.id for d in tracker.report().devices] == ["cpu-0"]


@pytest.mark.parametrize("is_alone_first", [True, False])
def test_a_model_holds_what_the_other_meters_of_its_own_run_leave(is_alone_first: bool) -> None:
    measured = cpu(Part.CPU)
    wanted: list[tuple[list[Any], list[str]]] = [
        (["model"], ["model:cpu"]),
        ([measured, "model"], ["cpu-0", "model:memory"]),
    ]
    first, second = wanted if is_alone_first else wanted[::-1]
    with sync.Tracker(meters=first[0], **QUICK) as outer, sync.Tracker(meters=second[0], **QUICK) as inner:
        pass
    assert [d.id for d in outer.report().devices] == first[1]
    assert [d.id for d in inner.report().devices] == second[1]


def test_a_device_that_comes_back_with_other_values_is_not_read_on() -> None:
    class Returns(ScriptedMeter):
        def open(self, covered: Any = frozenset()) -> Inventory:
            inventory = super().open(covered)
            opened.append(1)
            if len(opened) == 1:
                return inventory
            return Inventory(devices=(replace(self.device, quantity=Quantity.POWER, basis=Basis.POWER),))

    opened: list[int] = []
    script: list[Any] = [1000, 2000, 3000, MeterLostError("fell off the bus"), 350]
    meter = Returns(energy_uj=script)
    with sync.Tracker(meters=[meter, watts()], **QUICK) as tracker:
        until(tracker, lambda: len(opened) >= 2)
        until(tracker, lambda: told(tracker, "fell off the bus"))
    assert meter.reads == 4


# -- values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quantity", ["energy_uj", "power_w"])
@pytest.mark.parametrize("value", [-5, float("nan"), float("inf")])
def test_a_value_that_cannot_be_is_told_and_lowers_the_coverage(quantity: str, value: float) -> None:
    meter = ScriptedMeter(**{quantity: [0, 1000, value]})
    with sync.Tracker(meters=[meter, watts()], **QUICK) as tracker:
        until(tracker, lambda: told(tracker, "no sensor can"))
        time.sleep(0.1)  # longer than the last good value vouches for
    report = tracker.report()
    by_id = {d.id: d for d in report.devices}
    assert by_id["scripted-0"].coverage < 0.9
    assert by_id["simulated-0"].coverage > 0.9
    assert told(tracker, "vouch")
    for field in ("it_energy_kwh", "it_energy_kwh_low", "it_energy_kwh_high", "co2eq_g", "coverage"):
        figure = getattr(report, field)
        assert figure >= 0  # also false for nan


def test_a_counter_that_never_moves_vouches_for_nothing() -> None:
    with sync.Tracker(meters=[ScriptedMeter(energy_uj=[7])], **QUICK) as tracker:
        time.sleep(0.05)  # the work that is measured
    report = tracker.report()
    assert report.coverage < 0.5
    assert told(tracker, "vouch")


# -- devices that come and go -----------------------------------------------------------------------------------


def test_a_lost_device_that_is_found_again_is_read_again_also_behind_a_foreign_exception() -> None:
    reads = 0

    def answer() -> int:
        nonlocal reads
        reads += 1
        if reads == 5:
            raise MeterLostError("fell off the bus")
        if reads == 6:
            raise ZeroDivisionError("not yet")
        return reads * 1000

    with sync.Tracker(meters=[ScriptedMeter(energy_uj=[answer])], **QUICK) as tracker:
        until(tracker, lambda: reads >= 12)
    report = tracker.report()
    assert report.ended_well
    assert told(tracker, "fell off the bus")
    assert report.it_energy_kwh * J_PER_KWH == pytest.approx((reads - 1) * 1e-3, rel=0.3)


def test_a_read_that_hung_is_taken_up_again_once_it_answers() -> None:
    release, values = threading.Event(), growing()
    calls = 0

    def answer() -> int:
        nonlocal calls
        calls += 1
        if calls == 4:
            release.wait(30)
        return next(values)

    with sync.Tracker(meters=[ScriptedMeter(energy_uj=[answer]), watts()], **QUICK) as tracker:
        until(tracker, lambda: told(tracker, "did not answer"))
        assert calls == 4  # one read in flight, however many ticks went by
        release.set()
        until(tracker, lambda: calls >= 10)
    assert tracker.report().ended_well


def test_a_driver_that_hangs_while_it_is_opened_delays_the_entry_but_shortly() -> None:
    release = threading.Event()

    class Slow(ScriptedMeter):
        def open(self, covered: Any = frozenset()) -> Inventory:
            release.wait(30)
            return super().open(covered)

    slow = Slow(energy_uj=growing())
    try:
        with sync.Tracker(meters=[slow, watts()], **QUICK) as tracker:
            assert slow.reads == 0  # entered although it hangs
            release.set()
            until(tracker, lambda: slow.reads > 5)
        by_id = {d.id: d for d in tracker.report().devices}
        assert by_id["simulated-0"].coverage > 0.9
        assert set(by_id) == {"simulated-0", "scripted-0"}
    finally:
        release.set()


def test_a_driver_that_hangs_while_it_is_closed_does_not_hold_the_engine() -> None:
    release = threading.Event()
    try:
        with sync.Tracker(meters=[Odd(close=lambda: release.wait(30))], **QUICK) as tracker:
            engine = next(t for t in threading.enumerate() if t.name == "aiocarbon-engine")
        assert tracker.report().is_final
        engine.join(20)
        assert not engine.is_alive()
    finally:
        release.set()


def test_a_single_eio_is_not_worth_a_word() -> None:
    values = growing()
    script: list[Any] = [lambda: next(values)] * 3 + [ReadError("EIO")] + [lambda: next(values)] * 3
    meter = ScriptedMeter(energy_uj=script)
    with sync.Tracker(meters=[meter], **QUICK) as tracker:
        until(tracker, lambda: meter.reads > 12)
    assert not told(tracker, "EIO")


# -- cancelled on the way in ------------------------------------------------------------------------------------


def test_a_run_cancelled_while_it_is_entered_ends_and_leaves_no_engine_behind() -> None:
    release = threading.Event()

    class Slow(ScriptedMeter):
        def open(self, covered: Any = frozenset()) -> Inventory:
            release.wait(30)
            return super().open(covered)

    async def run() -> None:
        tracker = Tracker(meters=[Slow(energy_uj=growing())], **QUICK)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02), tracker:
                raise AssertionError("must not be entered")

    others = set(threading.enumerate())
    try:
        asyncio.run(run())
        engines = [t for t in threading.enumerate() if t.name == "aiocarbon-engine" and t not in others]
    finally:
        release.set()
    for thread in engines:
        thread.join(20)
    assert not any(t.is_alive() for t in engines)


# -- an engine that cannot begin --------------------------------------------------------------------------------


class Deadly(ScriptedMeter):
    """Kills the engine while it is opened."""

    def open(self, covered: frozenset[Part] = frozenset()) -> Inventory:
        kill_engine()
        return super().open(covered)


def deadly() -> ScriptedMeter:
    return Deadly(energy_uj=[0])


def test_an_engine_that_dies_while_the_run_is_entered_leaves_every_verb_working() -> None:
    async def run() -> Any:
        async with Tracker(meters=[deadly()], **QUICK) as tracker:
            tracker.step()
            await tracker.epoch()
            assert (await tracker.snapshot()).coverage == 0.0
            assert not tracker.report().is_final
        return tracker.report()

    with sync.Tracker(meters=[deadly()], **QUICK) as tracker:
        with tracker.epoch() as epoch:
            tracker.step()
        assert epoch.report is not None
    for report in (asyncio.run(run()), tracker.report()):
        assert report.is_final
        assert not report.ended_well
        assert report.coverage == 0.0
        assert report.location.zone == "DK"
        assert len([w for w in report.warnings if "engine died" in w]) == 1
        assert any("no device could be read" in w for w in report.warnings)


def test_a_strict_run_whose_engine_cannot_begin_raises_on_entering() -> None:
    with pytest.raises(EngineError), sync.Tracker(meters=[deadly()], strict=True, **QUICK):
        raise AssertionError("must not be entered")


def test_a_device_that_is_none_is_told() -> None:
    odd = Odd(open=lambda covered=None: Inventory(devices=("gpu",)))  # type: ignore[arg-type]  # a plug-in's mistake
    with sync.Tracker(meters=[odd, watts()], **QUICK) as tracker:
        pass
    assert told(tracker, "found no device")
    assert tracker.report().ended_well

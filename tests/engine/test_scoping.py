"""Shares inside the engine, on a clock that is moved by hand: marks, lost looks, hanging looks, whole runs."""

from __future__ import annotations

import math
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from aiocarbon._core.identity import alone
from aiocarbon._core.reading import Device, DeviceKind, Finding
from aiocarbon._core.scope import Usage
from aiocarbon._engine.engine import Engine
from aiocarbon._engine.session import Session
from aiocarbon.errors import ConfigError, MeterUnavailableError, ReadError
from aiocarbon.journal.read import load
from aiocarbon.meters.simulated import Constant, SimulatedMeter
from aiocarbon.meters.usage import Holder
from aiocarbon.testing import FakeClock
from tests.engines import closed, running

J_PER_KWH = 3.6e6
Body = Callable[[Engine, Session, FakeClock], Awaitable[None]]


class Users:
    """Says that ours used so much of each second, and all together so much."""

    def __init__(
        self,
        clock: FakeClock,
        *,
        own: float = 0.5,
        total: float = 1.0,
        name: str = "process 1 (7)",
        within: tuple[str, ...] = (),
    ) -> None:
        self.scope = "process"
        self.own, self.total = own, total
        self.name = name
        self.within = within
        self.error: BaseException | None = None
        self.hang: threading.Event | None = None
        self.looks = 0
        self.is_closed = False
        self._clock = clock
        self._at_ns = clock.monotonic_ns()
        self._sums = [0.0, 0.0]
        self.found: list[Finding] = []

    def __call__(self, scope: str, **more: Any) -> Users:
        self.scope = scope
        return self

    def use(self, *, own: float, total: float) -> None:
        """From now on."""
        self._count()
        self.own, self.total = own, total

    def _count(self) -> None:
        now = self._clock.monotonic_ns()
        for n, rate in enumerate((self.own, self.total)):
            self._sums[n] += rate * (now - self._at_ns) / 1e9
        self._at_ns = now

    def open(self) -> Holder:
        if self.error is not None:
            raise self.error
        return Holder(name=self.name, words="ours", within=self.within)

    def read(self, devices: list[Device]) -> dict[str, Usage]:
        self.looks += 1
        if self.hang is not None:
            self.hang.wait()
        if self.error is not None:
            raise self.error
        self._count()
        own, total = self._sums
        return {d.id: Usage(t_ns=self._at_ns, own=own, total=total, capacity=4.0) for d in devices}

    def news(self) -> list[Finding]:
        found, self.found = self.found, []
        return found

    def close(self) -> None:
        self.is_closed = True


def watts(clock: FakeClock, power_w: float = 100.0, **fields: Any) -> SimulatedMeter:
    return SimulatedMeter(wave=Constant(power_w), refresh_s=0.001, clock=clock.monotonic_ns, **fields)


def run(clock: FakeClock, users: Users, body: Body, **arguments: Any) -> None:
    """Run a body inside an engine with one open session, all in this loop."""

    async def main() -> None:
        engine = Engine(clock=clock, usage=users)  # type: ignore[arg-type]  # it looks as the reader does
        async with running(engine):
            given = {"location": "DK", "pue": 1.0, "meters": (watts(clock),), "scope": "process", **arguments}
            session = await engine.open(given, alone("run"))
            await body(engine, session, clock)

    anyio.run(main)


# -- bad days ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [MeterUnavailableError("no /proc"), ReadError("no /proc")])
def test_a_system_that_tells_no_share_refuses_the_scope_before_anything_starts(error: Exception) -> None:
    clock = FakeClock()
    users = Users(clock)
    users.error = error

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        raise AssertionError("it was begun")

    with pytest.raises(BaseExceptionGroup) as caught:
        run(clock, users, body)
    refused = caught.value.exceptions[0]
    assert isinstance(refused, ConfigError)
    assert refused.field == "scope"
    assert "no /proc" in refused.accepted
    assert '"machine"' in refused.accepted


def test_looks_that_fail_leave_the_share_missing_and_never_the_whole_machine() -> None:
    clock = FakeClock()
    users = Users(clock)

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        await clock.advance(10.0)
        users.error = ReadError("/proc is gone")
        await clock.advance(20.0)
        users.error = None
        await clock.advance(10.0)
        report = await closed(engine, session, clock)
        own = report.it_energy_kwh * J_PER_KWH
        assert 800.0 <= own <= 1050.0  # half of the time that was told
        assert report.it_energy_kwh_high * J_PER_KWH >= own + 1700.0
        assert 0.4 < report.coverage < 0.6
        assert report.scope.unknown_it_energy_kwh * J_PER_KWH == pytest.approx(4000.0 - 2 * own, rel=0.05)
        told = [text for text in report.warnings if "cannot be told" in text]
        assert len(told) == 1
        assert "/proc is gone" in told[0]

    run(clock, users, body)


def test_one_look_that_fails_is_made_up_for() -> None:
    clock = FakeClock()
    users = Users(clock)

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        await clock.advance(10.0)
        users.error = ReadError("not now")
        await clock.advance(1.0)
        users.error = None
        await clock.advance(9.0)
        report = await closed(engine, session, clock)
        assert report.it_energy_kwh * J_PER_KWH == pytest.approx(1000.0, rel=1e-3)
        assert report.coverage == pytest.approx(1.0)
        assert not any("cannot be told" in text for text in report.warnings)

    run(clock, users, body)


def test_a_look_that_hangs_stops_neither_the_run_nor_its_end() -> None:
    clock = FakeClock()
    users = Users(clock)

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        await clock.advance(5.0)
        users.hang = threading.Event()
        clock.workers = lambda: 0  # the clock does not wait for the worker that hangs
        try:
            for _ in range(8):
                await clock.advance(1.0)
                await anyio.sleep(0.1)  # the deadline of a look is real time
            report = await closed(engine, session, clock)
        finally:
            users.hang.set()
        assert report.is_final
        assert report.coverage < 0.9
        assert report.it_energy_kwh * J_PER_KWH < 0.6 * 100.0 * report.duration_s

    run(clock, users, body)


# -- what is right -----------------------------------------------------------------------------------------------------


def test_the_share_and_the_rest_make_the_machine() -> None:
    clock = FakeClock()
    users = Users(clock, own=0.5, total=2.0)

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        await clock.advance(60.0)
        report = await closed(engine, session, clock)
        scope = report.scope
        assert report.it_energy_kwh * J_PER_KWH == pytest.approx(1500.0, rel=1e-3)
        assert scope.name == "process"
        assert scope.own_it_energy_kwh == pytest.approx(report.it_energy_kwh, rel=1e-12)
        parts = (
            scope.own_it_energy_kwh,
            scope.idle_it_energy_kwh,
            scope.others_it_energy_kwh,
            scope.unknown_it_energy_kwh,
        )
        assert math.fsum(parts) == pytest.approx(scope.machine_it_energy_kwh, rel=1e-12)
        assert scope.machine_it_energy_kwh * J_PER_KWH == pytest.approx(6000.0, rel=1e-3)
        assert [device.id for device in report.devices] == ["simulated-0"]
        assert report.basis == "model"
        assert report.coverage == pytest.approx(1.0)
        assert users.is_closed

    run(clock, users, body, interval_s=5.0)


def test_each_epoch_has_the_share_of_its_own_time() -> None:
    clock = FakeClock()
    users = Users(clock, own=0.0, total=1.0)

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        async def mark() -> None:
            at = clock.monotonic_ns()
            async with engine.order(session):
                await engine.mark(session, lambda: session.border(at, steps=0))

        async with anyio.create_task_group() as group:
            for own in (0.0, 1.0, 0.5):
                users.use(own=own, total=1.0)
                await clock.advance(20.0)
                group.start_soon(mark)
                await clock.advance(0.0)
        report = await closed(engine, session, clock)
        energies = [epoch.it_energy_kwh * J_PER_KWH for epoch in report.epochs]
        assert energies == pytest.approx([0.0, 2000.0, 1000.0], abs=20.0)
        parts = math.fsum(energies) + report.outside.it_energy_kwh * J_PER_KWH
        assert parts == pytest.approx(report.it_energy_kwh * J_PER_KWH, rel=1e-9)

    run(clock, users, body)


def test_a_view_that_is_not_counted_stays_what_it_is() -> None:
    clock = FakeClock()
    users = Users(clock)
    psys = watts(clock, 300.0, device_id="psys", counted=False, kind=DeviceKind.PLATFORM)

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        await clock.advance(10.0)
        report = await closed(engine, session, clock)
        assert {d.id: d.counted for d in report.devices} == {"simulated-0": True, "psys": False}
        assert report.scope.machine_it_energy_kwh * J_PER_KWH == pytest.approx(1000.0, rel=1e-2)

    run(clock, users, body, meters=(watts(clock), psys))


def test_what_the_reader_finds_out_is_told() -> None:
    clock = FakeClock()
    users = Users(clock)

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        users.found.append(Finding(event="scope.gpu", message="all of it counts as this job's", remedy="none"))
        await clock.advance(10.0)
        report = await closed(engine, session, clock)
        assert "all of it counts as this job's. To mend it: none" in report.warnings

    run(clock, users, body)


def test_an_idle_floor_that_is_not_known_is_told_and_one_that_is_learnt_is_not() -> None:
    for own, is_told in ((0.5, True), (0.01, False)):
        clock = FakeClock()
        users = Users(clock, own=own, total=own)

        async def body(engine: Engine, session: Session, clock: FakeClock, is_told: bool = is_told) -> None:
            await clock.advance(30.0)
            report = await closed(engine, session, clock)
            assert any("idle floor of simulated-0 is not known" in text for text in report.warnings) is is_told

        run(clock, users, body)


def test_looks_of_long_ago_take_little_memory() -> None:
    clock = FakeClock()
    users = Users(clock)

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        for _ in range(30):
            await clock.advance(60.0)
        assert users.looks > 150
        # Ten minutes of points at ten seconds each, each with one of the device's own, and one for five minutes before.
        assert max(len(curve) for curve in session.ledger.curves.values()) < 140
        report = await closed(engine, session, clock)
        assert report.it_energy_kwh * J_PER_KWH == pytest.approx(50.0 * 30 * 60, rel=1e-3)

    run(clock, users, body, interval_s=10.0)


# -- journals ----------------------------------------------------------------------------------------------------------


def test_a_journal_tells_the_same_shares(tmp_path: Path) -> None:
    clock = FakeClock()
    users = Users(clock, own=0.5, total=2.0)
    live: list[Any] = []

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        await clock.advance(65.0)
        live.append(await closed(engine, session, clock))

    run(clock, users, body, journal=tmp_path, interval_s=5.0)
    (read,) = load(tmp_path).runs
    assert read.scope.name == "process"
    assert read.it_energy_kwh == pytest.approx(live[0].it_energy_kwh, rel=1e-6)
    for field in ("own", "idle", "others", "unknown", "machine"):
        name = f"{field}_it_energy_kwh"
        assert getattr(read.scope, name) == pytest.approx(getattr(live[0].scope, name), rel=1e-6, abs=1e-12)
    assert read.scope.how == live[0].scope.how
    assert [d.id for d in read.devices] == [d.id for d in live[0].devices]


def journal(folder: Path, run_id: str, name: str, own: float, within: tuple[str, ...] = (), **more: Any) -> None:
    """Write the journal of 40 s at 100 W, of which a holder has its share."""
    # A journal is known by its process and when it began.
    clock = FakeClock(start_ns=1_000_000_000 + len(list(folder.rglob("*.jsonl"))))
    users = Users(clock, own=own, total=2.0, name=name, within=within)

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        await clock.advance(40.0)
        await closed(engine, session, clock)

    run(clock, users, body, journal=folder, run_id=run_id, interval_s=5.0, **more)


def test_shares_of_two_processes_add_up_and_those_of_one_count_once(tmp_path: Path) -> None:
    journal(tmp_path, "a", "process 1 (7)", 0.5)
    journal(tmp_path, "b", "process 2 (9)", 1.0)
    loaded = load(tmp_path)
    apart = math.fsum(report.it_energy_kwh for report in loaded.runs)
    assert loaded.total.it_energy_kwh == pytest.approx(apart, rel=1e-6)
    assert apart * J_PER_KWH == pytest.approx(3000.0, rel=1e-2)
    assert loaded.problems == ()
    journal(tmp_path, "c", "process 1 (7)", 0.5)
    assert load(tmp_path).total.it_energy_kwh == pytest.approx(apart, rel=1e-3)


def test_two_trackers_of_one_process_begin_at_zeros_of_their_own_and_count_once(tmp_path: Path) -> None:
    clock = FakeClock()
    users = Users(clock, own=1.0, total=2.0)

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        await clock.advance(30.0)
        given = {"location": "DK", "pue": 1.0, "meters": session_meters, "scope": "process", "journal": tmp_path}
        second = await engine.open({**given, "interval_s": 5.0}, alone("later"))
        await clock.advance(30.0)
        await closed(engine, second, clock)
        await clock.advance(30.0)
        await closed(engine, session, clock)

    session_meters = (watts(clock),)
    run(clock, users, body, journal=tmp_path, interval_s=5.0, meters=session_meters)
    loaded = load(tmp_path)
    assert loaded.total.it_energy_kwh * J_PER_KWH == pytest.approx(4500.0, rel=1e-2)
    assert loaded.problems == ()


def test_a_run_of_two_processes_knows_the_machine_once(tmp_path: Path) -> None:
    journal(tmp_path, "job", "process 1 (7)", 0.5, node="n1")
    journal(tmp_path, "job", "process 2 (9)", 1.0, node="n1")
    (report,) = load(tmp_path).runs
    scope = report.scope
    assert scope.name == "process"
    joules = [getattr(scope, f"{part}_it_energy_kwh") * J_PER_KWH for part in ("own", "idle", "others", "machine")]
    assert joules == pytest.approx([3000.0, 0.0, 1000.0, 4000.0], rel=1e-2, abs=1e-6)


def test_a_share_within_a_share_or_the_machine_counts_once_and_that_is_told(tmp_path: Path) -> None:
    journal(tmp_path / "tree", "a", "process 1 (7)", 1.0)
    journal(tmp_path / "tree", "b", "process 2 (9)", 0.5, ("process 1 (7)", "cgroup /"))
    loaded = load(tmp_path / "tree")
    assert loaded.total.it_energy_kwh * J_PER_KWH == pytest.approx(2000.0, rel=1e-2)
    assert any("holds a share of what" in problem for problem in loaded.problems)
    journal(tmp_path / "tree", "m", "", 0.0, scope="machine")
    loaded = load(tmp_path / "tree")
    assert loaded.total.it_energy_kwh * J_PER_KWH == pytest.approx(4000.0, rel=1e-2)
    by_id = {report.run_id: report.it_energy_kwh * J_PER_KWH for report in loaded.runs}
    assert by_id == pytest.approx({"a": 2000.0, "b": 1000.0, "m": 4000.0}, rel=1e-2)  # each run by itself is whole

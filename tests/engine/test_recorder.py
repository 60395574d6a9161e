"""The journal of a run that goes on, on a clock that is moved by hand: it has the newest, and is where it should be."""

from __future__ import annotations

import contextvars
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from aiocarbon._core.identity import alone
from aiocarbon._engine.engine import Engine
from aiocarbon._engine.session import Session
from aiocarbon._engine.tape import Tape
from aiocarbon.journal import load
from aiocarbon.meters.simulated import Constant, SimulatedMeter
from aiocarbon.settings import check_arguments
from aiocarbon.span import Span
from aiocarbon.testing import FakeClock
from tests.engines import closed, driven, running


class Rig:
    """An engine in this loop with one session that has a journal, and its user's tape."""

    def __init__(self, engine: Engine, session: Session, clock: FakeClock, folder: Path) -> None:
        self.engine = engine
        self.session = session
        self.clock = clock
        self.folder = folder
        self.tape = session.sharing.tape = Tape(lambda: None, lambda: None, clock.monotonic_ns)
        self.tape.begin()

    def files(self, suffix: str = ".jsonl") -> list[Path]:
        return sorted(self.folder.glob(f"*/*{suffix}"))

    async def span(self, name: str, seconds: float) -> None:
        span = Span(self.tape, name, None, None, {}, "")
        contextvars.Context().run(span.__enter__)
        await self.clock.advance(seconds)
        span.__exit__(None, None, None)

    async def epoch(self, seconds: float) -> None:
        """One more epoch, in which one span lies."""
        await self.span("step", seconds)
        session, t_ns = self.session, self.clock.monotonic_ns()
        await driven(self.clock, lambda: self.engine.mark(session, lambda: session.border(t_ns, steps=5)))

    async def ended(self) -> Any:
        """The final report."""
        self.tape.end()
        return await closed(self.engine, self.session, self.clock)


def run(folder: Path, body: Callable[[Rig], Awaitable[None]], interval_s: float = 1.0) -> None:
    """Run a body inside an engine with one open session that has a journal in a folder, all in this loop."""
    clock = FakeClock()

    async def main() -> None:
        engine = Engine(clock=clock)
        async with running(engine):
            meter = SimulatedMeter(wave=Constant(100.0), refresh_s=0.001, clock=clock.monotonic_ns)
            told: dict[str, Any] = {
                "location": "DK",
                "pue": 1.0,
                "intensity": 100.0,
                "meters": (meter,),
                "journal": folder,
            }
            told |= {"interval_s": interval_s}
            session = await engine.open(check_arguments(told), alone("run"))
            await body(Rig(engine, session, clock, folder))

    anyio.run(main)


def is_told(report: Any, text: str) -> bool:
    return any(text in warning for warning in report.warnings)


def is_same(read: Any, own: Any) -> bool:
    """Whether a journal tells all that the run's own report does."""
    for mine, its in ((own, read), *zip(own.epochs, read.epochs, strict=True), (own.outside, read.outside)):
        for field in ("it_energy_kwh", "co2eq_g", "duration_s"):
            if getattr(its, field) != pytest.approx(getattr(mine, field), rel=1e-6, abs=1e-12):
                return False
    spans = [
        [(s.name, s.count, pytest.approx(s.it_energy_kwh, rel=1e-6)) for s in report.spans] for report in (own, read)
    ]
    return spans[0] == spans[1] and (own.is_final, own.ended_well) == (read.is_final, read.ended_well)


def test_a_journal_that_is_removed_in_mid_run_is_written_anew_within_a_minute(tmp_path: Path) -> None:
    """A training that clears its output folder, `git clean`, a cleaner."""

    async def body(rig: Rig) -> None:
        for _ in range(3):
            await rig.epoch(400.0)
        (before,) = rig.files()
        shutil.rmtree(tmp_path)
        await rig.epoch(70.0)
        await rig.clock.advance(10.0)
        (anew,) = rig.files()
        assert anew.name != before.name  # who copies what is new in files would take the two for one
        assert is_told(rig.session.published, f"{before} was removed")
        (run,) = load(tmp_path).runs
        assert run.epochs_total == 4
        await rig.epoch(20.0)
        own = await rig.ended()
        (run,) = load(tmp_path).runs
        assert is_same(run, own)
        assert is_told(own, "was removed")
        assert is_told(run, "was removed")
        assert rig.files(".tail") == []

    run(tmp_path, body, interval_s=10.0)


def test_a_journal_that_is_removed_just_before_the_end_is_written_anew_at_the_end(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        await rig.epoch(3.0)
        shutil.rmtree(tmp_path)
        own = await rig.ended()
        (run,) = load(tmp_path).runs
        assert is_same(run, own)
        assert is_told(own, "was removed")
        assert is_told(run, "was removed")

    run(tmp_path, body)


def test_a_journal_that_cannot_be_written_anew_is_told_to_be_lost(tmp_path: Path) -> None:
    folder = tmp_path / "runs"

    async def body(rig: Rig) -> None:
        await rig.epoch(3.0)
        shutil.rmtree(folder)
        folder.write_text("in the way")
        own = await rig.ended()
        assert is_told(own, "was removed")
        assert is_told(own, "the tracking goes on without it")

    run(folder, body)


def test_a_journal_that_is_moved_in_mid_run_is_written_on_and_told(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "runs", tmp_path / "elsewhere"

    async def body(rig: Rig) -> None:
        await rig.epoch(3.0)
        folder.rename(elsewhere)
        await rig.clock.advance(70.0)
        own = await rig.ended()
        (run,) = load(elsewhere).runs
        assert is_same(run, own)
        assert is_told(own, "is not where it was begun")
        assert not folder.exists()

    run(folder, body)


def test_a_tick_writes_the_spans_of_its_own_second(tmp_path: Path) -> None:
    """Killed just before the next tick, the run would else lack the spans of nearly two seconds."""

    async def body(rig: Rig) -> None:
        await rig.span("fwd", 0.3)
        await rig.span("bwd", 0.3)
        await rig.clock.advance(0.45)  # the tick is past
        (run,) = load(tmp_path).runs
        assert {span.name: span.count for span in run.spans} == {"fwd": 1, "bwd": 1}

    run(tmp_path, body)

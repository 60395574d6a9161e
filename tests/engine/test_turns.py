"""The switch interval: shortened only for who starves, and given back as it was found."""

from __future__ import annotations

import subprocess
import sys

import pytest

from aiocarbon._engine.turns import LEAST_S, Turns

MS = 1_000_000
DEFAULT_S = 0.005


class Process:
    """A process whose clock, switch interval and wakes a test moves."""

    def __init__(self) -> None:
        self.now_ns = self.wakes = 0
        self.interval_s = DEFAULT_S
        self.turns = Turns(lambda: self.wakes, get=lambda: self.interval_s, put=self.put, clock=lambda: self.now_ns)

    def put(self, to_s: float) -> None:
        self.interval_s = int(to_s * 1e6) * 1e-6  # as the interpreter keeps it

    def wait(self, for_ms: float, wakes: int, reads: int = 0) -> None:
        since = self.turns.begin()
        self.now_ns += round(for_ms * MS)
        self.wakes += wakes
        self.turns.look(since, reads)


@pytest.mark.parametrize(
    ("for_ms", "wakes", "reads"),
    [
        (1000.0, 1, 0),  # a tick's sleep
        (40.0, 20, 1),  # a read beside a thread that gives the lock away when it is asked for it
        (400.0, 180, 9),  # nine of them
        (3000.0, 1, 1),  # a driver that hangs
        (20.0, 400, 0),  # quick all the same
    ],
)
def test_who_has_not_starved_changes_nothing(for_ms: float, wakes: int, reads: int) -> None:
    process = Process()
    process.wait(for_ms, wakes, reads)
    assert process.interval_s == DEFAULT_S


def test_who_starves_asks_before_the_lock_is_free_again_and_all_is_given_back() -> None:
    process = Process()
    process.wait(2000.0, 5000)  # the lock is free every 0.4 ms
    assert process.interval_s == pytest.approx(0.0001, rel=0.02)
    process.wait(1000.0, 4000)  # and sometimes more often
    assert process.interval_s == pytest.approx(0.0000625, rel=0.02)
    process.wait(1000.0, 1000)
    assert process.interval_s == pytest.approx(0.0000625, rel=0.02)
    process.turns.give_back()
    assert process.interval_s == DEFAULT_S


def test_it_is_not_shorter_than_a_thread_can_be_woken() -> None:
    process = Process()
    process.wait(100.0, 100_000)
    assert process.interval_s == pytest.approx(LEAST_S, abs=1e-6)


def test_what_somebody_else_has_set_stays() -> None:
    process = Process()
    process.wait(2000.0, 5000)
    process.put(0.01)
    process.turns.give_back()
    assert process.interval_s == pytest.approx(0.01)


def test_what_somebody_else_has_set_meanwhile_is_what_is_given_back() -> None:
    process = Process()
    process.wait(2000.0, 5000)
    process.put(0.01)
    process.wait(2000.0, 5000)
    process.turns.give_back()
    assert process.interval_s == pytest.approx(0.01)


def test_a_short_interval_of_the_users_stays() -> None:
    process = Process()
    process.put(0.00005)
    process.wait(2000.0, 5000)
    process.turns.give_back()
    assert process.interval_s == pytest.approx(0.00005)


def test_a_forked_child_has_the_interval_that_was_found() -> None:
    process = Process()
    process.wait(2000.0, 5000)
    process.turns.renew()
    assert process.interval_s == DEFAULT_S


def test_where_no_system_call_tells_nothing_is_looked_at() -> None:
    turns = Turns(None, get=lambda: DEFAULT_S, put=lambda _: pytest.fail("set"))
    since = turns.begin()
    assert since is None
    assert turns.look(since, 1) is None
    turns.give_back()


BUSY = """
import asyncio, sys, time
from aiocarbon import Tracker
from aiocarbon.testing import ScriptedMeter

async def main():
    global asked_to_end
    begin = time.monotonic()
    meter = ScriptedMeter(energy_uj=[lambda: (time.monotonic() - begin) * 100e6])
    async with Tracker(meters=[meter], intensity=400, pue=1.0, interval_s=0.05, journal=None):
        at_first = meter.reads
        while meter.reads < at_first + 50 and time.monotonic() < begin + 40.0:
            sum(range(20_000))  # the lock is held, for less than the switch interval
            await asyncio.sleep(0)  # and given away for the shortest of times
        assert meter.reads >= at_first + 50, meter.reads - at_first
    asked_to_end = time.monotonic()

asyncio.run(main())
while sys.getswitchinterval() != 0.005:  # once the engine has ended
    assert time.monotonic() < asked_to_end + 10.0, sys.getswitchinterval()
    time.sleep(0.01)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells how often a thread was woken")
def test_beside_an_event_loop_that_is_never_idle_devices_are_read() -> None:
    done = subprocess.run([sys.executable, "-c", BUSY], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

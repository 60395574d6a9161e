"""Waiting for clean electricity: on a clock moved by hand, and as users call it, on asyncio and trio."""

from __future__ import annotations

import functools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import aiocarbon
from aiocarbon import ConfigError, sync
from aiocarbon._core.clean import RefusedError
from aiocarbon._core.timespan import seconds_of, seconds_of_text
from aiocarbon._core.waited import CleanWait, WaitEnd, Wish, check
from aiocarbon._engine import host as hosts
from aiocarbon._engine.exchange import Exchange
from aiocarbon._engine.waiting import Waiter, Waiting
from aiocarbon.errors import EngineError
from aiocarbon.intensity.cache import Cache
from aiocarbon.intensity.client import Client
from aiocarbon.settings import Settings, check_arguments
from aiocarbon.testing import FakeClock
from aiocarbon.waiting import Order

HOUR_S = 3600.0
NOW_S = 1_800_000_000.0  # the wall of a FakeClock; a full hour


async def inline(function: Callable[..., Any], *arguments: Any) -> Any:
    """No thread: the clock moved by hand does not wait for one."""
    return function(*arguments)


def write(path: Path, grams: Iterable[float | None], begin_s: float = NOW_S) -> Path:
    """A file of hourly values; None: nobody says."""
    rows = [
        f"{datetime.fromtimestamp(begin_s + i * HOUR_S, UTC).isoformat()},{'' if g is None else g}"
        for i, g in enumerate(grams)
    ]
    fresh = path.with_suffix(".new")
    fresh.write_text("\n".join(["time,value", *rows]) + "\n", encoding="utf-8")
    fresh.replace(path)  # as a whole, so that none of a second's resolution hides the change
    return path


class Over(Exception):
    """The wait goes on after all that was to be seen of it."""


class Jumping(FakeClock):
    """A clock that is there at once when somebody sleeps, with things that happen so many seconds after its begin."""

    def __init__(self, events: Mapping[float, Callable[[], object]] | None = None, most_s: float = 60 * HOUR_S) -> None:
        super().__init__()
        self._events = dict(events or {})
        self._most_s = most_s
        self.naps: list[float] = []

    @property
    def passed_s(self) -> float:
        return self.wall_ns() / 1e9 - NOW_S

    async def sleep_until(self, t_ns: int) -> None:
        await anyio.lowlevel.checkpoint()
        self.naps.append((t_ns - self.monotonic_ns()) / 1e9)
        self.skip(max(self.naps[-1], 0.0))
        for due in [due for due in self._events if due <= self.passed_s]:
            self._events.pop(due)()
        if self.passed_s > self._most_s:
            raise Over


def waited(
    wish: Wish,
    intensity: Path | float | None,
    *,
    clock: Jumping | None = None,
    client: Any = None,
    environ: Mapping[str, str] | None = None,
) -> tuple[CleanWait | None, list[Waiting]]:
    """What comes of a wish, and what was told of it; None if the wait goes on for days."""
    clock = clock or Jumping()
    told: list[Waiting] = []
    arguments = check_arguments({"location": "DE", "intensity": intensity})
    settings = Settings(**arguments, offline=client is None)

    async def main() -> CleanWait | None:
        exchange = Exchange(clock, client() if client else None, Cache(None), inline)
        try:
            return await Waiter(exchange, settings, arguments, wish, told=told.append, environ=environ or {}).wait()
        except Over:
            return None
        finally:
            await exchange.aclose()

    return anyio.run(main), told


def ended(*arguments: Any, **more: Any) -> CleanWait:
    result = waited(*arguments, **more)[0]
    assert result is not None
    return result


# -- below a limit -----------------------------------------------------------------------------------------------


def test_clean_grid_is_not_waited_for(tmp_path: Path) -> None:
    result = ended(Wish(below_g_per_kwh=200.0), write(tmp_path / "g.csv", [199.9, 300]))
    assert (result.reason, result.waited_s) == (WaitEnd.CLEAN, 0.0)
    assert result.is_clean
    assert result.intensity is not None
    assert (result.intensity.g_per_kwh, result.intensity.source) == (199.9, "g.csv")


def test_limit_itself_is_not_below_it(tmp_path: Path) -> None:
    result = ended(Wish(below_g_per_kwh=200.0), write(tmp_path / "g.csv", [200, 200, 100]))
    assert result.reason is WaitEnd.CLEAN
    assert result.waited_s == pytest.approx(2 * HOUR_S, abs=1.0)
    assert result.intensity is not None
    assert result.intensity.g_per_kwh == 100.0


def test_wait_is_told_once_with_its_expected_end(tmp_path: Path) -> None:
    _, told = waited(Wish(below_g_per_kwh=150.0), write(tmp_path / "g.csv", [300, 300, 300, 100]))
    assert [one.until_s for one in told] == [pytest.approx(NOW_S + 3 * HOUR_S)]
    assert told[0].intensity.g_per_kwh == 300.0


def test_deadline_ends_a_wait_for_what_does_not_come(tmp_path: Path) -> None:
    wish = Wish(below_g_per_kwh=50.0, deadline_s=NOW_S + 2.5 * HOUR_S)
    result = ended(wish, write(tmp_path / "g.csv", [300] * 8))
    assert result.reason is WaitEnd.DEADLINE
    assert result.waited_s == pytest.approx(2.5 * HOUR_S, abs=1.0)
    assert result.deadline == datetime.fromtimestamp(NOW_S + 2.5 * HOUR_S, UTC)


def test_without_a_deadline_it_waits_as_long_as_somebody_says_something(tmp_path: Path) -> None:
    path = tmp_path / "g.csv"
    assert waited(Wish(below_g_per_kwh=50.0), write(path, [300] * 20), clock=Jumping(most_s=8 * HOUR_S))[0] is None
    result = ended(Wish(below_g_per_kwh=50.0), write(path, [300] * 5))
    assert result.reason is WaitEnd.NO_FORECAST  # the file ends after five hours, and is less than a day of past
    assert result.waited_s == pytest.approx(5 * HOUR_S, abs=120.0)


def test_cleaner_value_than_forecast_ends_the_wait_when_it_is_learnt(tmp_path: Path) -> None:
    path = write(tmp_path / "g.csv", [300] * 8)
    result = ended(
        Wish(below_g_per_kwh=200.0, deadline_s=NOW_S + 7 * HOUR_S),
        path,
        clock=Jumping({1.5 * HOUR_S: lambda: write(path, [300, 120, 300, 300, 300, 300, 300, 300])}),
    )
    assert result.reason is WaitEnd.CLEAN
    assert 1.5 * HOUR_S <= result.waited_s <= 1.5 * HOUR_S + 180.0


def test_number_does_not_change_and_is_not_waited_for() -> None:
    result = ended(Wish(below_g_per_kwh=100.0, deadline_s=NOW_S + HOUR_S), 300.0)
    assert (result.reason, result.waited_s) == (WaitEnd.NO_FORECAST, 0.0)
    assert "as a number" in result.note
    assert ended(Wish(below_g_per_kwh=400.0), 300.0).is_clean
    at_once = ended(Wish(duration_s=HOUR_S, deadline_s=NOW_S + 9 * HOUR_S), 300.0)
    assert (at_once.reason, at_once.waited_s) == (WaitEnd.CLEAN, 0.0)


# -- the best start of a work ------------------------------------------------------------------------------------


def test_best_start_of_the_whole_work_is_waited_for(tmp_path: Path) -> None:
    path = write(tmp_path / "g.csv", [300, 10, 500, 100, 100, 100, 300, 300])
    result = ended(Wish(duration_s=2 * HOUR_S, deadline_s=NOW_S + 8 * HOUR_S), path)
    assert result.reason is WaitEnd.CLEAN
    assert result.waited_s == pytest.approx(3 * HOUR_S, abs=1.5)
    assert result.plan is not None
    assert result.plan.g_per_kwh.central == pytest.approx(100.0)


def test_work_is_done_by_the_deadline(tmp_path: Path) -> None:
    path = write(tmp_path / "g.csv", [300, 300, 300, 200, 10, 10])
    result = ended(Wish(duration_s=2 * HOUR_S, deadline_s=NOW_S + 5 * HOUR_S), path)
    assert result.waited_s == pytest.approx(3 * HOUR_S, abs=1.5)
    whole = ended(Wish(duration_s=5 * HOUR_S, deadline_s=NOW_S + 5 * HOUR_S), path)
    assert whole.waited_s == 0.0


def test_plan_is_made_anew_as_the_forecast_changes(tmp_path: Path) -> None:
    path = write(tmp_path / "g.csv", [300, 300, 300, 300, 300, 100, 300, 300])
    wish = Wish(duration_s=HOUR_S, deadline_s=NOW_S + 8 * HOUR_S)
    sooner = {0.5 * HOUR_S: lambda: write(path, [300, 300, 50, 300, 300, 100, 300, 300])}
    result, told = waited(wish, path, clock=Jumping(sooner))
    assert result is not None
    assert result.waited_s == pytest.approx(2 * HOUR_S, abs=1.5)
    assert [one.until_s for one in told] == [NOW_S + 5 * HOUR_S, NOW_S + 2 * HOUR_S]
    write(path, [300, 300, 300, 300, 300, 100, 300, 300])
    later = {4.5 * HOUR_S: lambda: write(path, [300, 300, 300, 300, 300, 400, 300, 200])}
    assert ended(wish, path, clock=Jumping(later)).waited_s == pytest.approx(7 * HOUR_S, abs=1.5)


def test_limit_and_work_end_at_whichever_comes_first(tmp_path: Path) -> None:
    path = write(tmp_path / "g.csv", [300, 200, 300, 50, 50, 300])
    wish = Wish(below_g_per_kwh=250.0, duration_s=2 * HOUR_S, deadline_s=NOW_S + 6 * HOUR_S)
    assert ended(wish, path).waited_s == pytest.approx(HOUR_S, abs=1.5)


# -- bad days ----------------------------------------------------------------------------------------------------


def test_nobody_who_says_anything_is_not_waited_for() -> None:
    for wish in (Wish(below_g_per_kwh=1.0), Wish(duration_s=HOUR_S, deadline_s=NOW_S + 9 * HOUR_S)):
        result = ended(wish, None)  # offline, and nothing is in the cache
        assert (result.reason, result.waited_s) == (WaitEnd.NO_FORECAST, 0.0)
        assert result.intensity is not None
        assert result.intensity.quality == "average"


def test_yearly_average_below_the_limit_is_no_clean_grid() -> None:
    assert ended(Wish(below_g_per_kwh=2000.0), None).reason is WaitEnd.NO_FORECAST


def test_dead_network_costs_no_exception_and_no_wait() -> None:
    dead = {
        f"AIOCARBON_{name}_URL": "http://127.0.0.1:1"
        for name in ("ENERGYCHARTS", "ELECTRICITYMAPS", "WATTTIME", "GEOJS", "IPINFO")
    }
    result = ended(
        Wish(duration_s=HOUR_S, deadline_s=NOW_S + 9 * HOUR_S), None, client=lambda: Client(inline), environ=dead
    )
    assert result.reason is WaitEnd.NO_FORECAST
    assert result.waited_s < 120.0


def test_file_that_is_gone_or_broken_during_the_wait_costs_nothing(tmp_path: Path) -> None:
    for harm in (Path.unlink, lambda path: path.write_text("what?", encoding="utf-8")):
        path = write(tmp_path / "g.csv", [300, 300, 300, 100, 300, 300])
        clock = Jumping({HOUR_S: functools.partial(harm, path)})
        result = ended(Wish(duration_s=HOUR_S, deadline_s=NOW_S + 6 * HOUR_S), path, clock=clock)
        assert result.waited_s <= 5 * HOUR_S  # by what is still known, or not at all


def test_machine_that_slept_is_back_in_time_within_a_minute(tmp_path: Path) -> None:
    path = write(tmp_path / "g.csv", [300, 300, 300, 300, 100, 300])
    clock = Jumping()
    clock._events[HOUR_S] = lambda: clock.suspend(1.9 * HOUR_S)  # a lid that was closed
    result = ended(Wish(duration_s=HOUR_S, deadline_s=NOW_S + 6 * HOUR_S), path, clock=clock)
    assert result.waited_s == pytest.approx(4 * HOUR_S, abs=1.5)
    assert clock.passed_s == pytest.approx(4 * HOUR_S, abs=1.5)


def test_wait_never_spins_and_never_sleeps_long(tmp_path: Path) -> None:
    clock = Jumping()
    wish = Wish(below_g_per_kwh=50.0, deadline_s=NOW_S + 10 * HOUR_S)
    assert ended(wish, write(tmp_path / "g.csv", [300] * 12), clock=clock).reason is WaitEnd.DEADLINE
    assert len(clock.naps) <= 10 * 60 + 10
    assert min(clock.naps) > 0.0
    assert max(clock.naps) <= 60.1


# -- wishes that cannot come true --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "wish"),
    [
        ("below_g_per_kwh", {}),
        ("below_g_per_kwh", {"deadline": "2h"}),
        ("below_g_per_kwh", {"below_g_per_kwh": 0}),
        ("below_g_per_kwh", {"below_g_per_kwh": -5}),
        ("below_g_per_kwh", {"below_g_per_kwh": float("nan")}),
        ("below_g_per_kwh", {"below_g_per_kwh": "100"}),
        ("below_g_per_kwh", {"below_g_per_kwh": True}),
        ("deadline", {"below_g_per_kwh": 100, "deadline": datetime.now(UTC) - timedelta(hours=1)}),
        ("deadline", {"below_g_per_kwh": 100, "deadline": datetime(2030, 1, 1)}),
        ("deadline", {"below_g_per_kwh": 100, "deadline": datetime.min.replace(tzinfo=timezone(timedelta(hours=9)))}),
        ("deadline", {"below_g_per_kwh": 100, "deadline": -1}),
        ("deadline", {"below_g_per_kwh": 100, "deadline": float("nan")}),
        ("deadline", {"below_g_per_kwh": 100, "deadline": "12 hours"}),
        ("deadline", {"below_g_per_kwh": 100, "deadline": "soon"}),
        ("deadline", {"below_g_per_kwh": 100, "deadline": timedelta(0)}),
        ("deadline", {"duration": "1h"}),
        ("duration", {"duration": "3h", "deadline": "2h"}),
        ("duration", {"duration": "0h", "deadline": "2h"}),
        ("duration", {"duration": float("inf"), "deadline": "2h"}),
        ("duration", {"duration": [8], "deadline": "2h"}),
        ("location", {"below_g_per_kwh": 100, "location": "XX"}),
        ("intensity", {"below_g_per_kwh": 100, "intensity": -1}),
    ],
)
def test_wish_that_cannot_come_true_is_refused_before_anything_starts(field: str, wish: dict[str, Any]) -> None:
    for call in (sync.wait_until_clean, lambda **more: anyio.run(lambda: aiocarbon.wait_until_clean(**more))):
        with pytest.raises(ConfigError, match="is not accepted") as caught:
            call(**wish)
        assert caught.value.field == field
    assert not any(thread.name == hosts.THREAD_NAME for thread in threading.enumerate() if thread.is_alive())


@pytest.mark.parametrize("tz", [UTC, timezone(timedelta(hours=-9)), timezone(timedelta(hours=9))])
def test_last_instant_there_is_counts_as_a_year_ahead(tz: timezone) -> None:
    came = sync.wait_until_clean(below_g_per_kwh=100, intensity=300, deadline=datetime.max.replace(tzinfo=tz))
    assert came.reason == "no forecast"
    assert came.deadline is not None
    assert timedelta(days=365) < came.deadline - datetime.now(UTC) <= timedelta(days=366)
    failed = Order(100, datetime.max.replace(tzinfo=tz), None, intensity=300).failed(EngineError("gone"))
    assert failed.deadline is not None


@pytest.mark.parametrize(("deadline_s", "year"), [(1e300, "9999"), (253402300800.0, "9999"), (-1e300, "0001")])
def test_instant_outside_of_the_calendar_is_told_as_its_border(deadline_s: float, year: str) -> None:
    wish = Wish(below_g_per_kwh=1.0, deadline_s=deadline_s)
    with pytest.raises(RefusedError, match=year):
        check(wish, max(NOW_S, deadline_s))


def test_engine_refuses_the_same(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="deadline"):
        check(Wish(below_g_per_kwh=1.0, deadline_s=NOW_S), NOW_S)
    with pytest.raises(ConfigError, match="deadline"):
        waited(Wish(duration_s=HOUR_S), write(tmp_path / "g.csv", [1]))


@pytest.mark.parametrize("late_s", [1.5, 2 * HOUR_S])
def test_a_wish_that_became_late_while_the_engine_began_ends_at_once(tmp_path: Path, late_s: float) -> None:
    wish = Wish(duration_s=HOUR_S, deadline_s=NOW_S + HOUR_S - late_s)
    came, _ = waited(wish, write(tmp_path / "g.csv", [300, 100, 100]))
    assert came is not None
    assert came.reason == "deadline"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90.0), ("1.5 min", 90.0), ("8h", 28800.0), (" 2 d ", 172800.0), ("0.5h", 1800.0)]
)
def test_times_are_read_with_their_unit(text: str, seconds: float) -> None:
    assert seconds_of_text(text) == seconds
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["8", "", "h", "-8h", "8 hours", "8H", "8m", "1e3s", "nan h", "0h", "1h30min", "8,5h", "999d", "8h 8h", "\u0668h"],
)
def test_times_without_one_are_refused_with_the_list(text: str) -> None:
    with pytest.raises(ValueError, match="s, min, h, d"):
        seconds_of_text(text)


# -- as users call it --------------------------------------------------------------------------------------------


@pytest.fixture(params=["asyncio", "asyncio+uvloop", "trio"])
def backend(request: pytest.FixtureRequest) -> dict[str, Any]:
    name, _, loop = request.param.partition("+")
    return {"backend": name, "backend_options": {"use_uvloop": True} if loop else {}}


def a_file(path: Path, *grams: float) -> Path:
    return write(path, grams, time.time() // HOUR_S * HOUR_S)


def test_await_answers_in_any_loop(tmp_path: Path, backend: dict[str, Any]) -> None:
    path = a_file(tmp_path / "g.csv", *[100] * 9)

    async def main() -> tuple[CleanWait, CleanWait]:
        return (
            await aiocarbon.wait_until_clean(below_g_per_kwh=150, location="DE", intensity=path),
            await aiocarbon.wait_until_clean(
                duration=timedelta(hours=1), deadline=datetime.now(UTC) + timedelta(hours=4), intensity=path
            ),
        )

    first, second = anyio.run(main, **backend)
    assert (first.reason, second.reason) == (WaitEnd.CLEAN, WaitEnd.CLEAN)
    assert second.duration_s == HOUR_S


def test_wait_is_cancelled_at_once_and_leaves_no_engine(tmp_path: Path, backend: dict[str, Any]) -> None:
    path = a_file(tmp_path / "g.csv", *[100] * 9)

    async def main() -> bool:
        with anyio.move_on_after(0.3) as scope:
            await aiocarbon.wait_until_clean(below_g_per_kwh=50, location="DE", intensity=path)
        return scope.cancelled_caught

    assert anyio.run(main, **backend)
    for thread in threading.enumerate():
        if thread.name == hosts.THREAD_NAME:
            thread.join(5.0)
            assert not thread.is_alive()


def test_blocking_twin_answers(tmp_path: Path) -> None:
    result = sync.wait_until_clean(below_g_per_kwh=150, intensity=a_file(tmp_path / "g.csv", *[100] * 4))
    assert result.reason is WaitEnd.CLEAN


def test_ctrl_c_ends_the_blocking_wait(tmp_path: Path) -> None:
    path = a_file(tmp_path / "g.csv", *[100] * 9)
    code = (
        "import sys, aiocarbon.sync as s\n"
        "s.wait_until_clean(below_g_per_kwh=500, location='DE', intensity=sys.argv[1])\n"  # all is loaded: an interrupt
        "try:\n"  # amid an `exec`, as `dataclass` has one, makes Python die of it in the end, whoever caught it
        "    print('waiting', flush=True)\n"
        "    s.wait_until_clean(below_g_per_kwh=50, location='DE', intensity=sys.argv[1])\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "waiting\n"
        child.send_signal(signal.SIGINT)
        assert child.stdout.read() == "interrupted\n"
    assert child.returncode == 0


def test_engine_that_dies_ends_the_wait_with_its_reason(tmp_path: Path) -> None:
    order = Order(50.0, None, None, location="DE", intensity=a_file(tmp_path / "g.csv", *[100] * 9))
    future = order.begin()
    host = order._host
    assert host is not None

    async def die(engine: Any) -> None:
        raise SystemExit

    host.call(die)
    try:
        with pytest.raises(EngineError) as caught:
            future.result(10.0)
        result = order.failed(caught.value)
    finally:
        order.end()
    assert result.reason is WaitEnd.NO_FORECAST
    assert "died" in result.note
    assert result.intensity is None


def test_two_waits_and_a_run_share_an_engine(tmp_path: Path) -> None:
    path = a_file(tmp_path / "g.csv", *[100] * 9)

    async def main() -> None:
        async with aiocarbon.Tracker(intensity=path, location="DE", meters="simulated:10") as tracker:
            with anyio.move_on_after(0.2):
                await aiocarbon.wait_until_clean(below_g_per_kwh=50, location="DE", intensity=path)
            assert (await aiocarbon.wait_until_clean(below_g_per_kwh=150, location="DE", intensity=path)).is_clean
            await tracker.epoch()
        assert tracker.report().is_final

    anyio.run(main)

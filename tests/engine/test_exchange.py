"""Each question goes out once per published value: through failures, pauses, offline, and for all processes."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from aiocarbon._core.intensity import Quality
from aiocarbon._engine.deadline import within
from aiocarbon._engine.exchange import Exchange, NotYetError
from aiocarbon._engine.questions import NOW, Kind, Question, next_s
from aiocarbon.errors import BadAnswerError, IntensityError, NoDataError, SourceDownError, SourceRefusedError
from aiocarbon.intensity.base import Row
from aiocarbon.intensity.cache import Cache, Entry
from aiocarbon.intensity.client import Client
from aiocarbon.testing import FakeClock, ScriptedSource

STEP_S = 300.0


async def blocking(function: Callable[..., Any], *args: object) -> Any:
    return await anyio.to_thread.run_sync(function, *args)


def five_minutes(now_s: float) -> Iterator[Row]:
    begin = now_s // STEP_S * STEP_S
    yield begin, begin + STEP_S, begin % 1000, Quality.LIVE


class Failing:
    """Raises errors in turn, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def __call__(self, now_s: float) -> Iterator[Row]:
        if self.errors:
            raise self.errors.pop(0)
        return five_minutes(now_s)


async def at_once(function: Callable[..., Any], *args: object) -> Any:
    """In the place of a worker, of which a month would take some ten thousand."""
    return function(*args)


def exchange_of(
    clock: FakeClock,
    folder: Path | None = None,
    *,
    is_offline: bool = False,
    chance: float = 0.5,
    blocking: Callable[..., Awaitable[Any]] = blocking,
) -> Exchange:
    client = None if is_offline else Client(blocking)
    return Exchange(clock, client, Cache(folder), blocking, chance=lambda: chance)


def in_time(clock: FakeClock, body: Callable[[], Awaitable[Any]]) -> Any:
    """What a body gives, with the clock moved on while it waits."""
    outcome: list[Any] = []

    async def main() -> None:
        async def work() -> None:
            try:
                outcome.append(await body())
            except IntensityError as error:
                outcome.append(error)

        limiter = anyio.to_thread.current_default_thread_limiter()
        clock.workers = lambda: limiter.borrowed_tokens  # it stands still while one of them reads the cache
        async with anyio.create_task_group() as group:
            group.start_soon(work)
            while not outcome:
                await clock.advance(0.25)

    anyio.run(main)
    return outcome[0]


def test_a_value_is_asked_for_once_until_its_successor_is_published() -> None:
    clock, source = FakeClock(), ScriptedSource(five_minutes, offset_s=30.0)
    exchange = exchange_of(clock)

    async def body() -> list[float]:
        dues = []
        for _ in range(5):
            await exchange.ask(source)
            dues.append(exchange.due_s(source) - exchange.now_s)
        return dues

    dues = in_time(clock, body)
    assert len(source.asked) == 1
    assert all(30.0 < due <= STEP_S + 30.0 + 30.0 for due in dues)


def test_a_month_takes_one_request_a_published_value() -> None:
    clock, source = FakeClock(), ScriptedSource(five_minutes, offset_s=30.0)
    exchange = exchange_of(clock, blocking=at_once)
    days = 30

    async def month() -> None:
        end_s = exchange.now_s + days * 86400
        while exchange.now_s < end_s:
            await exchange.ask(source)
            clock.skip(exchange.due_s(source) - exchange.now_s)

    anyio.run(month)
    asked_of = [now_s // STEP_S for _, now_s, _ in source.asked]
    assert len(asked_of) == len(set(asked_of))
    assert len(asked_of) == pytest.approx(days * 288, abs=2)


def test_a_source_that_publishes_late_is_not_asked_more_often() -> None:
    def late(now_s: float) -> Iterator[Row]:
        return five_minutes(now_s - 700.0)

    clock, source = FakeClock(), ScriptedSource(late, offset_s=30.0)
    exchange = exchange_of(clock, blocking=at_once)

    async def day() -> None:
        end_s = exchange.now_s + 86400
        while exchange.now_s < end_s:
            await exchange.ask(source)
            clock.skip(exchange.due_s(source) - exchange.now_s)

    anyio.run(day)
    assert len(source.asked) <= 289


@pytest.mark.parametrize(
    "error", [SourceDownError("no route"), SourceDownError("503", status=503), BadAnswerError("html", may_pass=True)]
)
def test_what_may_pass_is_tried_again_within_seconds(error: Exception) -> None:
    clock, source = FakeClock(), ScriptedSource(Failing(error, error))
    exchange = exchange_of(clock)
    began = clock.monotonic_ns()
    assert in_time(clock, lambda: exchange.ask(source)).samples
    assert len(source.asked) == 3
    assert 1e9 < clock.monotonic_ns() - began < 20e9


@pytest.mark.parametrize(
    "error", [SourceRefusedError("401", status=401), NoDataError("nothing"), BadAnswerError("-5"), ZeroDivisionError()]
)
def test_what_will_not_pass_is_not_tried_again(error: Exception) -> None:
    clock, source = FakeClock(), ScriptedSource(Failing(error, error))
    exchange = exchange_of(clock)
    assert isinstance(in_time(clock, lambda: exchange.ask(source)), IntensityError)
    assert len(source.asked) == 1
    assert exchange.is_left_alone(source)


def test_a_source_that_keeps_failing_is_left_alone_for_growing_pauses_and_then_tried_once() -> None:
    clock, source = FakeClock(), ScriptedSource(Failing(*[SourceDownError("dead")] * 100))
    exchange = exchange_of(clock)
    pauses = []
    tries = []
    for _ in range(8):
        before = len(source.asked)
        assert isinstance(in_time(clock, lambda: exchange.ask(source)), SourceDownError)
        tries.append(len(source.asked) - before)
        # While it is left alone, asking again costs nothing and says why.
        error = in_time(clock, lambda: exchange.ask(source))
        assert "dead" in str(error)
        assert error.retry_after_s > 0
        pauses.append(exchange.due_s(source) - exchange.now_s)
        clock.skip(pauses[-1] + 1.0)
    assert tries == [3] + [1] * 7
    assert pauses[0] == pytest.approx(30.0, abs=2)
    assert all(b == pytest.approx(min(2 * a, 900.0), rel=0.1) for a, b in itertools.pairwise(pauses))


def test_retry_after_is_obeyed() -> None:
    clock = FakeClock()
    source = ScriptedSource(Failing(SourceDownError("429", status=429, retry_after_s=4000.0)))
    exchange = exchange_of(clock)
    assert isinstance(in_time(clock, lambda: exchange.ask(source)), SourceDownError)
    assert exchange.due_s(source) - exchange.now_s >= 3999.0
    clock.skip(3990.0)
    assert isinstance(in_time(clock, lambda: exchange.ask(source)), SourceDownError)
    assert len(source.asked) == 1
    clock.skip(20.0)
    assert in_time(clock, lambda: exchange.ask(source)).samples


def test_a_short_retry_after_is_waited_for() -> None:
    clock = FakeClock()
    source = ScriptedSource(Failing(SourceDownError("429", status=429, retry_after_s=3.0)))
    exchange = exchange_of(clock)
    began = clock.monotonic_ns()
    assert in_time(clock, lambda: exchange.ask(source)).samples
    assert clock.monotonic_ns() - began >= 3e9


def test_questions_of_one_machine_to_a_service_with_a_limit_are_spaced(tmp_path: Path) -> None:
    clock = FakeClock()
    when: list[float] = []

    def note(now_s: float, *_: float) -> Iterator[Row]:
        when.append(clock.wall_ns() * 1e-9)
        return five_minutes(now_s)

    west, east = (ScriptedSource(note, past=note, forecast=note, zone=zone, spacing_s=61.0) for zone in ("W", "E"))
    begin_s = clock.wall_ns() * 1e-9
    window = Question(Kind.PAST, begin_s - 3600.0, begin_s)
    for source, question in ((west, NOW), (east, NOW), (west, window), (west, Question(Kind.FORECAST, hours=1.0))):
        # Another exchange each time, as of another process: what they share is the folder.
        answer = in_time(clock, lambda s=source, q=question: exchange_of(clock, tmp_path).ask(s, q))
        assert not isinstance(answer, Exception)
    assert [at - begin_s for at in when[:3]] == pytest.approx([0.0, 61.0, 122.0], abs=1.0)
    assert when[3] - when[2] < 30.0  # forecasts have a limit of their own


def test_turns_of_those_who_stop_waiting_are_not_lost(tmp_path: Path) -> None:
    clock = FakeClock()
    source = ScriptedSource(five_minutes, past=lambda begin_s, end_s: five_minutes(begin_s), spacing_s=61.0)
    begin_s = clock.wall_ns() * 1e-9
    window = Question(Kind.PAST, begin_s - 3600.0, begin_s)

    async def impatient() -> None:
        exchange = exchange_of(clock, tmp_path)
        with contextlib.suppress(TimeoutError):
            await within(clock, 2.0, lambda: exchange.ask(source, window))

    in_time(clock, lambda: exchange_of(clock, tmp_path).ask(source))
    for _ in range(5):
        in_time(clock, impatient)
    in_time(clock, lambda: exchange_of(clock, tmp_path).ask(source, window))
    assert [kind for kind, *_ in source.asked] == ["now", "past"]
    assert clock.wall_ns() * 1e-9 - begin_s == pytest.approx(61.0, abs=2.0)


def test_a_turn_beyond_the_callers_limit_is_said_at_once_and_is_no_failure(tmp_path: Path) -> None:
    clock = FakeClock()
    source = ScriptedSource(five_minutes, past=lambda begin_s, end_s: five_minutes(begin_s), spacing_s=61.0)
    exchange = exchange_of(clock, tmp_path)
    begin_s = clock.wall_ns() * 1e-9
    window = Question(Kind.PAST, begin_s - 3600.0, begin_s)

    async def limited() -> Any:
        with anyio.fail_after(5.0):
            return await exchange.ask(source, window)

    in_time(clock, lambda: exchange.ask(source))
    error = in_time(clock, limited)
    assert isinstance(error, NotYetError)
    assert "this machine asked it a moment ago and may ask it again in 6" in str(error)
    assert exchange.state(source).word == "not asked"
    assert not exchange.is_left_alone(source)
    assert clock.wall_ns() * 1e-9 - begin_s < 5.0
    assert in_time(clock, lambda: exchange.ask(source, window)).samples  # who has time waits for the turn


def test_a_source_that_may_be_asked_again_at_once_is_given_a_moment() -> None:
    clock = FakeClock()
    failing = Failing(*(SourceDownError("busy", source="scripted", retry_after_s=0.0) for _ in range(2)))
    when: list[float] = []

    def note(now_s: float) -> Iterator[Row]:
        when.append(clock.monotonic_ns() * 1e-9)
        return failing(now_s)

    in_time(clock, lambda: exchange_of(clock).ask(ScriptedSource(note)))
    assert len(when) == 3
    assert min(b - a for a, b in itertools.pairwise(when)) >= 0.5


def test_offline_asks_nothing_and_gives_what_is_still_the_newest(tmp_path: Path) -> None:
    clock, source = FakeClock(), ScriptedSource(five_minutes)
    cut_off = exchange_of(clock, tmp_path, is_offline=True)
    assert isinstance(in_time(clock, lambda: cut_off.ask(source)), SourceDownError)
    assert source.asked == []
    in_time(clock, lambda: exchange_of(clock, tmp_path).ask(source))
    offline = exchange_of(clock, tmp_path, is_offline=True)
    assert in_time(clock, lambda: offline.ask(source)).samples
    clock.skip(2 * STEP_S)
    assert isinstance(in_time(clock, lambda: offline.ask(source)), SourceDownError)
    assert in_time(clock, lambda: offline.last(source)).samples
    assert len(source.asked) == 1


def test_processes_share_answers_and_failures(tmp_path: Path) -> None:
    clock, source = FakeClock(), ScriptedSource(five_minutes)
    first, second = exchange_of(clock, tmp_path), exchange_of(clock, tmp_path)
    mine = in_time(clock, lambda: first.ask(source))
    assert in_time(clock, lambda: second.ask(source)) == mine
    assert len(source.asked) == 1
    assert second.state(source).word == "from the cache"
    dead = ScriptedSource(Failing(*[SourceDownError("dead")] * 9), name="dead")
    in_time(clock, lambda: first.ask(dead))
    tries = len(dead.asked)
    assert "dead" in str(in_time(clock, lambda: second.ask(dead)))
    assert len(dead.asked) == tries


def test_a_refusal_is_not_told_to_other_processes(tmp_path: Path) -> None:
    clock = FakeClock()
    source = ScriptedSource(Failing(SourceRefusedError("no token", status=401)))
    in_time(clock, lambda: exchange_of(clock, tmp_path).ask(source))
    assert in_time(clock, lambda: exchange_of(clock, tmp_path).ask(source)).samples


def test_the_same_past_is_asked_for_once(tmp_path: Path) -> None:
    def past(begin_s: float, end_s: float) -> Iterator[Row]:
        yield begin_s, end_s, 5.0, Quality.LIVE

    clock, source = FakeClock(), ScriptedSource(five_minutes, past=past)
    question = Question(Kind.PAST, 1.79e9, 1.79e9 + 600)
    for _ in range(3):
        in_time(clock, lambda: exchange_of(clock, tmp_path).ask(source, question))
    assert source.asked == [("past", 1.79e9, 1.79e9 + 600)]


def test_what_is_found_out_once_is_kept_and_what_was_not_settled_for_a_shorter_time(tmp_path: Path) -> None:
    clock = FakeClock()
    found = iter([("", "they disagree"), ("DK", ""), ("SE", "")])

    async def find() -> tuple[str, str]:
        return next(found)

    def ask() -> tuple[str, str, bool]:
        entry, is_fresh = in_time(clock, lambda: exchange_of(clock, tmp_path).remembered("place", 86400.0, find))
        return entry.place, entry.why, is_fresh

    assert ask() == ("", "they disagree", True)
    assert ask() == ("", "they disagree", False)
    clock.skip(1000.0)
    assert ask() == ("DK", "", True)
    clock.skip(80_000.0)
    assert ask() == ("DK", "", False)
    clock.skip(10_000.0)
    assert ask() == ("SE", "", True)


def test_who_fails_to_find_something_out_is_left_alone_for_growing_pauses_by_all_processes(tmp_path: Path) -> None:
    clock, asked = FakeClock(), []

    async def find() -> tuple[str, str]:
        asked.append(clock.wall_ns())
        if len(asked) < 12:
            raise SourceDownError("no route to host")
        return "DK", ""

    async def main() -> Any:
        for exchange in (exchange_of(clock, tmp_path), exchange_of(clock, tmp_path)):
            entry, _ = await exchange.remembered("place", 86400.0, find)
        return entry

    pauses_s = []
    while not (entry := in_time(clock, main)).place:
        assert entry.why == "no route to host"
        pauses_s.append(entry.not_before_s - clock.wall_ns() / 1e9)
        clock.skip(pauses_s[-1] + 0.1)
    assert len(asked) == 12
    assert pauses_s[:5] == pytest.approx([30.0, 60.0, 120.0, 240.0, 480.0], rel=0.26)
    assert max(pauses_s) <= 900.0 * 1.25
    assert (entry.why, entry.failures) == ("", 0)


@pytest.mark.parametrize("at", [0.0, 59.9, 60.0, 61.0, 1799.0, 1860.0])
def test_the_next_instant_lies_ahead_and_on_the_grid(at: float) -> None:
    when = next_s(at, 1800.0, 60.0)
    assert at < when <= at + 1800.0
    assert (when - 60.0) % 1800.0 == 0.0


# -- the folder ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", '{"schema":"other"}', "{}", '{"schema":"aiocarbon.intensity/1","key":"k"}', "[" * 5000],
)
def test_a_file_that_is_torn_or_foreign_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    cache = Cache(tmp_path)
    assert cache.write("k", Entry(asked_s=1.0, due_s=2.0))
    (path,) = tmp_path.glob("q-*.json")
    path.write_text(text)
    assert cache.read("k") is None


@pytest.mark.parametrize(
    "sample", [[1, 2, -1, "live"], [1, 2, 1e9, "live"], [2, 1, 5, "live"], [1, 2, 5, "x"], [1, 2, None, "live"], [1]]
)
def test_a_value_out_of_range_in_the_folder_is_not_believed(tmp_path: Path, sample: list[Any]) -> None:
    clock, source = FakeClock(), ScriptedSource(five_minutes)
    in_time(clock, lambda: exchange_of(clock, tmp_path).ask(source))
    (path,) = tmp_path.glob("q-*.json")
    plain = json.loads(path.read_text())
    plain["answer"]["samples"] = [sample]
    path.write_text(json.dumps(plain))
    assert in_time(clock, lambda: exchange_of(clock, tmp_path).last(source)) is None
    in_time(clock, lambda: exchange_of(clock, tmp_path).ask(source))
    assert len(source.asked) == 2


@pytest.mark.parametrize(
    ("field", "number"),
    [
        ("failures", "1e999"), ("failures", "-1"), ("failures", "true"), ("asked_s", "1" * 400),
        ("failed_s", "-1e999"), ("due_s", "9" * 400), ("due_s", "4e12"), ("not_before_s", "4e12"),
        ("whole", "[1, 1e999]"),
    ],
)  # fmt: skip
def test_a_number_out_of_range_in_the_folder_is_not_believed(tmp_path: Path, field: str, number: str) -> None:
    clock, source = FakeClock(), ScriptedSource(five_minutes)
    in_time(clock, lambda: exchange_of(clock, tmp_path).ask(source))
    (path,) = tmp_path.glob("q-*.json")
    text, changed = re.subn(f'"{field}":[^,}}]+', f'"{field}":{number}', path.read_text())
    assert changed == 1
    path.write_text(text)
    assert in_time(clock, lambda: exchange_of(clock, tmp_path).last(source)) is None
    in_time(clock, lambda: exchange_of(clock, tmp_path).ask(source))
    assert len(source.asked) == 2


def test_a_value_that_holds_for_a_year_is_asked_for_again_the_next_day(tmp_path: Path) -> None:
    clock = FakeClock()
    source = ScriptedSource(lambda now_s: [(now_s - 10.0, now_s + 366 * 86400.0, 42.0, Quality.LIVE)], step_s=3600.0)
    exchange = exchange_of(clock, tmp_path)
    in_time(clock, lambda: exchange.ask(source))
    assert 86000.0 < exchange.due_s(source) - exchange.now_s < 87000.0
    assert in_time(clock, lambda: exchange_of(clock, tmp_path).last(source)) is not None


@pytest.mark.parametrize("whole", [None, (1.0, 5.0)])
def test_what_an_answer_is_all_of_is_kept_with_it(tmp_path: Path, whole: tuple[float, float] | None) -> None:
    clock = FakeClock()
    answer = replace(in_time(clock, lambda: exchange_of(clock).ask(ScriptedSource(five_minutes))), whole=whole)
    assert Cache(tmp_path).write("key", Entry(answer=answer))
    entry = Cache(tmp_path).read("key")
    assert entry is not None
    assert entry.answer == answer


def test_a_folder_that_cannot_be_written_costs_only_the_sharing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    clock, source = FakeClock(), ScriptedSource(five_minutes)
    exchange = exchange_of(clock, tmp_path / "file" / "cache")
    assert in_time(clock, lambda: exchange.ask(source)).samples
    assert in_time(clock, lambda: exchange.ask(source)).samples
    assert len(source.asked) == 1


def test_answers_from_a_clock_that_was_wrong_are_asked_for_again(tmp_path: Path) -> None:
    clock, source = FakeClock(), ScriptedSource(five_minutes)
    in_time(clock, lambda: exchange_of(clock, tmp_path).ask(source))
    clock.set_wall(-7200.0)  # what is in the folder was asked in the future
    in_time(clock, lambda: exchange_of(clock, tmp_path).ask(source))
    assert len(source.asked) == 2


def test_what_is_old_is_tidied_away(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.write("old", Entry())
    cache.write("new", Entry())
    (tmp_path / "theirs.json").write_text("")
    (old,) = [p for p in tmp_path.glob("q-*.json") if json.loads(p.read_text())["key"] == "old"]
    os.utime(old, (1.0, 1.0))
    os.utime(tmp_path / "theirs.json", (1.0, 1.0))
    cache.tidy()
    assert cache.read("old") is None
    assert cache.read("new") is not None
    assert (tmp_path / "theirs.json").exists()


ASKER = """
import os, sys, time
from pathlib import Path
import anyio
from aiocarbon._core.intensity import Quality
from aiocarbon._engine.clock import SystemClock
from aiocarbon._engine.exchange import Exchange
from aiocarbon.intensity.cache import Cache
from aiocarbon.intensity.client import Client
from aiocarbon.testing import ScriptedSource

folder = Path(sys.argv[1])

def now(now_s):
    with (folder / "asked").open("a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(0.3)  # an answer takes its time, so that the others come while it is on its way
    yield now_s - 10, now_s + 600, 42.0, Quality.LIVE

async def blocking(function, *args):
    return await anyio.to_thread.run_sync(function, *args)

async def main():
    exchange = Exchange(SystemClock(), Client(blocking), Cache(folder / "cache"), blocking)
    source = ScriptedSource(now, step_s=600.0, stale_s=6000.0)
    sys.stdin.readline()
    print((await exchange.ask(source)).samples[0].g_per_kwh, flush=True)

anyio.run(main)
"""


def test_many_processes_ask_once(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ASKER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(12)
    ]
    for process in processes:  # all of them at once
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=50)[0].strip() for process in processes]
    assert answers == ["42.0"] * 12
    assert len((tmp_path / "asked").read_text().splitlines()) == 1


def test_a_process_that_dies_while_it_asks_holds_nobody(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom aiocarbon.intensity.cache import Cache\n"
        "lock = Cache(Path(sys.argv[1])).lock('k')\nprint('held', flush=True)\ntime.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    assert Cache(tmp_path).lock("k") is None
    child.kill()
    child.communicate()
    assert Cache(tmp_path).lock("k") is not None


def test_the_default_folder_is_the_users_and_can_be_named_or_forgone() -> None:
    from aiocarbon.intensity.cache import default_folder

    assert default_folder({"AIOCARBON_CACHE": "none"}) is None
    assert default_folder({"AIOCARBON_CACHE": "/x"}) == Path("/x")
    assert default_folder({"XDG_CACHE_HOME": "/c"}, platform="linux") == Path("/c/aiocarbon/intensity")
    assert default_folder({"HOME": "/h", "XDG_CACHE_HOME": "rel"}, platform="linux") == Path(
        "/h/.cache/aiocarbon/intensity"
    )
    assert default_folder({}, platform="linux") is None
    assert NOW.kind is Kind.NOW

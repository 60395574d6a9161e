"""`attribution="cpu"`: each coroutine's own steps, on real loops, against what each task says of its own CPU time."""

# ruff: noqa: TID251  # tasks and threads as users make them are what is followed here

from __future__ import annotations

import asyncio
import gc
import inspect
import threading
import time
import traceback
import weakref
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from typing import Any

import pytest
import trio
import uvloop

import aiocarbon
import aiocarbon.sync
from aiocarbon._core.edges import CLOSE, OPEN, SPEND
from aiocarbon._engine.cpuclock import MOST_STRANGERS, NOBODYS
from aiocarbon._engine.steps import Stepped
from aiocarbon._engine.tape import Tape
from aiocarbon.span import Span

Main = Callable[[], Coroutine[Any, Any, Any]]
Run = Callable[[Main], Any]

NEAR = 0.15
"""CPU time holds also on a busy machine; what is between two clock reads is not all the burner's own."""

UNIT = 1000
"""Rounds of work of about half a millisecond."""


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine function in a loop of its own."""
    return (lambda main: asyncio.run(main())) if request.param == "asyncio" else (lambda main: uvloop.run(main()))


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """A turn of the collector takes as long as many of these steps, and belongs to whichever it falls into."""
    gc.disable()
    yield
    gc.enable()


def burn(rounds: int = UNIT) -> int:
    """Do so many rounds of work.

    Returns:
        The thread CPU time it took, nanoseconds.
    """
    begin, x = time.thread_time_ns(), 1
    for _ in range(rounds):
        for i in range(10):
            x = (x * 31 + i) % 65_521
    return time.thread_time_ns() - begin


class Counted:
    """A tape that counts steps, and what has been told of them."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.tape = Tape(lambda: None, lambda: None)
        self.tape.count_steps(self.notes.append)
        self.tape.begin()
        self.names: dict[int, str] = {NOBODYS: ""}
        self.spent: dict[str, int] = defaultdict(int)
        self.true: dict[str, int] = defaultdict(int)
        self.opened: set[int] = set()

    def span(self, name: str) -> Span:
        return Span(self.tape, name, None, None, {})

    def burn(self, name: str, rounds: int = UNIT) -> None:
        self.true[name] += burn(rounds)

    def take(self) -> dict[str, int]:
        """Take all that was told, as the engine does; "" is nobody's."""
        edges = self.tape.take(10**6)
        edges += self.tape.amounts(self.tape.now())
        for edge in sorted(edges):
            if edge[1] == OPEN:
                self.names[edge[2]] = edge[3]
                self.opened.add(edge[2])
            elif edge[1] == CLOSE:
                self.opened.discard(edge[2])
            elif edge[1] == SPEND:
                assert edge[2] == NOBODYS or edge[2] in self.opened  # never of a span that is not open
                assert edge[3] > 0
                self.spent[self.names[edge[2]]] += edge[3]
        return self.spent

    def check(self, near: float = NEAR) -> None:
        """All spans were told what they know to have spent."""
        spent = {name: amount for name, amount in self.take().items() if name}
        assert spent == pytest.approx(dict(self.true), rel=near)


async def actor(counted: Counted, name: str, rounds: int, steps: int = 20) -> None:
    with counted.span(name):
        for _ in range(steps):
            counted.burn(name, rounds)
            await asyncio.sleep(0)


# -- steps -----------------------------------------------------------------------------------------------------


def test_each_task_s_span_is_charged_its_own_steps(run: Run) -> None:
    counted = Counted()

    async def main() -> None:
        counted.tape.follow()
        async with asyncio.TaskGroup() as group:
            group.create_task(actor(counted, "A", 2 * UNIT))
            group.create_task(actor(counted, "B", 6 * UNIT))
            group.create_task(actor(counted, "C", UNIT))

    run(main)
    counted.check()


def test_of_nested_spans_the_innermost_is_charged(run: Run) -> None:
    counted = Counted()

    async def worker() -> None:
        with counted.span("outer"):
            for _ in range(10):
                counted.burn("outer", UNIT)
                with counted.span("inner"):
                    counted.burn("inner", 3 * UNIT)
                    await asyncio.sleep(0)
                    counted.burn("inner", UNIT)
                    await child()
                await asyncio.sleep(0)
                counted.burn("outer", UNIT)

    async def child() -> None:
        async with counted.span("innermost"):
            counted.burn("innermost", 2 * UNIT)
            await asyncio.sleep(0)

    async def main() -> None:
        counted.tape.follow()
        await asyncio.gather(worker(), worker())

    run(main)
    counted.check()


def test_a_task_begun_inside_a_span_is_that_span_s_until_it_closes(run: Run) -> None:
    counted = Counted()

    async def helper(closed: asyncio.Event) -> None:
        for _ in range(10):
            counted.burn("around")
            await asyncio.sleep(0)
        await closed.wait()
        burn(10 * UNIT)  # of nobody's span any more

    async def main() -> None:
        counted.tape.follow()
        closed = asyncio.Event()

        async def parent() -> asyncio.Task[None]:
            with counted.span("around"):
                task = asyncio.create_task(helper(closed))
                for _ in range(20):
                    await asyncio.sleep(0)
            closed.set()
            return task

        await (await asyncio.create_task(parent()))

    run(main)
    counted.check()


def test_the_task_that_entered_the_tracker_is_told_apart_from_others_steps(run: Run) -> None:
    counted = Counted()

    async def main() -> None:
        counted.tape.follow()
        async with asyncio.TaskGroup() as group:
            group.create_task(actor(counted, "A", 2 * UNIT, 30))
            group.create_task(actor(counted, "B", UNIT, 30))
            with counted.span("learner"):
                for i in range(20):
                    counted.burn("learner", 3 * UNIT)
                    await (asyncio.sleep(0) if i % 2 else asyncio.sleep(0.002))
                with counted.span("update"):
                    counted.burn("update", 20 * UNIT)
                    await asyncio.sleep(0.002)
                    counted.burn("update", 20 * UNIT)
                counted.burn("learner", 3 * UNIT)

    run(main)
    counted.check()
    assert not counted.notes


def test_while_the_task_that_entered_waits_others_do_not_pay_into_its_span(run: Run) -> None:
    counted = Counted()

    async def bare() -> None:
        for _ in range(10):
            burn(2 * UNIT)
            await asyncio.sleep(0)

    async def main() -> None:
        counted.tape.follow()
        with counted.span("waits"):
            async with asyncio.TaskGroup() as group:
                group.create_task(actor(counted, "A", 2 * UNIT))
        with counted.span("busy"):
            counted.burn("busy", 20 * UNIT)

    run(main)
    spent = counted.take()
    assert spent["waits"] < 0.1 * spent["A"]
    assert spent["busy"] == pytest.approx(counted.true["busy"], rel=NEAR)


def test_of_two_tasks_that_cannot_be_followed_nobody_is_charged_for_what_could_be_either_s(run: Run) -> None:
    counted = Counted()

    async def main() -> None:
        others = [asyncio.create_task(actor(counted, name, 2 * UNIT)) for name in ("A", "B")]
        counted.tape.follow()
        await asyncio.gather(*others)

    run(main)
    spent = counted.take()
    for name in ("A", "B"):
        assert spent[name] <= counted.true[name] * (1 + NEAR)
    assert "enter the tracker (async with) before" in counted.notes[0]


def test_a_crowd_of_tasks_that_cannot_be_followed_costs_no_more_and_is_told(run: Run) -> None:
    counted = Counted()

    async def main() -> None:
        others = [asyncio.create_task(actor(counted, f"a{i}", 1)) for i in range(10 * MOST_STRANGERS)]
        counted.tape.follow()
        for _ in range(5):
            await asyncio.sleep(0)
        clock = counted.tape.steps.clock() if counted.tape.steps else None
        assert clock is not None
        assert clock.is_crowd
        assert len(clock.strangers) == MOST_STRANGERS
        await asyncio.gather(*others)
        assert not clock.is_crowd
        assert not clock.strangers
        await asyncio.create_task(actor(counted, "followed", UNIT))

    run(main)
    assert counted.take()["followed"] == pytest.approx(counted.true["followed"], rel=NEAR)
    assert len(set(counted.notes)) == 1


def test_code_outside_of_spans_is_told_while_one_is_open_and_not_else(run: Run) -> None:
    counted = Counted()

    async def bare(n: int) -> None:
        for _ in range(n):
            counted.burn("", 2 * UNIT)
            await asyncio.sleep(0)

    async def main() -> None:
        counted.tape.follow()
        await asyncio.create_task(bare(20))
        counted.true.clear()
        opened, done = asyncio.Event(), asyncio.Event()

        async def idle() -> None:
            with counted.span("idle"):
                opened.set()
                await done.wait()

        task = asyncio.create_task(idle())
        await opened.wait()
        await asyncio.create_task(bare(10))
        done.set()
        await task
        true = counted.true[""]
        await asyncio.create_task(bare(20))
        counted.true[""] = true

    run(main)
    spent = counted.take()
    assert spent[""] == pytest.approx(counted.true[""], rel=2 * NEAR)
    assert spent["idle"] < 0.2 * spent[""]


# -- coroutines stay what they are -----------------------------------------------------------------------------


def test_results_errors_and_cancellation_go_through_and_their_steps_count(run: Run) -> None:
    counted = Counted()
    seen: list[str] = []

    async def gives() -> int:
        with counted.span("gives"):
            counted.burn("gives", 20 * UNIT)
            await asyncio.sleep(0)
            return 42

    async def fails() -> None:
        with counted.span("fails"):
            counted.burn("fails", 20 * UNIT)
            await asyncio.sleep(0)
            raise KeyError("x")

    async def waits() -> None:
        with counted.span("waits"):
            try:
                counted.burn("waits", 20 * UNIT)
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                seen.append("cancelled")
                counted.burn("waits", 20 * UNIT)
                raise

    async def main() -> None:
        counted.tape.follow()
        given = asyncio.create_task(gives())
        failed = asyncio.create_task(fails())
        cancelled = asyncio.create_task(waits())
        assert {given, failed, cancelled} <= asyncio.all_tasks()
        for _ in range(5):
            await asyncio.sleep(0)
        cancelled.cancel("enough")
        found = await asyncio.gather(given, failed, cancelled, return_exceptions=True)
        assert found[0] == 42
        assert isinstance(found[1], KeyError)
        assert "fails" in [frame.name for frame in traceback.extract_tb(found[1].__traceback__)]
        assert isinstance(found[2], asyncio.CancelledError)
        assert cancelled.cancelled()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.create_task(asyncio.sleep(3600)), 0.001)
        with pytest.raises(ExceptionGroup, match="unhandled"):
            async with asyncio.TaskGroup() as group:
                group.create_task(fails())
                group.create_task(waits())

    run(main)
    assert seen == ["cancelled", "cancelled"]
    counted.check()


def test_a_wrapped_coroutine_shows_the_one_inside(run: Run) -> None:
    counted = Counted()

    async def named() -> None:
        await asyncio.sleep(3600)

    async def main() -> None:
        counted.tape.follow()
        task = asyncio.create_task(named(), name="mine")
        await asyncio.sleep(0)
        coro = task.get_coro()
        assert isinstance(coro, Stepped)
        assert asyncio.iscoroutine(coro)
        assert inspect.isawaitable(coro)
        assert "named()" in repr(task)
        assert "test_cpu_policy.py" in repr(task)
        assert task.get_name() == "mine"
        assert [frame.f_code.co_name for frame in task.get_stack()] == ["named"]
        assert inspect.getcoroutinestate(coro) == inspect.CORO_SUSPENDED
        assert coro.cr_await is not None
        task.cancel()
        await asyncio.wait([task])
        assert inspect.getcoroutinestate(coro) == inspect.CORO_CLOSED

    run(main)


def test_it_is_driven_like_a_coroutine() -> None:
    counted = Counted()
    steps = counted.tape.steps
    assert steps is not None
    told: list[Any] = []

    class Bare:
        def __await__(self) -> Generator[str, Any, None]:
            told.append((yield "first"))
            try:
                yield "second"
            except ValueError:
                yield "third"

    async def inner() -> str:
        await Bare()
        return "end"

    coro = Stepped(inner(), steps)
    assert coro.send(None) == "first"
    assert coro.send("hello") == "second"
    assert coro.throw(ValueError()) == "third"
    with pytest.raises(StopIteration) as stop:
        coro.send(None)
    assert stop.value.value == "end"
    assert told == ["hello"]
    with pytest.raises(RuntimeError, match="cannot reuse"):
        coro.send(None)

    closed = Stepped(inner(), steps)
    closed.send(None)
    closed.close()
    assert closed.cr_frame is None

    async def outer() -> Any:
        return await Stepped(inner(), steps)

    awaited = outer()
    assert awaited.send(None) == "first"
    assert awaited.send("there") == "second"
    assert awaited.throw(ValueError()) == "third"
    with pytest.raises(StopIteration, match="end"):
        awaited.send(None)


def test_nothing_of_a_task_that_has_ended_is_kept(run: Run) -> None:
    counted = Counted()

    class Big:
        pass

    kept: list[weakref.ref[Any]] = []

    async def holds() -> None:
        big = Big()
        kept.append(weakref.ref(big))
        with counted.span("a"):
            await asyncio.sleep(0)
        raise ValueError(str(big))

    async def main() -> None:
        counted.tape.follow()
        await asyncio.gather(*(asyncio.create_task(holds()) for _ in range(3)), return_exceptions=True)

    run(main)
    gc.collect()
    assert [reference() for reference in kept] == [None] * 3


def test_async_generators_and_decorated_ones_pay_for_themselves_only(run: Run) -> None:
    counted = Counted()

    @counted.span("produce")
    async def produce() -> AsyncIterator[int]:
        for i in range(10):
            counted.burn("produce", 2 * UNIT)
            await asyncio.sleep(0)
            yield i

    @counted.span("consume")
    async def consume() -> None:
        async for _ in produce():
            counted.burn("consume", 4 * UNIT)
            await asyncio.sleep(0)

    async def main() -> None:
        counted.tape.follow()
        await asyncio.gather(asyncio.create_task(consume()), asyncio.create_task(actor(counted, "other", UNIT)))

    run(main)
    counted.check()


# -- factories -------------------------------------------------------------------------------------------------


def test_the_factory_that_was_there_makes_the_tasks_and_comes_back(run: Run) -> None:
    counted = Counted()
    made: list[str] = []

    class Mine(asyncio.Task[Any]):
        pass

    def factory(loop: Any, coro: Any, **more: Any) -> Any:
        made.append(type(coro).__name__)
        return Mine(coro, loop=loop, **more)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(factory)
        counted.tape.follow()
        task = asyncio.create_task(actor(counted, "A", UNIT))
        assert type(task) is Mine
        await task
        counted.tape.end()
        assert loop.get_task_factory() is factory
        await asyncio.create_task(asyncio.sleep(0))

    run(main)
    assert made[0] == "Stepped"
    assert "Stepped" not in made[1:]
    counted.check()


def test_a_factory_that_wraps_coroutines_in_its_own_leaves_them_counted(run: Run) -> None:
    counted = Counted()

    def factory(loop: Any, coro: Any, **more: Any) -> Any:
        async def traced() -> Any:
            return await coro

        return asyncio.Task(traced(), loop=loop, **more)

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        counted.tape.follow()
        await asyncio.gather(actor(counted, "A", 3 * UNIT), actor(counted, "B", UNIT))

    run(main)
    counted.check()


def test_tasks_that_begin_at_once_inside_another_s_step_pay_for_themselves(run: Run) -> None:
    counted = Counted()

    is_eager = False

    def eager(loop: Any, coro: Any, **more: Any) -> Any:
        if is_eager:
            coro.send(None)  # as asyncio.eager_task_factory does since 3.12
        return asyncio.Task(coro, loop=loop, **more)

    async def quick() -> None:
        with counted.span("quick"):
            counted.burn("quick", 3 * UNIT)
            await asyncio.sleep(0)
            counted.burn("quick", 3 * UNIT)

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(eager)
        counted.tape.follow()

        async def slow() -> None:
            nonlocal is_eager
            with counted.span("slow"):
                counted.burn("slow", 20 * UNIT)
                is_eager = True
                tasks = [asyncio.create_task(quick()) for _ in range(5)]
                is_eager = False
                counted.burn("slow", 20 * UNIT)
                await asyncio.gather(*tasks)
                counted.burn("slow", 20 * UNIT)

        await asyncio.create_task(slow())

    run(main)
    counted.check()


def test_a_factory_set_later_stays_and_the_old_one_only_passes_on(run: Run) -> None:
    counted = Counted()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        counted.tape.follow()
        ours = loop.get_task_factory()
        assert ours is not None

        def later(loop: Any, coro: Any, **more: Any) -> Any:
            return ours(loop, coro, **more)

        loop.set_task_factory(later)
        counted.tape.end()
        assert loop.get_task_factory() is later
        task = asyncio.create_task(asyncio.sleep(0, "still"))
        assert not isinstance(task.get_coro(), Stepped)
        assert await task == "still"

    run(main)


def test_what_is_no_coroutine_is_refused_as_ever(run: Run) -> None:
    counted = Counted()

    async def main() -> None:
        counted.tape.follow()
        with pytest.raises(TypeError, match="coroutine"):
            asyncio.get_running_loop().create_task(42)  # type: ignore[arg-type]

    run(main)


def test_a_loop_that_takes_no_factory_is_told_and_left_alone() -> None:
    class Stubborn(asyncio.SelectorEventLoop):
        def set_task_factory(self, factory: Any) -> None:
            raise NotImplementedError("no factories here")

    counted = Counted()

    async def main() -> None:
        counted.tape.follow()
        await asyncio.create_task(actor(counted, "A", UNIT))
        counted.tape.end()

    with asyncio.Runner(loop_factory=Stubborn) as runner:
        runner.run(main())
    assert any("Stubborn takes no task factory" in note for note in counted.notes)
    assert counted.take()["A"] <= counted.true["A"] * (1 + NEAR)


def test_tasks_go_on_after_the_run_and_nothing_is_recorded(run: Run) -> None:
    counted = Counted()

    async def main() -> None:
        counted.tape.follow()
        ended = asyncio.Event()

        async def longer() -> str:
            with counted.span("longer"):
                counted.burn("longer", 20 * UNIT)
                await ended.wait()
                burn(50 * UNIT)
                await asyncio.sleep(0)
                return "done"

        task = asyncio.create_task(longer())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        counted.tape.end()
        ended.set()
        assert await task == "done"
        assert asyncio.get_running_loop().get_task_factory() is None

    run(main)
    counted.check()


def test_a_forked_child_leaves_the_loop_alone_and_keeps_nothing(run: Run) -> None:
    counted = Counted()

    async def main() -> None:
        counted.tape.follow()
        loop = asyncio.get_running_loop()
        ours = loop.get_task_factory()
        counted.tape.forget()  # as after a fork
        assert loop.get_task_factory() is ours
        task = asyncio.create_task(asyncio.sleep(0, 7))
        assert not isinstance(task.get_coro(), Stepped)
        assert await task == 7

    run(main)


@pytest.mark.parametrize("first", [0, 1])
def test_two_runs_at_once_each_count_their_own(run: Run, first: int) -> None:
    runs = [Counted(), Counted()]

    async def both(rounds: int) -> None:
        for _ in range(10):
            with runs[0].span("one"):
                runs[0].burn("one", UNIT)
                with runs[1].span("two"):
                    took = burn(rounds)
                    runs[0].true["one"] += took  # of its spans the innermost still
                    runs[1].true["two"] += took
                    await asyncio.sleep(0)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for counted in runs:
            counted.tape.follow()
        await asyncio.gather(both(4 * UNIT), both(UNIT))
        runs[first].tape.end()
        await asyncio.create_task(asyncio.sleep(0))
        runs[1 - first].tape.end()
        assert loop.get_task_factory() is None

    run(main)
    for counted in runs:
        counted.check()


# -- threads and plain code ------------------------------------------------------------------------------------


def test_plain_code_is_told_between_the_edges_of_its_spans() -> None:
    counted = Counted()
    for _ in range(10):
        burn(2 * UNIT)
        with counted.span("train"):
            counted.burn("train", 2 * UNIT)
            with counted.span("backward"):
                counted.burn("backward", 4 * UNIT)
            counted.burn("train", UNIT)
    counted.check()
    assert "" not in counted.spent


def test_spans_left_in_another_order_or_thread_pay_for_nothing_else() -> None:
    counted = Counted()
    a, b = counted.span("a"), counted.span("b")
    a.__enter__()
    counted.burn("a", 20 * UNIT)
    b.__enter__()
    counted.burn("b", 20 * UNIT)
    a.__exit__(None, None, None)
    thread = threading.Thread(target=b.__exit__, args=(None, None, None))
    thread.start()
    thread.join()
    burn(20 * UNIT)
    with counted.span("c"):
        counted.burn("c", 20 * UNIT)
    counted.check()


def test_threads_count_where_the_span_is_entered_inside_them(run: Run) -> None:
    counted = Counted()

    def inside() -> None:
        for _ in range(5):
            with counted.span("thread"):
                counted.burn("thread", 4 * UNIT)

    async def main() -> None:
        counted.tape.follow()

        async def hands_on() -> None:
            with counted.span("around"):
                counted.burn("around", 20 * UNIT)
                await asyncio.to_thread(inside)
                await asyncio.to_thread(burn, 20 * UNIT)

        await asyncio.gather(hands_on(), actor(counted, "A", UNIT))

    run(main)
    counted.check()


@pytest.mark.skipif(not hasattr(time, "pthread_getcpuclockid"), reason="no CPU clock of another thread here")
def test_a_long_step_is_told_while_it_goes_on(run: Run) -> None:
    counted = Counted()
    enough = threading.Event()
    seen: list[int] = []

    def engine() -> None:
        before = 0
        while len(seen) < 3:
            now = counted.take()["long"]
            if now > before:
                seen.append(now)
                before = now
        enough.set()

    async def main() -> None:
        counted.tape.follow()
        thread = threading.Thread(target=engine)

        async def long() -> None:
            with counted.span("long"):
                thread.start()
                while not enough.is_set():
                    counted.burn("long", UNIT)
                counted.burn("long", UNIT)

        await asyncio.create_task(long())
        thread.join()

    run(main)
    assert seen[0] < seen[1] < seen[2]
    counted.take()
    assert counted.spent["long"] >= counted.true["long"] * (1 - NEAR)


def test_threads_that_come_and_go_leave_no_book() -> None:
    counted = Counted()

    def inside() -> None:
        with counted.span("thread"):
            counted.burn("thread")

    for _ in range(50):
        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
    gc.collect()
    counted.check()
    counted.take()
    steps = counted.tape.steps
    assert steps is not None
    assert len(steps._threads) <= 1  # the private list is what could grow


def test_thousands_of_spans_leave_nothing_in_the_books(run: Run) -> None:
    counted = Counted()

    async def main() -> None:
        counted.tape.follow()

        async def brief() -> None:
            with counted.span("brief"):
                await asyncio.sleep(0)

        for _ in range(20):
            await asyncio.gather(*(brief() for _ in range(100)))
            counted.take()
        async with asyncio.TaskGroup() as group:
            group.create_task(brief())
        with counted.span("last"):
            pass

    run(main)
    counted.take()
    steps = counted.tape.steps
    assert steps is not None
    assert sum(len(book.spent) for _, book in steps._threads) < 10
    assert not steps._open_ids
    assert not steps._known


# -- trio ------------------------------------------------------------------------------------------------------


def test_trio_tells_the_steps_of_all_its_tasks() -> None:
    counted = Counted()

    async def one(name: str, rounds: int) -> None:
        with counted.span(name):
            for _ in range(20):
                counted.burn(name, rounds)
                await trio.lowlevel.checkpoint()

    async def main() -> None:
        counted.tape.follow()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, "A", 2 * UNIT)
            nursery.start_soon(one, "B", 4 * UNIT)
            await one("main", 3 * UNIT)
        counted.tape.end()
        for _ in range(3):
            burn(UNIT)
            await trio.lowlevel.checkpoint()

    trio.run(main)
    counted.check()
    assert not counted.notes


# -- whole runs ------------------------------------------------------------------------------------------------


def tracker(**more: Any) -> aiocarbon.Tracker:
    settings = {"attribution": "cpu,floor_w=50", **more}
    return aiocarbon.Tracker(meters="simulated:250", intensity=100, location="DE", journal=None, **settings)


def test_a_run_s_energy_is_split_by_the_steps_and_adds_up(run: Run) -> None:
    counted: dict[str, int] = defaultdict(int)

    async def main() -> aiocarbon.RunReport:
        async with tracker() as t:

            async def one(name: str, rounds: int) -> None:
                with t.span(name):
                    for _ in range(40):
                        counted[name] += burn(rounds)
                        await asyncio.sleep(0)

            async def waits() -> None:
                with t.span("waits"):
                    await done.wait()

            done = asyncio.Event()
            waiting = asyncio.create_task(waits())
            await asyncio.gather(one("A", 2 * UNIT), one("B", 6 * UNIT), one("C", UNIT))
            done.set()
            await waiting
        assert asyncio.get_running_loop().get_task_factory() is None
        return t.report()

    report = run(main)
    energy = {span.name: span.it_energy_kwh for span in report.spans}
    total = sum(energy.values())
    true = sum(counted.values())
    for name, amount in counted.items():
        assert energy[name] / total == pytest.approx(amount / true, rel=0.2)
    assert energy["waits"] < 0.02 * total
    assert report.attribution is not None
    assert report.attribution.policy == "cpu"
    assert total + report.unattributed.it_energy_kwh == pytest.approx(report.it_energy_kwh, rel=1e-9)
    assert total > 0.5 * (report.it_energy_kwh - report.unattributed.idle.it_energy_kwh)
    assert not [note for note in report.warnings if "edges" in note or "attribution=cpu" in note]


def test_a_blocking_run_followed_into_a_loop_and_a_plain_one() -> None:
    with aiocarbon.sync.Tracker(meters="simulated:250", intensity=100, location="DE", attribution="cpu") as t:

        async def main() -> None:
            with t.span("main"):
                burn()

                async def inner(name: str) -> None:
                    with t.span(name):
                        for _ in range(5):
                            burn(2 * UNIT)
                            await asyncio.sleep(0)

                await asyncio.gather(inner("A"), inner("B"))

        asyncio.run(main())
        with t.span("plain"):
            burn(20 * UNIT)
    report = t.report()
    energy = {span.name: span.it_energy_kwh for span in report.spans}
    assert set(energy) == {"main", "A", "B", "plain"}
    assert min(energy["A"], energy["B"], energy["plain"]) > 0.0
    total = sum(energy.values()) + report.unattributed.it_energy_kwh
    assert total == pytest.approx(report.it_energy_kwh, rel=1e-9)


def test_other_policies_leave_the_loop_alone(run: Run) -> None:
    async def main() -> None:
        async with tracker(attribution="even") as t:
            assert asyncio.get_running_loop().get_task_factory() is None
            assert t._tape.steps is None

    run(main)


def test_a_tracker_left_in_another_loop_s_thread_puts_the_factory_back(run: Run) -> None:
    counted = Counted()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        counted.tape.follow()
        await asyncio.to_thread(counted.tape.end)
        assert loop.get_task_factory() is None

    run(main)

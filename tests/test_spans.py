"""Spans and children as users meet them: on every loop, in threads, in the wrong place, oddly named; parts add up."""

# ruff: noqa: TID251  # users' tasks and threads are what spans follow

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import json
import math
import os
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest

from aiocarbon import Budget, BudgetExceededError, Tracker, UsageError, sync, track
from aiocarbon._core.spans import MAX_NAMES, MAX_PATHS, OTHER_NAMES
from aiocarbon._engine.children import KEPT_IN_ALL, MOST_CHILDREN, OTHER_CHILDREN
from aiocarbon.meters.simulated import Constant, SimulatedMeter
from aiocarbon.testing import ScriptedMeter
from tests.deadly import kill_engine

QUICK: dict[str, Any] = {"location": "DK", "pue": 1.5, "intensity": 100.0, "interval_s": 0.02}
BRIEFLY_S = 0.02
ODD_TEXTS = ["", "x" * 10_000, "a\nb\x00\x1b[31m", "züg\u202e🚂", "\ud800", " "]


class Stubborn:
    """Refuses whatever is asked of it."""

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__

    def __float__(self) -> float:
        raise RuntimeError("two elements")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("ambiguous")


def kind_of(value: object) -> str:
    return type(value).__name__


def watts() -> SimulatedMeter:
    return SimulatedMeter(wave=Constant(250.0), refresh_s=0.001)


def tracker_of(**more: Any) -> Tracker:
    return Tracker(meters=[watts()], **QUICK, **more)


def sync_tracker_of(**more: Any) -> sync.Tracker:
    return sync.Tracker(meters=[watts()], **QUICK, **more)


def named(report: Any) -> dict[str, Any]:
    return {span.name: span for span in report.spans}


def counts(report: Any) -> dict[str, int]:
    return {span.name: span.count for span in report.spans}


def notes(report: Any, what: str) -> list[str]:
    return [warning for warning in report.warnings if what in warning]


def check(report: Any) -> None:
    """Spans and what no span owns make the run, by the report's own figures; devices' parts likewise."""
    for field in ("it_energy_kwh", "energy_kwh", "co2eq_g"):
        parts = [getattr(part, field) for part in (*report.spans, report.unattributed)]
        assert all(part >= 0.0 for part in parts)
        assert math.fsum(parts) == pytest.approx(getattr(report, field), rel=1e-9, abs=1e-15)
    json.dumps(report.to_dict()).encode()


async def looked(tracker: Tracker) -> dict[str, Any]:
    """The spans of a snapshot, by name; the first of a run may come before its begin has been read."""
    while (report := await tracker.snapshot()).attribution is None:
        pass
    return named(report)


def lies_in(report: Any, inner: str, outer: str) -> bool:
    """Whether the spans of one name lie in that of another, which has none else inside."""
    own, with_children = named(report)[outer].it_energy_kwh, named(report)[outer].with_children.it_energy_kwh
    inside = named(report)[inner].it_energy_kwh
    assert inside > 0.0
    assert with_children == pytest.approx(own, rel=1e-9) or with_children == pytest.approx(own + inside, rel=1e-9)
    return bool(with_children > own + inside / 2)


def ran(body: Callable[[Tracker], Awaitable[object]], **more: Any) -> Any:
    """The final report of a run with a body, which adds up."""

    async def main() -> Any:
        async with tracker_of(**more) as tracker:
            await body(tracker)
        return tracker.report()

    report = asyncio.run(main())
    check(report)
    return report


# -- entering and leaving ----------------------------------------------------------------------------------------


def test_a_span_is_entered_before_the_tracker_in_vain_and_the_error_says_what_to_do() -> None:
    tracker = sync_tracker_of()
    span = tracker.span("early")
    with pytest.raises(UsageError, match="before the tracker was entered"), span:
        pass
    with tracker, span:
        pass
    assert counts(tracker.report()) == {"early": 1}


def test_a_span_after_the_tracker_is_nothing_and_one_left_after_it_ends_with_the_run() -> None:
    with sync_tracker_of(strict=True) as tracker:
        open_still = tracker.span("open")
        open_still.__enter__()
        entered_s = time.monotonic()
        time.sleep(BRIEFLY_S)
        open_s = time.monotonic() - entered_s
    before = tracker.report()
    open_still.__exit__(None, None, None)
    with tracker.span("after") as span:
        span.weigh(3.0)
    with span, span:
        pass
    assert tracker.report() is before
    check(before)
    assert (named(before)["open"].count, named(before)["open"].open) == (1, 0)
    assert open_s <= named(before)["open"].duration_s <= before.duration_s
    assert notes(before, "still open at the end")


def test_a_span_left_twice_or_without_being_entered_is_left_once() -> None:
    async def body(tracker: Tracker) -> None:
        span = tracker.span("twice")
        span.__exit__(None, None, None)
        async with span:
            await asyncio.sleep(BRIEFLY_S)
        span.__exit__(None, None, None)
        await span.__aexit__(None, None, None)
        with tracker.span("next"):
            await asyncio.sleep(BRIEFLY_S)

    report = ran(body)
    assert counts(report) == {"twice": 1, "next": 1}
    assert not lies_in(report, "next", "twice")
    assert not notes(report, "edges")


def test_a_span_entered_while_it_is_open_is_that_span_and_afterwards_another() -> None:
    with sync_tracker_of() as tracker:
        span = tracker.span("again")
        with span:
            with span:
                time.sleep(BRIEFLY_S)
            with tracker.span("inside"):
                time.sleep(BRIEFLY_S)
        with span:
            pass
    report = tracker.report()
    check(report)
    assert counts(report) == {"again": 2, "inside": 1}
    assert lies_in(report, "inside", "again")


def test_an_error_passes_through_a_span_unchanged() -> None:
    class OddError(Exception):
        pass

    error = OddError()

    async def body(tracker: Tracker) -> None:
        for _ in range(3):
            with pytest.raises(OddError) as caught:
                with tracker.span("outer"):
                    async with tracker.span("fails"):
                        raise error
            assert caught.value is error

    assert counts(ran(body)) == {"outer": 3, "fails": 3}


@pytest.mark.parametrize("where", ["task", "thread", "context"])
def test_a_span_may_be_left_elsewhere_than_it_was_entered(where: str) -> None:
    async def body(tracker: Tracker) -> None:
        span = tracker.span("moved")
        span.__enter__()
        await asyncio.sleep(BRIEFLY_S)

        async def leave() -> None:
            span.__exit__(None, None, None)

        if where == "task":
            await asyncio.create_task(leave())
        elif where == "thread":
            await asyncio.to_thread(span.__exit__, None, None, None)
        else:
            contextvars.Context().run(span.__exit__, None, None, None)
        with tracker.span("next"):
            await asyncio.sleep(BRIEFLY_S)
        assert {name: span.open for name, span in (await looked(tracker)).items()} == {"moved": 0, "next": 0}

    report = ran(body)
    assert not lies_in(report, "next", "moved")
    assert not notes(report, "open")


def test_a_span_that_outlives_the_one_it_was_opened_in_stands_in_the_one_around_both() -> None:
    async def body(tracker: Tracker) -> None:
        go_on = asyncio.Event()

        async def late() -> None:
            await go_on.wait()
            with tracker.span("late"):
                await asyncio.sleep(BRIEFLY_S)

        with tracker.span("outer"):
            with tracker.span("short"):
                task = asyncio.create_task(late())
                await asyncio.sleep(BRIEFLY_S)
            go_on.set()
            await task

    report = ran(body)
    late, short, outer = (named(report)[name] for name in ("late", "short", "outer"))
    assert short.with_children.it_energy_kwh == pytest.approx(short.it_energy_kwh)
    assert outer.with_children.it_energy_kwh == pytest.approx(
        outer.it_energy_kwh + short.it_energy_kwh + late.it_energy_kwh
    )
    assert not notes(report, "opened in a span")


def test_a_chain_of_tasks_each_begun_in_the_span_of_the_one_before_is_not_kept() -> None:
    alive: list[int] = []

    async def body(tracker: Tracker) -> None:
        is_over = asyncio.Event()

        async def link(left: int, is_open: asyncio.Event) -> None:
            with tracker.span("link"):
                is_open.set()
                if left:
                    next_open = asyncio.Event()
                    tasks.append(asyncio.create_task(link(left - 1, next_open)))
                    await next_open.wait()  # this one ends after the next has begun in it, and before that ends
                    tasks.pop(0)
                else:
                    gc.collect()
                    alive.append(sum(type(one).__name__ == "Span" for one in gc.get_objects()))
                    is_over.set()

        tasks: list[Any] = [asyncio.create_task(link(300, asyncio.Event()))]
        await is_over.wait()

    assert counts(ran(body)) == {"link": 301}
    assert alive[0] < 30


# -- abandoned ---------------------------------------------------------------------------------------------------


def test_a_span_that_nobody_holds_any_more_is_closed() -> None:
    with sync_tracker_of() as tracker:
        span = tracker.span("dropped")
        contextvars.Context().run(span.__enter__)
        while tracker.snapshot().attribution is None:
            pass
        assert named(tracker.snapshot())["dropped"].open == 1
        del span
        gc.collect()
        assert named(tracker.snapshot())["dropped"].open == 0
    check(tracker.report())
    assert not notes(tracker.report(), "open")


@pytest.mark.parametrize("how", ["cancelled", "failed", "returned"])
def test_a_span_that_its_task_left_open_closes_where_the_task_ended(how: str) -> None:
    unheard: list[Any] = []

    async def body(tracker: Tracker) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: unheard.append(context["message"]))
        is_open = asyncio.Event()

        async def forgets() -> None:
            tracker.span("outer").__enter__()
            tracker.span("inner").__enter__()
            is_open.set()
            if how == "cancelled":
                await asyncio.Event().wait()
            if how == "failed":
                raise ZeroDivisionError

        task = asyncio.create_task(forgets())
        await is_open.wait()
        if how == "cancelled":
            task.cancel()
        await asyncio.wait([task])
        del task
        gc.collect()
        await asyncio.sleep(0)
        await asyncio.sleep(5 * BRIEFLY_S)
        with tracker.span("afterwards"):
            await asyncio.sleep(BRIEFLY_S)

    report = ran(body)
    gc.collect()
    assert counts(report) == {"outer": 1, "inner": 1, "afterwards": 1}
    assert not notes(report, "open")
    outer, inner = named(report)["outer"], named(report)["inner"]
    assert outer.duration_s < report.duration_s - 5 * BRIEFLY_S
    assert outer.with_children.it_energy_kwh == pytest.approx(outer.it_energy_kwh + inner.it_energy_kwh)
    # Nobody asked for the task's error, and asyncio goes on to say so.
    assert unheard == (["Task exception was never retrieved"] if how == "failed" else [])


def test_a_span_that_a_task_passes_on_stays_open_when_the_task_returns() -> None:
    async def body(tracker: Tracker) -> None:
        async def makes() -> Any:
            return tracker.span("passed on").__enter__()

        span = await asyncio.create_task(makes())
        await asyncio.sleep(BRIEFLY_S)
        assert (await looked(tracker))["passed on"].open == 1
        span.__exit__(None, None, None)
        assert (await looked(tracker))["passed on"].open == 0

    ran(body)


# -- generators --------------------------------------------------------------------------------------------------


def test_a_span_around_the_yield_of_an_async_generator_that_is_broken_off_is_closed() -> None:
    async def body(tracker: Tracker) -> None:
        async def items() -> AsyncIterator[int]:
            for i in range(10):
                with tracker.span("item"):
                    yield i

        async for i in items():
            if i == 2:
                break
        gc.collect()
        await asyncio.sleep(BRIEFLY_S)  # asyncio closes what was broken off
        with tracker.span("after"):
            await asyncio.sleep(BRIEFLY_S)

    report = ran(body)
    assert counts(report) == {"item": 3, "after": 1}
    assert not notes(report, "open")
    assert not lies_in(report, "after", "item")


def test_what_a_consumer_does_between_the_items_of_a_decorated_generator_lies_outside() -> None:
    async def body(tracker: Tracker) -> None:
        @tracker.span("async items")
        async def items() -> AsyncIterator[int]:
            for i in range(3):
                await asyncio.sleep(0)
                yield i

        @tracker.span("items")
        def plainly() -> Iterator[int]:
            yield from range(3)

        async for _ in items():
            with tracker.span("consumer"):
                await asyncio.sleep(BRIEFLY_S)
            if _ == 1:
                break
        for _ in plainly():
            with tracker.span("consumer"):
                await asyncio.sleep(BRIEFLY_S)
        gc.collect()
        await asyncio.sleep(BRIEFLY_S)

    report = ran(body)
    assert counts(report) == {"async items": 1, "items": 1, "consumer": 5}
    assert not lies_in(report, "consumer", "async items")
    assert not lies_in(report, "consumer", "items")
    assert not notes(report, "open")


def test_a_decorator_is_not_noticed_by_what_it_decorates() -> None:
    async def body(tracker: Tracker) -> None:
        heard: list[Any] = []

        @tracker.span("async generator")
        async def both() -> AsyncIterator[Any]:
            told = None
            while told != "end":
                try:
                    told = yield told
                except KeyError as error:
                    told = type(error).__name__
            heard.append("ended")

        items = both()
        assert [await items.asend(what) for what in (None, 1, 2)] == [None, 1, 2]
        assert await items.athrow(KeyError()) == "KeyError"
        with pytest.raises(StopAsyncIteration):
            await items.asend("end")
        again = both()
        await anext(again)
        with pytest.raises(ZeroDivisionError):
            await again.athrow(ZeroDivisionError())

        @tracker.span("generator")
        def plainly() -> Iterator[Any]:
            told = None
            try:
                while True:
                    try:
                        told = yield told
                    except KeyError:
                        told = "KeyError"
            finally:
                heard.append("closed")

        plain = plainly()
        assert [plain.send(what) for what in (None, 1)] == [None, 1]  # type: ignore[attr-defined]
        assert plain.throw(KeyError()) == "KeyError"  # type: ignore[attr-defined]
        plain.close()  # type: ignore[attr-defined]

        @tracker.span("function")
        def add(a: int, *, b: int) -> int:
            """Adds."""
            return a + b

        @tracker.span("coroutine")
        async def raises() -> None:
            raise LookupError

        assert (add(1, b=2), add.__doc__, add.__name__) == (3, "Adds.", "add")
        with pytest.raises(LookupError):
            await raises()
        assert heard == ["ended", "closed"]

    assert counts(ran(body)) == {"async generator": 2, "generator": 1, "function": 1, "coroutine": 1}


def test_decorated_functions_and_generators_go_on_after_the_run() -> None:
    async def main() -> None:
        async with tracker_of() as tracker:

            @tracker.span("async items")
            async def items() -> AsyncIterator[int]:
                for i in range(3):
                    yield i

            @tracker.span("items")
            def plainly() -> Iterator[int]:
                yield from range(3)

            begun, begun_plainly = items(), plainly()
            await anext(begun)
            next(begun_plainly)
        assert [i async for i in begun] == [1, 2]
        assert list(begun_plainly) == [1, 2]
        assert [i async for i in items()] == [0, 1, 2]
        assert list(plainly()) == [0, 1, 2]
        report = tracker.report()
        check(report)
        assert counts(report) == {"async items": 1, "items": 1}

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["plain", "coroutine", "generator", "async generator"])
def test_track_inside_an_active_tracker_is_a_span_of_it(kind: str) -> None:
    async def body(tracker: Tracker) -> None:
        @track
        def plain() -> None:
            time.sleep(BRIEFLY_S)

        @track
        async def coroutine() -> None:
            await asyncio.sleep(BRIEFLY_S)

        @track
        def generator() -> Iterator[int]:
            time.sleep(BRIEFLY_S)
            yield 1

        @track
        async def async_generator() -> AsyncIterator[int]:
            await asyncio.sleep(BRIEFLY_S)
            yield 1
            yield 2

        async with tracker_of() as other:  # began later; the span around says whose run it is
            with tracker.span("around"):
                if kind == "plain":
                    plain()
                elif kind == "coroutine":
                    await coroutine()
                elif kind == "generator":
                    list(generator())
                else:
                    async for _ in async_generator():
                        break
                    gc.collect()
                    await asyncio.sleep(BRIEFLY_S)
        assert not other.report().spans

    report = ran(body)
    (name,) = set(counts(report)) - {"around"}
    assert kind.replace(" ", "_") in name
    assert lies_in(report, name, "around")
    assert not notes(report, "open")


@pytest.mark.parametrize("is_inside", [True, False])
def test_a_tracked_async_generator_that_is_closed_has_closed_what_it_decorates(is_inside: bool) -> None:
    ended: list[str] = []

    @track(meters=[watts()], **QUICK)
    async def items() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            await asyncio.sleep(BRIEFLY_S)  # the last of its work
            ended.append("closed")

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            tracker = await stack.enter_async_context(tracker_of()) if is_inside else None
            async with contextlib.aclosing(items()) as open_items:  # type: ignore[type-var]
                await anext(open_items)
            assert ended == ["closed"]
            if tracker is not None:
                (span,) = (await looked(tracker)).values()
                assert span.open == 0
                assert span.duration_s >= BRIEFLY_S
            else:
                assert items.last_report.duration_s >= BRIEFLY_S

    asyncio.run(main())


@pytest.mark.parametrize("is_inside", [True, False])
def test_a_tracked_async_generator_hears_what_is_sent_and_thrown(is_inside: bool) -> None:
    @track(meters=[watts()], **QUICK)
    async def environment() -> AsyncGenerator[Any, Any]:
        told = None
        while True:
            try:
                told = yield told
            except KeyError:
                told = "KeyError"

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            if is_inside:
                await stack.enter_async_context(tracker_of())
            async with contextlib.aclosing(environment()) as items:
                assert [await items.asend(what) for what in (None, 1, 2)] == [None, 1, 2]
                assert await items.athrow(KeyError()) == "KeyError"
                with pytest.raises(ZeroDivisionError):
                    await items.athrow(ZeroDivisionError())

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["plain", "coroutine", "generator", "async generator"])
def test_what_is_tracked_and_fails_did_not_end_well(kind: str) -> None:
    @track(meters=[watts()], **QUICK)
    def plain() -> None:
        raise ZeroDivisionError

    @track(meters=[watts()], **QUICK)
    async def coroutine() -> None:
        raise ZeroDivisionError

    @track(meters=[watts()], **QUICK)
    def generator() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    @track(meters=[watts()], **QUICK)
    async def async_generator() -> AsyncIterator[int]:
        yield 1
        raise ZeroDivisionError

    async def main() -> None:
        async for _ in async_generator():
            pass

    functions: dict[str, tuple[Any, Callable[[], object]]] = {
        "plain": (plain, plain),
        "coroutine": (coroutine, lambda: asyncio.run(coroutine())),
        "generator": (generator, lambda: list(generator())),
        "async generator": (async_generator, lambda: asyncio.run(main())),
    }
    tracked, call = functions[kind]
    with pytest.raises(ZeroDivisionError):
        call()
    assert tracked.last_report.is_final
    assert not tracked.last_report.ended_well


# -- following tasks and threads ---------------------------------------------------------------------------------


async def by_create_task(tracker: Tracker) -> None:
    await asyncio.create_task(inside(tracker))


async def by_task_group(tracker: Tracker) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(inside(tracker))


async def by_gather(tracker: Tracker) -> None:
    await asyncio.gather(inside(tracker), inside(tracker))


async def by_to_thread(tracker: Tracker) -> None:
    await asyncio.to_thread(inside_plainly, tracker)


async def by_anyio(tracker: Tracker) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(inside, tracker)
        group.start_soon(anyio.to_thread.run_sync, inside_plainly, tracker)


async def by_executor(tracker: Tracker) -> None:
    with ThreadPoolExecutor(1) as pool:
        await asyncio.get_running_loop().run_in_executor(pool, inside_plainly, tracker)


async def by_thread(tracker: Tracker) -> None:
    thread = threading.Thread(target=inside_plainly, args=(tracker,))
    thread.start()
    await asyncio.to_thread(thread.join)


async def inside(tracker: Tracker) -> None:
    async with tracker.span("inside"):
        await anyio.sleep(BRIEFLY_S)


def inside_plainly(tracker: Tracker | sync.Tracker) -> None:
    with tracker.span("inside"):
        time.sleep(BRIEFLY_S)


@pytest.mark.parametrize("way", [by_create_task, by_task_group, by_gather, by_to_thread, by_anyio])
def test_a_span_follows_its_context(way: Callable[[Tracker], Awaitable[None]]) -> None:
    async def body(tracker: Tracker) -> None:
        with tracker.span("around"):
            await way(tracker)

    assert lies_in(ran(body), "inside", "around")


@pytest.mark.parametrize("way", [by_executor, by_thread])
def test_where_no_context_goes_a_span_stands_for_itself(way: Callable[[Tracker], Awaitable[None]]) -> None:
    async def body(tracker: Tracker) -> None:
        with tracker.span("around"):
            await way(tracker)

    report = ran(body)
    assert not lies_in(report, "inside", "around")
    assert named(report)["around"].it_energy_kwh > 0.0


def test_spans_follow_trio_s_nurseries_and_threads() -> None:
    trio = pytest.importorskip("trio")

    async def main() -> Any:
        async with tracker_of() as tracker:
            with tracker.span("around"):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(inside, tracker)
                    nursery.start_soon(trio.to_thread.run_sync, inside_plainly, tracker)
            with trio.move_on_after(BRIEFLY_S):
                async with tracker.span("cancelled"):
                    await trio.sleep_forever()

            async def forgets() -> None:
                tracker.span("forgotten").__enter__()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(forgets)
            gc.collect()
            assert (await looked(tracker))["forgotten"].open == 0
        return tracker.report()

    report = trio.run(main)
    check(report)
    assert counts(report) == {"around": 1, "inside": 2, "cancelled": 1, "forgotten": 1}
    assert lies_in(report, "inside", "around")


def test_a_cancelled_task_group_closes_all_its_spans_and_they_add_up() -> None:
    async def body(tracker: Tracker) -> None:
        async def actor() -> None:
            with tracker.span("actor"):
                while True:
                    async with tracker.span("step"):
                        await asyncio.sleep(0.001)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3 * BRIEFLY_S), asyncio.TaskGroup() as group:
                for _ in range(50):
                    group.create_task(actor())
        assert {name: span.open for name, span in (await looked(tracker)).items()} == {"actor": 0, "step": 0}

    report = ran(body)
    assert counts(report)["actor"] == 50
    assert counts(report)["step"] >= 50


def test_spans_of_two_trackers_lie_in_their_own_only() -> None:
    async def body(tracker: Tracker) -> None:
        async with tracker_of() as other:
            with tracker.span("A"), other.span("X"), tracker.span("B"), other.span("Y"):
                await asyncio.sleep(BRIEFLY_S)
            outer, between = tracker.span("C"), other.span("Z")
            outer.__enter__()
            between.__enter__()
            outer.__exit__(None, None, None)
            await asyncio.sleep(BRIEFLY_S)
            between.__exit__(None, None, None)
        report = other.report()
        check(report)
        assert counts(report) == {"X": 1, "Y": 1, "Z": 1}
        assert lies_in(report, "Y", "X")
        assert not lies_in(report, "Z", "Y")

    report = ran(body)
    assert counts(report) == {"A": 1, "B": 1, "C": 1}
    assert lies_in(report, "B", "A")


def test_spans_of_many_threads_add_up() -> None:
    with sync_tracker_of() as tracker:
        begin = threading.Barrier(9)

        def work(n: int) -> None:
            begin.wait()
            for _ in range(200):
                with tracker.span(f"thread-{n % 3}"):
                    with tracker.span("shared", actor=n):
                        pass

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        begin.wait()
        for thread in threads:
            thread.join()
    report = tracker.report()
    check(report)
    assert counts(report) == {"thread-0": 600, "thread-1": 600, "thread-2": 400, "shared": 1600}
    assert sorted((tags.tags["actor"], tags.count) for tags in named(report)["shared"].by_tags) == [
        (str(n), 200) for n in range(8)
    ]
    assert not notes(report, "edges")


def test_one_span_shared_by_tasks_lasts_from_the_first_to_the_last() -> None:
    async def body(tracker: Tracker) -> None:
        span = tracker.span("shared")

        async def use() -> None:
            async with span:
                await asyncio.sleep(BRIEFLY_S)

        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(use())
        assert (await looked(tracker))["shared"].open == 0

    assert counts(ran(body)) == {"shared": 1}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of fork in a process with threads: that is what is tested
def test_a_forked_child_leaves_the_span_it_was_born_in_and_opens_none() -> None:
    with sync_tracker_of() as tracker:
        with tracker.span("around") as span:
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    with tracker.span("in the child") as other:
                        other.weigh(2.0)
                    span.__exit__(None, None, None)
                    with tracker.span("again"):
                        pass
                    tracker.child("actor")
                    code = len(tracker._tape.edges)
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            time.sleep(BRIEFLY_S)
    report = tracker.report()
    check(report)
    assert counts(report) == {"around": 1}
    assert named(report)["around"].it_energy_kwh > 0.0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_leaves_its_span_though_another_thread_held_a_lock() -> None:
    held, release = threading.Event(), threading.Event()

    def hold(tracker: Any) -> None:
        with tracker._handle._host._lock, tracker._handle._lock:
            held.set()
            release.wait()

    with sync_tracker_of() as tracker, ThreadPoolExecutor(1) as pool:
        span = tracker.span("around").__enter__()
        pool.submit(hold, tracker)
        held.wait()
        pid = os.fork()
        if pid == 0:
            span.__exit__(None, None, None)
            tracker.stop()
            os._exit(7)
        release.set()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        span.__exit__(None, None, None)
    check(tracker.report())


# -- when the instrument fails -----------------------------------------------------------------------------------


def test_spans_go_on_and_add_up_when_the_engine_has_died() -> None:
    meter = ScriptedMeter(energy_uj=[0, 1_000_000, 2_000_000, kill_engine])

    async def main() -> Any:
        async with Tracker(meters=[meter], **QUICK) as tracker:
            outer = tracker.span("outer").__enter__()
            while not notes(tracker.report(), "engine died"):
                with tracker.span("inner"):
                    await tracker.snapshot()
            with tracker.span("after"):
                await tracker.child("actor").epoch()
            outer.__exit__(None, None, None)
        return tracker.report()

    report = asyncio.run(main())
    check(report)
    assert report.is_final
    assert counts(report)["outer"] == 1
    assert counts(report)["after"] == 1


def test_an_error_in_the_split_costs_the_shares_and_nothing_else_and_keeps_no_edges() -> None:
    async def main() -> None:
        async with tracker_of() as tracker:
            with tracker.span("A"):
                await asyncio.sleep(BRIEFLY_S)
            tracker._tape.append(("not", "an edge"))
            while not notes(await tracker.snapshot(), "not split"):
                pass
            for _ in range(100):
                with tracker.span("B"):
                    pass
            assert len(tracker._tape.edges) == 0
            epoch = await tracker.epoch()
            assert epoch.it_energy_kwh > 0.0
            child = await tracker.child("actor").epoch()
            assert not child.is_final
        report = tracker.report()
        check(report)
        assert report.spans == ()
        assert report.ended_well

    asyncio.run(main())


@pytest.mark.parametrize("action", ["raise", "warn"])
def test_a_budget_that_is_used_up_is_heeded_where_a_span_is_entered(action: Any) -> None:
    async def main() -> Any:
        tracker = tracker_of(budget=Budget(energy_kwh=1e-9, action=action))

        def expected() -> Any:
            return pytest.raises(BudgetExceededError) if action == "raise" else contextlib.nullcontext()

        with expected():
            async with tracker:
                outer = tracker.span("outer").__enter__()
                await tracker.exceeded.wait()

                @tracker.span("decorated")
                async def entered() -> None:
                    pass

                for make in (lambda: tracker.span("a"), lambda: tracker.child("c").span("b")):
                    with expected(), make():
                        pass
                outer.__exit__(None, None, None)
                await entered()
        return tracker.report()

    report = asyncio.run(main())
    check(report)
    names = {"outer"} if action == "raise" else {"outer", "a", "b", "decorated"}
    assert set(counts(report)) == names


# -- odd words ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*ODD_TEXTS, None, 7, b"bytes", ["a"], Stubborn()], ids=kind_of)
def test_whatever_names_a_span_or_child_is_taken_as_a_text(name: Any) -> None:
    with sync_tracker_of(strict=True) as tracker:
        with tracker.span(name):
            time.sleep(0.001)
        with tracker.child(name).span("of a child"):
            pass
        tracker.child(name).report()
    report = tracker.report()
    check(report)
    (span,) = (span for span in report.spans if span.name != "of a child")
    (child,) = report.children
    assert span.count == 1
    assert child.count == 1
    assert 1 <= len(span.name) <= 200
    assert 1 <= len(child.name) <= 200
    (span.name + child.name).encode()
    assert bool(notes(report, "cut")) == (isinstance(name, str) and len(name) > 200)


@pytest.mark.parametrize("value", [*ODD_TEXTS, None, [1], {}, b"\xff", float("nan"), object, Stubborn()], ids=kind_of)
def test_whatever_is_told_as_a_tag_is_taken_as_a_text(value: Any) -> None:
    with sync_tracker_of(strict=True) as tracker:
        with tracker.span("tagged", value=value, **{"k" * 1000: 1, "": 2}):
            pass
    report = tracker.report()
    check(report)
    (tags,) = named(report)["tagged"].by_tags
    assert tags.count == 1
    assert len(tags.tags) == 3
    assert all(len(word) <= 200 and word.encode() is not None for pair in tags.tags.items() for word in pair)


@pytest.mark.parametrize("weight", [-1, 0, math.nan, math.inf, "x", True, 10**400, [1], Stubborn()], ids=kind_of)
def test_a_weight_that_cannot_be_weighs_one_and_is_told(weight: Any) -> None:
    with sync_tracker_of(attribution="weight", strict=True) as tracker:
        spans = tracker.span("bad", weight=weight), tracker.span("good", weight=1)
        for span in spans:
            contextvars.Context().run(span.__enter__)
        time.sleep(2 * BRIEFLY_S)
        spans[0].weigh(weight)
        for span in reversed(spans):
            span.__exit__(None, None, None)
    report = tracker.report()
    check(report)
    # While both are open each has half; "bad" alone has what is used until its own end, however late that comes.
    bad, good = named(report)["bad"], named(report)["good"]
    alone_kwh = report.power_w * (bad.duration_s - good.duration_s) / 3.6e6
    assert bad.it_energy_kwh - alone_kwh == pytest.approx(good.it_energy_kwh, rel=0.2)
    assert notes(report, "could not be used")


@pytest.mark.parametrize("policy", ["weight", "even", "cpu"])
def test_a_weight_policy_without_weights_splits_evenly_and_says_so(policy: str) -> None:
    with sync_tracker_of(attribution=policy) as tracker:
        with tracker.span("A"):
            time.sleep(BRIEFLY_S)
    assert bool(notes(tracker.report(), "no span told a weight")) == (policy == "weight")
    check(tracker.report())


@pytest.mark.parametrize(
    "device", ["unknown", "cuda:1", 7, -1, "9" * 5000, 3.5, True, ["x"], "cuda:", Stubborn()], ids=kind_of
)
def test_a_span_bound_to_a_device_that_is_not_there_gets_nothing_and_that_is_told(device: Any) -> None:
    with sync_tracker_of(attribution="device", strict=True) as tracker:
        bound, other = tracker.span("bound", device=device), tracker.span("other")
        for span in (bound, other):
            contextvars.Context().run(span.__enter__)
        time.sleep(BRIEFLY_S)
        bound.__exit__(None, None, None)
        other.__exit__(None, None, None)
    report = tracker.report()
    check(report)
    assert named(report)["bound"].it_energy_kwh == 0.0
    assert named(report)["other"].it_energy_kwh > 0.0
    (note,) = notes(report, "told no energy")
    assert len(note) < 400


def test_names_and_tags_above_the_limits_fold_and_that_is_told() -> None:
    with sync_tracker_of() as tracker:
        for n in range(20_000):
            with tracker.span(f"name-{n}"):
                pass
        with tracker.span("name-0"):
            for n in range(MAX_PATHS + 1000):
                with tracker.span("name-1", n=n):
                    pass
    report = tracker.report()
    check(report)
    assert len(report.spans) == MAX_NAMES + 1
    assert named(report)[OTHER_NAMES].count == 20_000 - MAX_NAMES
    assert notes(report, f"more than {MAX_NAMES} names")
    assert len(named(report)["name-1"].by_tags) == MAX_PATHS
    assert named(report)["name-1"].count == MAX_PATHS + 1001
    assert notes(report, "too many different tags: 1000 spans")
    around = named(report)["name-0"]
    inside = sum(tags.it_energy_kwh for tags in named(report)["name-1"].by_tags)
    assert around.with_children.it_energy_kwh >= around.it_energy_kwh + inside  # those without tags lie in it too


# -- children ----------------------------------------------------------------------------------------------------


def test_epochs_of_children_add_up_to_their_spans() -> None:
    async def body(tracker: Tracker) -> None:
        async def actor(n: int) -> None:
            child = tracker.child(f"actor-{n}")
            async with child:
                for _ in range(3):
                    with child.span("rollout"):
                        await asyncio.sleep(BRIEFLY_S * (n + 1))
                    child.step(10)
                    epoch = await child.epoch()
                    assert epoch.it_energy_kwh > 0.0
                    assert epoch.steps == 10

        async with asyncio.TaskGroup() as group:
            for n in range(3):
                group.create_task(actor(n))

    report = ran(body)
    assert [(child.name, child.count, child.steps, child.epochs_total) for child in report.children] == [
        (f"actor-{n}", 3, 30, 3) for n in range(3)
    ]
    for child in report.children:
        assert all(epoch.is_final for epoch in child.epochs)
        assert [epoch.index for epoch in child.epochs] == [0, 1, 2]
        for field in ("it_energy_kwh", "energy_kwh", "co2eq_g"):
            parts = math.fsum(getattr(epoch, field) for epoch in child.epochs)
            assert parts == pytest.approx(getattr(child, field), rel=1e-9)
    owned = math.fsum(child.it_energy_kwh for child in report.children)
    assert owned == pytest.approx(named(report)["rollout"].it_energy_kwh, rel=1e-9)


def test_children_s_epochs_may_be_entered_and_iterated_and_broken_off() -> None:
    async def body(tracker: Tracker) -> None:
        entered, iterated, left = (tracker.child(name) for name in ("entered", "iterated", "left"))
        async with entered, entered.epoch() as epoch:
            with entered.span("work"):
                await asyncio.sleep(BRIEFLY_S)
        assert epoch.report is not None
        assert epoch.report.it_energy_kwh > 0.0
        async for _ in iterated.epochs(3):
            with iterated.span("work"):
                await asyncio.sleep(BRIEFLY_S)
        async with left:
            left.epoch_start()
            with pytest.raises(ZeroDivisionError):
                async with left.epoch():
                    with left.span("work"):
                        await asyncio.sleep(BRIEFLY_S)
                    raise ZeroDivisionError
            still_open = left.epoch()
            await still_open.__aenter__()
        await left.aclose()

    report = ran(body)
    told = {child.name: [epoch.is_partial for epoch in child.epochs] for child in report.children}
    assert told == {"entered": [False], "iterated": [False] * 3, "left": [True, True]}


def test_children_of_the_blocking_tracker() -> None:
    with sync_tracker_of() as tracker:
        child = tracker.child("actor")
        assert tracker.child("actor").name == child.name
        with child:
            child.epoch_start()
            with child.span("a"):
                time.sleep(BRIEFLY_S)
            child.step()
            assert child.epoch_end().it_energy_kwh > 0.0
            with child.epoch() as epoch, tracker.child("actor").span("a"):
                time.sleep(BRIEFLY_S)
            for _ in child.epochs(2):
                time.sleep(0.001)
        child.stop()
        assert epoch.report is not None
    report = tracker.report()
    check(report)
    (told,) = report.children
    assert (told.count, told.steps, told.epochs_total) == (2, 1, 4)
    assert math.fsum(epoch.it_energy_kwh for epoch in told.epochs) == pytest.approx(told.it_energy_kwh, rel=1e-9)
    assert child.report() == told


def test_a_span_of_a_child_inside_another_child_s_is_its_own() -> None:
    async def body(tracker: Tracker) -> None:
        a, b = tracker.child("a"), tracker.child("b")
        with a.span("outer"):
            await asyncio.sleep(BRIEFLY_S)
            with tracker.span("of a"):
                await asyncio.sleep(BRIEFLY_S)
            with b.span("inner"):
                await asyncio.sleep(BRIEFLY_S)
                with tracker.span("of b"):
                    await asyncio.sleep(BRIEFLY_S)

    report = ran(body)
    own = {name: span.it_energy_kwh for name, span in named(report).items()}
    a, b = report.children
    assert a.it_energy_kwh == pytest.approx(own["outer"] + own["of a"], rel=1e-9)
    assert b.it_energy_kwh == pytest.approx(own["inner"] + own["of b"], rel=1e-9)
    assert lies_in(report, "of b", "inner")


def test_children_begun_and_ended_in_other_tasks_before_and_after_the_tracker() -> None:
    async def main() -> Any:
        tracker = tracker_of(strict=True)
        with pytest.raises(UsageError, match="before the tracker was entered"):
            tracker.child("early")
        async with tracker:
            child = tracker.child("actor")
            await asyncio.create_task(child.start())
            with child.span("work"):
                await asyncio.sleep(BRIEFLY_S)
            assert child.report().epochs_total == 0
            await asyncio.create_task(child.aclose())
            await child.aclose()
            idle = tracker.child("idle")
        with idle.span("late"):
            pass
        await idle.start()
        await idle.epoch()
        await idle.aclose()
        await tracker.child("after").epoch()
        return tracker.report(), child.report()

    report, told = asyncio.run(main())
    check(report)
    assert told.it_energy_kwh == pytest.approx(named(report)["work"].it_energy_kwh, rel=1e-9)
    assert notes(report, "these opened none: idle")
    assert {child.name: child.count for child in report.children} == {"actor": 1, "idle": 0}


def test_children_above_the_limit_are_one_and_that_is_told() -> None:
    async def body(tracker: Tracker) -> None:
        children = [tracker.child(f"actor-{n}") for n in range(MOST_CHILDREN + 500)]
        for child in children:
            with child.span("work"):
                pass
        await asyncio.gather(*(child.epoch() for child in children))

    report = ran(body)
    assert not notes(report, "instrument failed")
    assert len(report.children) == MOST_CHILDREN + 1
    assert all(epoch.is_final for child in report.children for epoch in child.epochs)
    assert report.children[-1].name == OTHER_CHILDREN
    assert report.children[-1].count == 500
    assert notes(report, "further ones are")
    assert counts(report) == {"work": MOST_CHILDREN + 500}


def test_reports_hold_the_last_epochs_of_each_child_and_say_how_many_there_were() -> None:
    with sync_tracker_of() as tracker:
        children = [tracker.child(f"actor-{n}") for n in range(50)]
        for child in children:
            child._handle.mark(time.monotonic_ns())
            for _ in range(99):
                child._handle.mark(time.monotonic_ns())  # whose reports nobody waits for
            child.step(3)
            with child.span("work"):
                pass
            child._handle.mark(time.monotonic_ns())
    report = tracker.report()
    check(report)
    for told in report.children:
        assert told.epochs_total == 101
        assert told.steps == 3
        assert [epoch.index for epoch in told.epochs] == list(range(101 - KEPT_IN_ALL // 50, 101))
        assert all(epoch.is_final for epoch in told.epochs)
        assert told.epochs[-1].it_energy_kwh == pytest.approx(told.it_energy_kwh, rel=1e-9)


# -- live --------------------------------------------------------------------------------------------------------


def test_live_reports_have_the_spans_up_to_now_and_add_up() -> None:
    async def body(tracker: Tracker) -> None:
        seen: list[Any] = []
        is_enough = asyncio.Event()

        async def listen() -> None:
            async for report in tracker.stream(0.02):
                check(report)
                seen.append(report)
                if len(seen) == 5:
                    is_enough.set()

        listening = asyncio.create_task(listen())
        child = tracker.child("actor")
        with child.span("live"):
            await is_enough.wait()
            now = await tracker.snapshot()
            check(now)
            assert named(now)["live"].open == 1
            assert named(now)["live"].it_energy_kwh > seen[-1].unattributed.it_energy_kwh
            assert abs(now.attribution.as_of.timestamp() - time.time()) < 1.0
            assert child.report().it_energy_kwh > 0.0
            report = tracker.report()
            assert report.spans[0].open == 1
            check(report)
        listening.cancel()
        spent = [named(report)["live"].it_energy_kwh for report in seen if report.spans]
        assert spent == sorted(spent)

    ran(body)


def test_a_report_without_spans_has_all_of_it_unattributed() -> None:
    async def body(tracker: Tracker) -> None:
        await asyncio.sleep(BRIEFLY_S)

    report = ran(body)
    assert (report.spans, report.children, report.attribution) == ((), (), None)
    assert report.unattributed.it_energy_kwh == report.it_energy_kwh > 0.0
    assert report.unattributed.idle is None


def test_a_span_left_open_ends_with_the_run_also_where_the_last_readings_are_slow() -> None:
    """Ticks go on while the end waits for readings: what they bring lies behind the run."""

    class Slow(SimulatedMeter):
        is_slow = False

        def read(self, device: Any) -> Any:
            if self.is_slow:
                time.sleep(0.1)
            return super().read(device)

    slow = Slow(wave=Constant(250.0), refresh_s=0.001)
    with sync.Tracker(meters=[slow, SimulatedMeter(wave=Constant(250.0), device_id="quick")], **QUICK) as tracker:
        tracker.span("open").__enter__()
        time.sleep(3 * BRIEFLY_S)
        slow.is_slow = True
        tracker.snapshot()
    report = tracker.report()
    check(report)
    assert named(report)["open"].it_energy_kwh <= report.it_energy_kwh
    for device in report.attribution.devices:
        parts = device.idle_it_energy_kwh + device.spans_it_energy_kwh + device.rest_it_energy_kwh
        whole = next(one for one in report.devices if one.id == device.id)
        assert parts == pytest.approx(whole.it_energy_kwh, rel=1e-9)

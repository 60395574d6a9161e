"""What users' threads tell of spans: edges in order, bounded, and none where nobody takes them."""

# ruff: noqa: TID251  # users' tasks and threads are what tells

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest

from aiocarbon._core.edges import CLOSE, OPEN, REFUSED, TALLY, WEIGH
from aiocarbon._core.reading import Basis, Device, DeviceKind, Quantity
from aiocarbon._engine.tape import HURRY, LOOK_EVERY, MOST_WAITING, State, Tape
from aiocarbon.errors import BudgetExceededError, UsageError
from aiocarbon.span import Span


def nothing() -> None:
    pass


def begun(call: Callable[[], None] = nothing, on_odd: Callable[[], None] = nothing) -> Tape:
    """A tape that is on, whose clock goes on by one at each look."""
    tape = Tape(call, on_odd, itertools.count(100).__next__)
    tape.begin()
    return tape


def span(tape: Tape, name: str = "A", **fields: Any) -> Span:
    told = {"weight": None, "device": None, "tags": {}, **fields}
    return Span(tape, name, told["weight"], told["device"], told["tags"], fields.get("owner", ""))


def apart(function: Callable[..., Any], *args: Any) -> Any:
    """Run something where no span is around."""
    return contextvars.Context().run(function, *args)


def test_a_span_is_two_edges_with_its_parent() -> None:
    tape = begun()
    with span(tape, "A", weight=2.0, tags={"b": 1, "a": "x"}, owner="me"), span(tape, "B") as inner:
        inner.weigh(3)
        inner.weigh(-1)
    assert tape.take(99) == [
        (100, OPEN, 1, "A", 0, 2.0, "", (("a", "x"), ("b", "1")), "me"),
        (101, OPEN, 2, "B", 1, 0.0, "", (), ""),
        (102, WEIGH, 2, 3.0),
        (103, WEIGH, 2, REFUSED),
        (104, CLOSE, 2),
        (105, CLOSE, 1),
    ]
    assert tape.take(99) == []


def test_edges_are_taken_in_the_order_of_their_telling_and_no_more_than_are_wanted() -> None:
    tape = begun()
    for n in range(10):
        tape.close(n, n)
    assert [edge[0] for edge in tape.take(4)] == [0, 1, 2, 3]
    assert [edge[0] for edge in tape.take(99)] == [4, 5, 6, 7, 8, 9]


def test_before_the_begin_a_span_is_a_mistake_and_after_the_end_it_is_nothing() -> None:
    tape = Tape(nothing, nothing)
    with pytest.raises(UsageError), span(tape):
        pass
    tape.begin()
    kept = span(tape).__enter__()
    tape.end()
    assert tape.state is State.OVER
    kept.__exit__(None, None, None)
    with span(tape) as later, later:
        later.weigh(1.0)
    tape.tally(5, "me")
    assert [edge[1] for edge in tape.take(99)] == [OPEN]  # what was told before is still the engine's to take
    assert [tape.take(99) for tape in (Tape.ended(),)] == [[]]


@pytest.mark.parametrize("how", [Tape.forget, Tape.mute])
def test_what_nobody_will_take_is_not_kept(how: Callable[[Tape], None]) -> None:
    tape = begun()
    kept = span(tape).__enter__()
    how(tape)
    kept.__exit__(None, None, None)
    with span(tape):
        tape.tally(1, "me")
    assert tape.take(99) == []


# -- bounds ------------------------------------------------------------------------------------------------------


def test_more_spans_than_the_engine_can_keep_are_dropped_and_counted_until_it_has_taken_some() -> None:
    tape = begun()
    tape.held = MOST_WAITING + 1
    tape.look()
    for _ in range(7):
        with span(tape) as dropped, dropped:
            dropped.weigh(2.0)
    assert tape.dropped == 14  # each try
    assert tape.take(99) == []
    tape.held = 0
    with span(tape):
        pass
    assert [edge[1] for edge in tape.take(99)] == [OPEN, CLOSE]
    assert tape.dropped == 14


def test_names_and_tags_that_wait_are_short() -> None:
    tape = begun()
    with span(tape, "x" * 10_000, tags={"k" * 10_000: "v" * 10_000}, device="d" * 10_000):
        pass
    opened = tape.take(99)[0]
    assert len(repr(opened)) < 1000
    assert len(opened[3]) > 200  # by which the engine sees that it was cut


def test_a_span_that_is_open_when_there_are_too_many_is_still_closed() -> None:
    tape = begun()
    with span(tape):
        tape.held = MOST_WAITING + 1
        tape.look()
    assert [edge[1] for edge in tape.take(99)] == [OPEN, CLOSE]


def test_the_engine_is_called_when_many_wait() -> None:
    called: list[int] = []
    tape = begun(lambda: called.append(len(tape.edges)))
    for _ in range(HURRY // 2 + 2 * LOOK_EVERY):
        with span(tape):
            pass
    assert called
    assert min(called) > HURRY


# -- budgets -----------------------------------------------------------------------------------------------------


def test_a_budget_that_is_used_up_is_raised_at_each_entry_until_the_end() -> None:
    is_over = False

    def heed() -> None:
        if is_over:
            raise BudgetExceededError

    tape = begun(on_odd=heed)
    with span(tape):
        pass
    is_over = True
    tape.alert()
    for _ in range(3):
        with pytest.raises(BudgetExceededError), span(tape):
            pass
    tape.end()
    with span(tape):
        pass
    assert len(tape.take(99)) == 2


@pytest.mark.parametrize("moment", ["before the begin", "while it is asked", "while too many wait"])
def test_no_moment_is_a_bad_one_for_a_budget_to_be_used_up(moment: str) -> None:
    asked: list[str] = []

    def heed() -> None:
        asked.append("asked")
        if moment == "while it is asked" and len(asked) == 1:
            tape.alert()  # by the engine's thread, just after it was looked

    tape = Tape(nothing, heed)
    if moment == "before the begin":
        tape.alert()
    tape.begin()
    if moment == "while too many wait":
        tape.held = MOST_WAITING + 1
        tape.look()
        tape.alert()
        tape.take(99)
        tape.held = 0
    with span(tape), span(tape), span(tape):
        pass
    assert len(asked) == (2 if moment == "while it is asked" else 1)


# -- devices -----------------------------------------------------------------------------------------------------


def gpu(ident: str, *, kind: DeviceKind = DeviceKind.GPU, counted: bool = True) -> Device:
    return Device(
        id=ident, kind=kind, name=ident, quantity=Quantity.ENERGY, basis=Basis.COUNTER, refresh_s=0.1, counted=counted
    )


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ("0", "GPU-a"), ("cuda", "GPU-a"), ("cuda:0", "GPU-a"), ("1", "GPU-b"), ("cuda:1", "GPU-b"), ("2", "2"),
        ("cuda:2", "cuda:2"), ("-1", "-1"), ("cpu:0", "cpu:0"), ("GPU-b", "GPU-b"), ("rapl:0", "rapl:0"), ("", ""),
        ("cuda:", "cuda:"), (":", ":"), ("cuda:1:0", "cuda:1:0"), ("²", "²"), ("9" * 5000, "9" * 5000), ("1.0", "1.0"),
    ],
)  # fmt: skip
def test_devices_are_found_by_id_or_by_the_number_of_a_counted_gpu(told: str, found: str) -> None:
    tape = begun()
    tape.devices = lambda: [gpu("cpu", kind=DeviceKind.CPU), gpu("GPU-a"), gpu("view", counted=False), gpu("GPU-b")]
    assert [tape.device_id(told), tape.device_id(told)] == [found, found]


def test_a_device_that_comes_later_is_found_from_then_on_also_by_spans_made_before() -> None:
    tape = begun()
    early = span(tape, device="cuda:0")
    with early:
        pass
    tape.devices = lambda: [gpu("GPU-a")]
    with early:
        pass
    assert [edge[6] for edge in tape.take(99) if edge[1] == OPEN] == ["cuda:0", "GPU-a"]


# -- tasks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "is_closed"), [("cancelled", True), ("failed", True), ("returned", False)])
def test_spans_that_a_task_left_open_lapse_where_it_did_not_return(how: str, is_closed: bool) -> None:
    tape = begun()
    kept: list[Span] = []

    async def forgets() -> None:
        kept.extend(span(tape, name).__enter__() for name in ("outer", "inner", "left"))
        kept[-1].__exit__(None, None, None)
        if how == "cancelled":
            await asyncio.Event().wait()
        if how == "failed":
            raise ZeroDivisionError

    async def main() -> None:
        task = asyncio.create_task(forgets())
        await asyncio.sleep(0)
        if how == "cancelled":
            task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(0)
        edges = tape.take(99)
        assert sorted(edge[2] for edge in edges if edge[1] == CLOSE) == ([1, 2, 3] if is_closed else [3])
        for one in kept:  # too late, or in time, and never twice
            one.__exit__(None, None, None)
            one.__exit__(None, None, None)
        edges += tape.take(99)
        assert sorted(edge[2] for edge in edges if edge[1] == CLOSE) == [1, 2, 3]
        if how == "failed":
            assert isinstance(task.exception(), ZeroDivisionError)

    asyncio.run(main())


def test_a_task_s_spans_may_be_left_by_other_threads_while_it_is_cancelled() -> None:
    tape = begun()
    kept: list[Span] = []

    async def forgets() -> None:
        kept.extend(span(tape).__enter__() for _ in range(2000))
        await asyncio.Event().wait()

    async def main() -> None:
        told: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        task = asyncio.create_task(forgets())
        await asyncio.sleep(0)
        begin = threading.Event()

        def leave() -> None:
            begin.wait()
            for one in kept:
                one.__exit__(None, None, None)

        thread = threading.Thread(target=leave)
        thread.start()
        task.cancel()
        begin.set()
        await asyncio.wait([task])
        await asyncio.to_thread(thread.join)
        assert told == []

    asyncio.run(main())
    edges = tape.take(99_999)
    assert {edge[2] for edge in edges if edge[1] == CLOSE} == set(range(1, 2001))


def test_a_span_that_lapses_in_the_midst_of_being_left_raises_nothing() -> None:
    class Lapsing:
        """Counts no steps; its task ends, in another thread, just when one of its spans is left."""

        def enter(self, one: Span) -> None: ...

        def leave(self, one: Span) -> None:
            one.lapse(tape.now())

        def lapse(self, ident: int) -> None: ...

    tape = begun()
    steps: Any = Lapsing()
    tape.steps = steps
    one = span(tape).__enter__()
    one.__exit__(None, None, None)
    assert {edge[2] for edge in tape.take(9) if edge[1] == CLOSE} == {1}


def test_a_task_that_nobody_waits_for_is_collected_with_its_open_spans() -> None:
    tape = begun()

    async def waits_for_nobody() -> None:
        with span(tape):
            span(tape).__enter__()
            await asyncio.Event().wait()

    async def main() -> None:
        told: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))
        task = asyncio.create_task(waits_for_nobody())
        await asyncio.sleep(0)
        del task
        gc.collect()
        assert told == ["Task was destroyed but it is pending!"]

    asyncio.run(main())
    gc.collect()
    assert sorted(edge[1] for edge in tape.take(99)) == [OPEN, OPEN, CLOSE, CLOSE]


def test_a_span_outside_of_tasks_is_in_none() -> None:
    tape = begun()
    loop = asyncio.new_event_loop()
    try:
        loop.call_soon(apart, span(tape).__enter__)
        loop.call_soon(loop.stop)
        loop.run_forever()
    finally:
        loop.close()
    gc.collect()
    assert len(tape.take(99)) == 2  # nobody holds it any more


def test_questions_and_spans_have_ids_of_their_own() -> None:
    tape = begun()
    with span(tape):
        asked = tape.tally(7, "me")
    with span(tape):
        pass
    edges = tape.take(99)
    assert (7, TALLY, asked, "me") in edges
    assert len({edge[2] for edge in edges if edge[1] in (OPEN, TALLY)}) == 3


def test_threads_tell_without_losing_an_edge_or_sharing_an_id() -> None:
    tape = begun()

    def work() -> None:
        for _ in range(500):
            with span(tape), span(tape):
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    edges = tape.take(99_999)
    opened = [edge[2] for edge in edges if edge[1] == OPEN]
    closed = [edge[2] for edge in edges if edge[1] == CLOSE]
    assert len(opened) == len(set(opened)) == 8000
    assert sorted(opened) == sorted(closed)
    assert sum(1 for edge in edges if edge[1] == OPEN and edge[4]) == 4000

"""Spans: named stretches of a program, whose share of the energy is told by name.

A span follows its task: it is found by `contextvars`, so that spans opened in tasks, in `to_thread` and in task groups
lie inside the one around them. Entering and leaving cost a clock read and an append each.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Generator
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from aiocarbon._core.edges import CLOSE, MAX_NAME, OPEN, REFUSED, WEIGH, Tags, as_text, check_weight
from aiocarbon._engine.tape import LOOK_EVERY, State, Work, current
from aiocarbon.errors import UsageError

if TYPE_CHECKING:
    from aiocarbon._engine.tape import Opened, Tape

F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["Span"]

_current: ContextVar[Span | None] = current

RARELY = LOOK_EVERY - 1

PLAIN = 10**18
"""Whole numbers below it are no matter to write; those of thousands of digits are refused, or slow."""


class Span:
    """What `tracker.span(name)` returns: `with`, `async with`, or a decorator.

    ```python
    with tracker.span("rollout", actor=3) as span:
        ...

    @tracker.span("evaluate")
    async def evaluate(): ...
    ```

    Entered again after it was left, it is another span of the same name.
    """

    __slots__ = (
        "__weakref__", "_again", "_around", "_device", "_ident", "_in_task", "_owner",
        "_tags", "_tape", "_token", "_weight", "name",
    )  # fmt: skip
    _around: Span | None
    _in_task: set[Opened] | None
    _token: Any  # a Token while it is open

    def __init__(self, tape: Tape, name: str, weight: Any, device: Any, tags: dict[str, Any], owner: str = "") -> None:
        self._ident = 0
        self._again = 0
        self._tape = tape
        is_usual = name.__class__ is str and 0 < len(name) <= MAX_NAME
        # One character more than is kept, so that it is told; edges that wait may be many.
        self.name = name if is_usual else as_text(name, MAX_NAME + 1) or "(no name)"
        self._weight = 0.0 if weight is None else _weight(weight)
        self._device = "" if device is None else as_text(device, MAX_NAME)
        self._tags: Tags = _tags(tags) if tags else ()
        self._owner = owner

    # -- entering and leaving ----------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        tape = self._tape
        if self._ident or not (tape.is_on or self._may_open()):
            self._again += 1
            return self
        around = _current.get()
        while around is not None and not around._ident:
            around = around._around  # closed ones are not kept, however long a chain of tasks grows
        self._around = around
        while around is not None and not (around._tape is tape and around._ident):
            around = around._around  # of another tracker
        ident = self._ident = tape.next_id()
        if not ident & RARELY:
            tape.look()
        self._token = _current.set(self)
        loop = tape.running_loop()
        self._in_task = None if loop is None else tape.open_in(loop)
        if self._in_task is not None:
            self._in_task.add(self)
        if tape.steps is not None:
            tape.steps.enter(self)
        now = tape.now()
        tape.append(
            (
                now,
                OPEN,
                ident,
                self.name,
                0 if around is None else around._ident,
                self._weight,
                self._device and tape.device_id(self._device),
                self._tags,
                self._owner,
            )
        )
        if now >= tape.read_due_ns:
            tape.read_soon(now)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tape = self._tape
        now = tape.now()
        if self._again:
            self._again -= 1
            return
        ident = self._ident
        if ident:
            if tape.steps is not None:
                tape.steps.leave(self)
            tape.append((now, CLOSE, ident))
            if now >= tape.read_due_ns:
                tape.read_soon(now)
            token = self._token
            try:
                if token is not None:  # else it lapses at this instant, in its loop's thread
                    _current.reset(token)
            except ValueError:  # left in another task, or thread, than it was entered in
                self._step_aside()
            self._ident = 0
            self._token = None  # it holds the span that was around, and so on for a whole chain of tasks
            if self._in_task is not None:
                self._in_task.discard(self)
            around = self._around
            if around is not None and not around._ident:
                self._around = around._around  # likewise where each ends after the one it was opened in

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def _may_open(self) -> bool:
        """Whether it may be opened where that is not as usual.

        Raises:
            UsageError: The tracker was not entered.
            BudgetExceededError: The run's budget is used up.
        """
        if self._tape.state is State.BEFORE:
            raise UsageError(
                f"span({self.name[:50]!r}) before the tracker was entered: use it inside `async with Tracker(...)` "
                "(or `with`)"
            )
        return self._tape.may_open()

    def _step_in(self) -> None:
        """Become the span in which others are opened."""
        if self._ident:
            self._token = _current.set(self)

    def _step_aside(self) -> None:
        """Let the one around be that."""
        token = self._token if self._ident else None
        if token is None:
            return  # it was not opened, since the run is over, or has lapsed
        try:
            _current.reset(token)
        except ValueError:  # left in another task, or thread, than it was entered in
            if _current.get() is self:
                _current.set(self._around)

    def _resume(self) -> None:
        """Go on after a pause."""
        self._step_in()
        if self._tape.steps is not None and self._ident:
            self._tape.steps.resume(self)

    def _pause(self) -> None:
        """Let what runs next lie outside, though it stays open."""
        if self._tape.steps is not None and self._ident:
            self._tape.steps.pause(self)
        self._step_aside()

    def weigh(self, weight: float) -> None:
        """Give the span another weight from now on, for `attribution="weight"`.

        Args:
            weight: 1e-6 to 1e12; what is not accepted is counted in the report and changes nothing.
        """
        self._weight = _weight(weight)
        if self._ident:
            self._tape.append((self._tape.now(), WEIGH, self._ident, self._weight))

    def lapse(self, t_ns: int) -> None:
        """Close it at an instant, since its task has ended without leaving it."""
        if self._ident:
            if self._tape.steps is not None:
                self._tape.steps.lapse(self._ident)
            self._tape.append((t_ns, CLOSE, self._ident))
            self._ident = 0
            self._token = None

    def __del__(self) -> None:
        if self._ident:  # entered, and dropped without being left
            self.lapse(self._tape.now())

    # -- as a decorator ----------------------------------------------------------------------------------------

    def __call__(self, function: F) -> F:
        """Make each call of a function, coroutine function, generator or async generator a span of its own.

        A generator's span lasts from its first item to its end, and what its consumer does in between does not lie
        inside it.
        """
        return cast("F", spanned(function, self._like))

    def _like(self) -> Span:
        made = object.__new__(type(self))
        for slot in ("_tape", "name", "_weight", "_device", "_tags", "_owner"):
            setattr(made, slot, getattr(self, slot))
        made._ident = made._again = 0
        return made


class WorkSpan(Span):
    """A span of a class of work that comes at a pace of its own: predictions count it apart from the epochs' steps."""

    __slots__ = ("_begin_ns", "_count", "_every")

    def paced(self, every: Any, count: Any) -> Self:
        """Say how often it comes: after each so many epochs, or so many times in the whole run."""
        self._every = _whole(every)
        self._count = _whole(count)
        return self

    def __enter__(self) -> Self:
        was_open = bool(self._ident)
        super().__enter__()
        if self._ident and not was_open:
            self._begin_ns = self._tape.now()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        was_open = bool(self._ident)
        super().__exit__(kind, error, trace)
        if was_open and not self._ident and error is None:
            end_ns = self._tape.now()
            self._tape.works.append(Work(self.name, self._every, self._count, self._begin_ns, end_ns))

    def _like(self) -> Span:
        made = super()._like()
        return made.paced(self._every, self._count) if isinstance(made, WorkSpan) else made


def _whole(value: Any) -> int | None:
    """A number of pieces or epochs; None for what is none: the training must not stop for it."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def tape_here() -> Tape | None:
    """The tape of the run in whose span this code runs; None outside of spans."""
    span = _current.get()
    return None if span is None or span._tape.state is not State.ON else span._tape


def spanned(function: Callable[..., Any], make: Callable[[], Span]) -> Callable[..., Any]:
    """A function whose calls are spans.

    Args:
        function: A function, coroutine function, generator or async generator function.
        make: Makes the span of a call.
    """
    if inspect.isasyncgenfunction(function):
        return _async_generator(function, make)
    if inspect.iscoroutinefunction(function):
        return _coroutine(function, make)
    if inspect.isgeneratorfunction(function):
        return _generator(function, make)
    return _plain(function, make)


def _coroutine(function: Callable[..., Any], make: Callable[[], Span]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def run(*args: Any, **kwargs: Any) -> Any:
        with make():
            return await function(*args, **kwargs)

    return run


def _plain(function: Callable[..., Any], make: Callable[[], Span]) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        with make():
            return function(*args, **kwargs)

    return run


def _async_generator(function: Callable[..., Any], make: Callable[[], Span]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def run(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        with make() as span:
            async with contextlib.aclosing(function(*args, **kwargs)) as items:
                resume, told = items.asend, None
                while True:
                    try:
                        item = await resume(told)
                    except StopAsyncIteration:
                        return
                    span._pause()
                    try:
                        told = yield item
                        resume = items.asend
                    except GeneratorExit:
                        raise
                    except BaseException as thrown:
                        resume, told = items.athrow, thrown  # the consumer's athrow() is the generator's to see
                    finally:
                        span._resume()

    return run


def _generator(function: Callable[..., Any], make: Callable[[], Span]) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        with make() as span, contextlib.closing(function(*args, **kwargs)) as items:
            resume, told = items.send, None
            while True:
                try:
                    item = resume(told)
                except StopIteration as end:
                    return end.value
                span._pause()
                try:
                    told = yield item
                    resume = items.send
                except GeneratorExit:
                    raise
                except BaseException as thrown:
                    resume, told = items.throw, thrown  # the consumer's throw() is the generator's to see
                finally:
                    span._resume()

    return run


def _weight(value: Any) -> float:
    """A weight that is accepted, or what stands for one that is not: the training must not stop for it."""
    try:
        return check_weight(value)
    except Exception:  # also of the value's own class: a tensor of two elements, say
        return REFUSED


def _tags(told: dict[str, Any]) -> Tags:
    """Tags as texts, sorted by their keys. Most are plain texts and small numbers, which need no care."""
    pairs: Tags = ()
    for key, value in told.items():
        kind = value.__class__
        if kind is int and -PLAIN < value < PLAIN:
            text = f"{value}"
        elif kind is str and len(value) <= MAX_NAME and value.isascii():
            text = value
        else:
            text = as_text(value, MAX_NAME)
        is_plain = key.__class__ is str and len(key) <= MAX_NAME and key.isascii()
        pairs += ((key if is_plain else as_text(key, MAX_NAME), text),)  # nearly always there is one
    return pairs if len(pairs) < 2 else tuple(sorted(pairs))

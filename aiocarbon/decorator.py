"""`@track`: a function measured as a run of its own, unless a tracker is active already."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any, TypeVar, cast, overload

from aiocarbon._engine.handle import Handle
from aiocarbon._engine.tape import Tape
from aiocarbon.errors import UsageError
from aiocarbon.span import Span, spanned, tape_here
from aiocarbon.tracker import Tracker, Verbs

Function = Callable[..., Any]
F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["track"]


@overload
def track(function: F, /) -> F: ...
@overload
def track(**settings: Any) -> Callable[[F], F]: ...
def track(function: F | None = None, /, **settings: Any) -> Any:
    """Measure each call of a function, coroutine function, generator or async generator.

    Inside an active tracker the call is a span of that tracker's run. Else it is a run of its own, named after the
    function; its report is `function.last_report` once the call has ended.

    ```python
    @track(location="DK")
    async def train(): ...

    await train()
    print(train.last_report.energy_kwh)
    ```

    Args:
        function: What is decorated, where no settings are given.
        **settings: Settings of the run, as of `Tracker`.

    Raises:
        ConfigError: A setting is not accepted; at the decoration, before anything starts.
    """
    if function is None:
        return lambda decorated: _decorate(decorated, settings)
    return _decorate(function, settings)


def _decorate(function: F, settings: dict[str, Any]) -> F:
    settings = {"name": function.__qualname__[:200], **settings}
    inside = spanned(function, lambda: _span(settings["name"]))
    refusing = Tracker(**settings)  # bad settings, now
    if not (inspect.isasyncgenfunction(function) or inspect.iscoroutinefunction(function)):
        refusing._handle.verdicts.refuse_coroutines()
    if inspect.isasyncgenfunction(function):
        wrapper = _async_generator(function, inside, settings)
    elif inspect.iscoroutinefunction(function):
        wrapper = _coroutine(function, inside, settings)
    elif inspect.isgeneratorfunction(function):
        wrapper = _generator(function, inside, settings)
    else:
        wrapper = _plain(function, inside, settings)
    wrapper.last_report = None  # type: ignore[attr-defined]  # functions take attributes
    return cast("F", wrapper)


def _span(name: str) -> Span:
    """A span of the run in whose span this is, or of the one that began last."""
    active = Handle.newest_active()
    tape = tape_here() or (Tape.ended() if active is None else active.tape)
    return Span(tape, name, None, None, {})


def _coroutine(function: Function, inside: Function, settings: dict[str, Any]) -> Function:
    @functools.wraps(function)
    async def run(*args: Any, **kwargs: Any) -> Any:
        if Handle.newest_active() is not None:
            return await inside(*args, **kwargs)
        tracker = Tracker(**settings)
        try:
            async with tracker:
                return await function(*args, **kwargs)
        finally:
            _remember(run, tracker)

    return run


def _async_generator(function: Function, inside: Function, settings: dict[str, Any]) -> Function:
    @functools.wraps(function)
    async def run(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        tracker = None if Handle.newest_active() is not None else Tracker(**settings)
        # Two halves instead of `async with`: a scope around a yield would be left in another task.
        if tracker is not None:
            await tracker.start()
        try:
            async with contextlib.aclosing((inside if tracker is None else function)(*args, **kwargs)) as items:
                resume, told = items.asend, None
                while True:
                    try:
                        item = await resume(told)
                    except StopAsyncIteration:
                        break
                    try:
                        told = yield item
                        resume = items.asend
                    except GeneratorExit:
                        raise
                    except BaseException as thrown:
                        resume, told = items.athrow, thrown  # the consumer's athrow() is the generator's to see
        except BaseException as error:
            if tracker is not None:
                await tracker.__aexit__(type(error), error, error.__traceback__)
            raise
        else:
            if tracker is not None:
                await tracker.aclose()
        finally:
            if tracker is not None:
                _remember(run, tracker)

    return run


def _plain(function: Function, inside: Function, settings: dict[str, Any]) -> Function:
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        from aiocarbon import sync

        if Handle.newest_active() is not None:
            return inside(*args, **kwargs)
        tracker = sync.Tracker(**settings)
        try:
            with tracker:
                return function(*args, **kwargs)
        finally:
            _remember(run, tracker)

    return run


def _generator(function: Function, inside: Function, settings: dict[str, Any]) -> Function:
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        from aiocarbon import sync

        if Handle.newest_active() is not None:
            return (yield from inside(*args, **kwargs))
        tracker = sync.Tracker(**settings)
        try:
            with tracker:
                return (yield from function(*args, **kwargs))
        finally:
            _remember(run, tracker)

    return run


def _remember(run: Any, tracker: Verbs) -> None:
    """Keep the report of a call; None where its run could not begin, whose own error is then the one to be seen."""
    run.last_report = None
    with contextlib.suppress(UsageError):
        run.last_report = tracker.report()

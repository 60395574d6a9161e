"""A bar for long work, on stderr and only where a person looks on: with rich (`aiocarbon[demo]`), else plain lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, TypeVar

T = TypeVar("T")
LOOK_S = 0.5


class Bar:
    """What is done of some work; without a listener it does nothing."""

    def __init__(self, tell: Callable[[str, int, int], None] | None = None) -> None:
        self._tell = tell

    def show(self, what: str, done: int, total: int) -> None:
        """Show how far it is.

        Args:
            what: Is being done.
            done: Of it.
            total: At most.
        """
        if self._tell is not None:
            self._tell(what, done, total)

    def watched(self, what: str, total: int, file: Path, work: Callable[[], T]) -> T:
        """Do some work that writes one byte a step into a file, and show how far it is.

        Args:
            what: Is being done.
            total: Steps at most.
            file: That the work writes.
            work: Returns what this returns.
        """
        if self._tell is None:
            return work()
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(work)
            while wait_for([future], LOOK_S).not_done:
                self.show(what, file.stat().st_size if file.exists() else 0, total)
            return future.result()


@contextmanager
def workers(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads for work that mostly waits for children; where the block fails, Ctrl-C included, nothing more is begun.

    Args:
        count: How many at once.
    """
    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()


@contextmanager
def progress(out: TextIO = sys.stderr) -> Iterator[Bar]:
    """A bar while the block lasts.

    Args:
        out: Where it is drawn; nothing is where this is no terminal.
    """
    if not out.isatty():
        yield Bar()
        return
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        yield Bar(_lines(out))
        return
    with Progress(console=Console(file=out), transient=True) as drawn:
        task: Any = drawn.add_task("", total=None)
        yield Bar(lambda what, done, total: drawn.update(task, description=what, completed=done, total=total))


def each(items: Sequence[T], say: Callable[[T], str] = str) -> Iterator[T]:
    """Go through pieces of long work with a bar.

    Args:
        items: The pieces.
        say: What one is called.
    """
    with progress() as bar:
        for done, item in enumerate(items):
            bar.show(say(item), done, len(items))
            yield item


def joined(parts: Mapping[str, Callable[[], Sequence[T]]]) -> list[T]:
    """What all parts of long work give, in their order, with a bar.

    Args:
        parts: By what each is called.
    """
    return [found for name in each(list(parts)) for found in parts[name]()]


def _lines(out: TextIO, every_s: float = 10.0) -> Callable[[str, int, int], None]:
    """Plain lines, seldom."""
    last: list[float] = []

    def tell(what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if not last or now - last[0] >= every_s:
            last[:] = [now]
            print(f"{what}: {done} of at most {total}", file=out, flush=True)

    return tell

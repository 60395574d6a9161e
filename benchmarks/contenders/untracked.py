"""No tracker: what the others are compared with."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext

from benchmarks.contenders import Said


class Untracked:
    """Does nothing."""

    joins = True
    has_run = True

    def __init__(self, meters: str, interval_s: float | None) -> None: ...

    async def enter(self) -> None:
        """Enter nothing."""

    async def begin_epochs(self) -> None:
        """Begin nothing."""

    async def epoch(self) -> None:
        """Mark nothing."""

    def task(self, name: str) -> AbstractAsyncContextManager[None]:
        """Nothing."""
        return nullcontext()

    async def exit(self) -> None:
        """Exit nothing."""

    def said(self) -> Said:
        """Nothing."""
        return Said()

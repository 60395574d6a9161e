"""No tracker: what the others are compared with."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext

from benchmarks.contenders import Said


class Untracked:
    """Does nothing."""

    joins = True

    def __init__(self, meters: str, interval_s: float | None) -> None: ...

    async def enter(self) -> None: ...

    async def begin_epochs(self) -> None: ...

    async def epoch(self) -> None: ...

    def task(self, name: str) -> AbstractAsyncContextManager[None]:
        """Nothing."""
        return nullcontext()

    async def exit(self) -> None: ...

    def said(self) -> Said:
        """Nothing."""
        return Said()

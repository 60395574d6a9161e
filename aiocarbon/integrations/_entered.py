"""What is started and closed by hand, by `with` or by `async with`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Entered(ABC):
    """Starts on entering and closes on leaving, whatever happened in between."""

    __slots__ = ()

    @abstractmethod
    def start(self) -> object:
        """Begin; entering does it."""

    @abstractmethod
    def close(self) -> None:
        """End; leaving does it."""

    async def aclose(self) -> None:
        """End without holding the loop, where that takes time."""
        self.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

"""Those who follow the readings of this process: hears what they ask, reads for them, tells them that it lives.

While nobody follows, nothing here runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

import anyio
import anyio.abc

from aiocarbon._core.units import NS_PER_MS
from aiocarbon._engine.claims import FORGET_NS
from aiocarbon._engine.clock import Clock
from aiocarbon._engine.share import Share
from aiocarbon._engine.track import Track
from aiocarbon._logging import get_logger

if TYPE_CHECKING:
    from aiocarbon._engine.bell import Bell, Message

log = get_logger("audience")

BEAT_EVERY_NS: Final = 500 * NS_PER_MS


class Hands(Protocol):
    """What takes the readings of this process: the sampler, as far as it is needed here."""

    async def read_own(self) -> None:
        """Read every device that is this process's to read, now."""
        ...

    async def sweep(self, tracks: Sequence[Track]) -> None:
        """Read some devices once."""
        ...

    def watch_own(self, t_ns: int) -> None:
        """Watch the counters of this process's devices to their next change after an instant."""
        ...

    def refresh_tasks(self) -> None:
        """Begin what devices need that are read from now on."""
        ...


class Audience:
    """Those who follow.

    Attributes:
        hands: What takes the readings.
        wanted_ns: The shortest interval that a follower wants; None while there is none.
        beat_ns: When it was last told that this process lives, monotonic nanoseconds.

    Args:
        clock: The engine's clock.
        group: The engine's tasks.
        reads: The devices that this process reads for others.
        changed: Called when `wanted_ns` has changed.
        beaten: Called at each beat.
    """

    def __init__(
        self,
        clock: Clock,
        group: anyio.abc.TaskGroup,
        reads: Callable[[], Iterable[tuple[Track, Share]]],
        changed: Callable[[], None],
        beaten: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._group = group
        self._reads = reads
        self._changed = changed
        self._beaten = beaten
        self._heard: dict[bytes, tuple[int, int]] = {}
        self._hearing: anyio.CancelScope | None = None
        self._is_beating = self._is_answering = self._is_asked_again = False
        self.hands: Hands
        self.wanted_ns: int | None = None
        self.beat_ns = 0

    def hear(self, bell: Bell) -> None:
        """Begin to hear a bell, if that has not begun."""
        if self._hearing is None:
            self._hearing = anyio.CancelScope()
            self._group.start_soon(self._hear, bell, self._hearing)

    def go(self) -> None:
        """Hear nobody any more, and forget all."""
        if self._hearing is not None:
            self._hearing.cancel()
            self._hearing = None
        self._heard.clear()
        self._count()

    def tell(self, *, is_left: bool = False) -> None:
        """Let those who follow know how the devices are doing."""
        for track, share in self._reads():
            share.tell(track, beat_ns=self.beat_ns, is_followed=bool(self._heard), is_left=is_left)

    async def _hear(self, bell: Bell, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                while bell.fd >= 0:
                    await anyio.wait_readable(bell.fd)
                    self._heed(bell.messages())
        except OSError as error:  # those who ask then wait in vain, and replace this process
            log.debug("audience.deaf", why=str(error))
        finally:
            bell.close()

    def _heed(self, messages: Iterable[Message]) -> None:
        now = self._clock.monotonic_ns()
        is_question, watched_ns = False, 0
        for message in messages:
            if not message.interval_ns:
                self._heard.pop(message.token, None)
                continue
            self._heard[message.token] = (now, message.interval_ns)
            is_question = is_question or message.is_question
            watched_ns = max(watched_ns, message.watched_ns)
        if is_question:
            self._is_asked_again = True
            if not self._is_answering:
                self._is_answering = True
                self._group.start_soon(self._answer)
        if watched_ns:
            self.hands.watch_own(min(watched_ns, now))
        if self._heard and not self._is_beating:
            self._is_beating = True
            self._group.start_soon(self._beat_for_ever)
        self._count()

    async def _answer(self) -> None:
        """Read; and again for those who asked meanwhile, since a reading must lie behind its question."""
        try:
            while self._is_asked_again:
                self._is_asked_again = False
                await self.hands.read_own()
        finally:
            self._is_answering = False

    async def _beat_for_ever(self) -> None:
        while True:
            now = self.beat_ns = self._clock.monotonic_ns()
            self.forget_silent()
            for _, share in self._reads():
                share.look()
            self.tell()
            self._beaten()
            if not self._heard:
                self._is_beating = False
                return
            await self._clock.sleep_until(now + BEAT_EVERY_NS)

    def forget_silent(self) -> bool:
        """Forget those who are gone; True if anybody is left."""
        now_ns = self._clock.monotonic_ns()
        gone = [token for token, (heard_ns, _) in self._heard.items() if now_ns - heard_ns > FORGET_NS]
        for token in gone:
            del self._heard[token]
        if gone:
            self._count()
        return bool(self._heard)

    def _count(self) -> None:
        wanted_ns = min((interval_ns for _, interval_ns in self._heard.values()), default=None)
        if wanted_ns != self.wanted_ns:
            self.wanted_ns = wanted_ns
            self._changed()

"""Asks sources, once for everybody: each question goes out once per published value, whoever needs the answer.

What was answered is kept in memory and on disk, where all processes of the user find it; a lock on disk sees to it that
one of them asks. A source that fails is tried again a few times, then left alone for growing pauses, which all
processes share too. Nothing here knows what the answers are for.
"""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import anyio

from aiocarbon._core.answer import Answer
from aiocarbon._core.units import NS_PER_S, S_PER_NS
from aiocarbon._engine.clock import Clock
from aiocarbon._engine.deadline import within
from aiocarbon._engine.questions import NOW, Kind, Question, digest, fresh_until_s, key_of
from aiocarbon._forks import FORKS
from aiocarbon._logging import get_logger
from aiocarbon.errors import BadAnswerError, IntensityError, NoDataError, SourceDownError, SourceRefusedError
from aiocarbon.intensity.base import Source
from aiocarbon.intensity.cache import Cache, Entry
from aiocarbon.intensity.client import Client
from aiocarbon.intensity.wording import hidden

if TYPE_CHECKING:
    import tenacity

log = get_logger("intensity")

ATTEMPTS: Final = 3
ATTEMPTS_LIMIT_S: Final = 30.0
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 8.0
OPEN_FIRST_S: Final = 30.0
"""How long a source that failed is left alone; doubled with each further failure."""

OPEN_MOST_S: Final = 900.0
REFUSED_S: Final = 3600.0
"""A source that refuses is asked again after this at the earliest: a plan or a zone may have changed."""

ONCE_LIMIT_S: Final = 30.0
"""How long one attempt may take. Our own sources give up earlier; a plug-in's may never."""

PAST_LIMIT_S: Final = 300.0
"""The same for the past, which is asked for in pieces."""

RELEASE_LIMIT_S: Final = 1.0
LOOK_AGAIN_S: Final = 0.1
WAIT_FOR_OTHERS_S: Final = 40.0


@dataclass(slots=True)
class State:
    """How a source is, for those who tell it.

    Attributes:
        word: "answered", "from the cache", "does not answer", "refuses", "has no data", "not asked".
        why: Why it does not answer; empty if it does.
        latency_s: How long its last answer took; None if it was not asked here.
    """

    word: str = "not asked"
    why: str = ""
    latency_s: float | None = None


class NotYetError(SourceDownError):
    """This machine asked the source a moment ago, and its turn comes later than the caller waits."""


class Exchange:
    """Everything this process asks of sources.

    Args:
        clock: The engine's.
        client: The way out; None where no packet may be sent.
        cache: What is shared with other processes.
        blocking: Runs a blocking function in a worker.
        chance: A number of 0..1, for jitter.

    Attributes:
        clock_off_s: By how much this machine's clock is ahead of that of the server that answered last, seconds.
    """

    def __init__(
        self,
        clock: Clock,
        client: Client | None,
        cache: Cache,
        blocking: Callable[..., Awaitable[Any]],
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.clock = clock
        self.client = client
        self.cache = cache
        self.states: dict[str, State] = {}
        self.clock_off_s = 0.0
        self.blocking = blocking
        self._chance = chance
        self._entries: dict[str, Entry] = {}
        self._locks: dict[str, anyio.Lock] = {}
        self._is_tidied = False

    @property
    def now_s(self) -> float:
        """UTC seconds since 1970."""
        return self.clock.wall_ns() * S_PER_NS

    # -- asking ------------------------------------------------------------------------------------------------

    async def ask(self, source: Source, question: Question = NOW) -> Answer:
        """The answer to a question: one that is known and still the newest, or a fresh one.

        Raises:
            IntensityError: There is none, and why; at once while the source is left alone.
        """
        key = key_of(source, question)
        async with self._locks.setdefault(key, anyio.Lock()):
            if not source.traits.is_remote:  # a file, which may have been written anew since
                return await self._ask(source, question, key, self._entries.get(key, Entry()))
            entry = await self._known(key)
            if (answer := self._settled(source, entry)) is not None:
                return answer
            if self.client is None:
                raise SourceDownError("no packet may be sent (offline)", source=source.traits.name)
            lock = await self._turn(key)
            try:
                entry = await self._look(key)
                if (answer := self._settled(source, entry)) is not None:
                    return answer
                return await self._ask(source, question, key, entry)
            finally:
                await self._release(lock)

    async def last(self, source: Source, question: Question = NOW) -> Answer | None:
        """What was answered last, however long ago, without asking."""
        return (await self._known(key_of(source, question))).answer

    def due_s(self, source: Source) -> float:
        """UTC seconds at which it is worth asking for the newest value again."""
        entry, now_s = self._entries.get(key_of(source, NOW), Entry()), self.now_s
        # What was noted later than now was noted before the clock was set back, and counts no more.
        return max(
            entry.due_s if entry.asked_s <= now_s else now_s, entry.not_before_s if entry.failed_s <= now_s else 0.0
        )

    def is_left_alone(self, source: Source) -> bool:
        """True while it is known not to answer."""
        return self._entries.get(key_of(source, NOW), Entry()).is_left_alone(self.now_s)

    def _settled(self, source: Source, entry: Entry) -> Answer | None:
        """The answer that is known, if it need not be asked for.

        Raises:
            SourceDownError: The source is left alone.
        """
        now_s = self.now_s
        if entry.is_left_alone(now_s):
            self._tell(source, State("does not answer", entry.why))
            raise SourceDownError(entry.why, source=source.traits.name, retry_after_s=entry.not_before_s - now_s)
        if entry.answer is not None and entry.asked_s <= now_s < entry.due_s:
            if self.state(source).word != "answered":
                self._tell(source, State("from the cache"))
            return entry.answer
        return None

    async def _known(self, key: str) -> Entry:
        """What is known of a question: what another process learnt meanwhile, where that is newer."""
        mine = self._entries.get(key)
        if mine is None or self.now_s >= max(mine.due_s, mine.not_before_s):
            return await self._look(key)
        return mine

    async def _look(self, key: str) -> Entry:
        """What is known here or on disk, whichever is newer: a folder may be readable and not writable."""
        theirs: Entry | None = await self.blocking(self.cache.read, key)
        mine = self._entries.get(key, Entry())
        if theirs is not None and max(theirs.asked_s, theirs.failed_s) >= max(mine.asked_s, mine.failed_s):
            self._entries[key] = mine = theirs
        return mine

    async def _turn(self, key: str) -> Any:
        """Wait until no other process asks this question; its answer may be there then."""
        until_ns = self.clock.monotonic_ns() + round(WAIT_FOR_OTHERS_S * NS_PER_S)
        while True:
            lock = await self.blocking(self.cache.lock, key)
            if lock is not None:
                return lock
            if self.clock.monotonic_ns() > until_ns:
                raise SourceDownError("another process has been asking it for too long")
            await self._pause(LOOK_AGAIN_S * (1.0 + self._chance()))

    async def _ask(self, source: Source, question: Question, key: str, entry: Entry) -> Answer:
        traits = source.traits
        began_ns = self.clock.monotonic_ns()
        try:
            answer = await self._tried(source, question, has_failed=entry.failures > 0)
        except NotYetError as error:  # nothing was asked, so nothing failed
            self._tell(source, State("not asked", str(error)))
            raise
        except IntensityError as error:
            await self._failed(source, key, entry, error)
            raise
        now_s = self.now_s
        self._tell(source, State("answered", latency_s=(self.clock.monotonic_ns() - began_ns) * S_PER_NS))
        if traits.is_remote and self.client is not None and self.client.date_s is not None:
            self.clock_off_s = now_s - self.client.date_s
        due_s = fresh_until_s(source.traits, question, answer, now_s, self._chance())
        await self._keep(key, Entry(answer=answer, asked_s=now_s, due_s=due_s), is_shared=traits.is_remote)
        return answer

    async def _tried(self, source: Source, question: Question, *, has_failed: bool) -> Answer:
        """Ask, a few times; once only if it failed the last time it was asked."""
        tenacity = await self.blocking(_load_tenacity)
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(_may_be_asked_again),
            stop=tenacity.stop_after_attempt(1 if has_failed else ATTEMPTS)
            | tenacity.stop_after_delay(ATTEMPTS_LIMIT_S),
            wait=self._wait_s,
            sleep=self._pause,
            before_sleep=lambda state: self._tell(source, State("does not answer", _why(state))),
            reraise=True,
        )
        answer: Answer = await retrying(self._once, source, question)
        return answer

    async def _once(self, source: Source, question: Question) -> Answer:
        """Ask once; whatever a plug-in throws becomes ours."""
        assert self.client is not None or not source.traits.is_remote
        client: Any = self.client
        now_s, traits = self.now_s, source.traits

        async def work() -> Answer:
            if question.kind is Kind.NOW:
                return await source.now(client, now_s)
            if question.kind is Kind.PAST:
                return await source.past(client, question.begin_s, question.end_s, now_s)
            return await source.forecast(client, now_s, question.hours)

        if traits.spacing_s > 0.0:
            await self._spaced(source, question)
        try:
            return await within(self.clock, PAST_LIMIT_S if question.kind is Kind.PAST else ONCE_LIMIT_S, work)
        except TimeoutError as error:
            raise SourceDownError(f"{traits.title} did not answer: {error}", source=traits.name) from error
        except IntensityError:
            raise
        except Exception as error:
            why = f"{traits.title}: {type(error).__name__}: {hidden(str(error))}"
            raise BadAnswerError(why, source=traits.name) from error

    async def _spaced(self, source: Source, question: Question) -> None:
        """Wait until the source may be asked again by this machine; all its processes take turns.

        A turn is taken when it has come: one that was taken ahead would be lost with whoever stops waiting for it.

        Raises:
            NotYetError: It comes later than the caller waits.
        """
        traits = source.traits
        part = "forecast" if question.kind is Kind.FORECAST else "values"
        key = f"spacing {traits.name} {part} {digest(traits.asked_at)}"
        while True:
            lock = await self._turn(key)
            try:
                entry, now_s = await self._look(key), self.now_s
                left_s = min(entry.due_s, entry.asked_s + traits.spacing_s) - now_s
                if left_s <= 0.0 or entry.asked_s > now_s:
                    await self._keep(key, Entry(asked_s=now_s, due_s=now_s + traits.spacing_s))
                    return
            finally:
                await self._release(lock)
            if left_s > anyio.current_effective_deadline() - anyio.current_time():
                why = f"this machine asked it a moment ago and may ask it again in {math.ceil(left_s)} s"
                raise NotYetError(why, source=traits.name, retry_after_s=left_s)
            await self._pause(left_s)

    def _wait_s(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        asked = error.retry_after_s if isinstance(error, SourceDownError) else None
        if asked is not None:
            return max(asked, FIRST_PAUSE_S / 2.0)
        most = min(FIRST_PAUSE_S * 2.0**state.attempt_number, LONGEST_PAUSE_S)
        return FIRST_PAUSE_S / 2.0 + self._chance() * most  # full jitter above a floor

    async def _pause(self, seconds: float) -> None:
        await self.clock.sleep_until(self.clock.monotonic_ns() + round(seconds * NS_PER_S))

    async def remembered(
        self, key: str, kept_s: float, find: Callable[[], Awaitable[tuple[str, str]]]
    ) -> tuple[Entry, bool]:
        """What is found out once for all processes and kept for some time; and whether it was asked for just now.

        Args:
            key: What it is.
            kept_s: For how long it is believed, seconds.
            find: Asks; a text, empty where the answers do not settle it, which is believed for a shorter time, and why.
                With a SourceDownError it is left alone for growing pauses, as a source is.
        """
        if self._stands(entry := await self._look(key)):
            return entry, False
        lock = await self._turn(key)
        try:
            if self._stands(entry := await self._look(key)):
                return entry, False
            try:
                place, why = await find()
                now_s = self.now_s
                entry = Entry(asked_s=now_s, due_s=now_s + (kept_s if place else OPEN_MOST_S), place=place, why=why)
            except SourceDownError as error:
                entry = self._failure(entry, str(error))
            await self._keep(key, entry)
            return entry, True
        finally:
            await self._release(lock)

    def _stands(self, entry: Entry) -> bool:
        """Whether there is no need to ask, or no use in it yet."""
        return entry.asked_s <= self.now_s < entry.due_s or entry.is_left_alone(self.now_s)

    async def _release(self, lock: Any) -> None:
        with anyio.move_on_after(RELEASE_LIMIT_S, shield=True):
            await self.blocking(lock.release)

    # -- keeping -----------------------------------------------------------------------------------------------

    async def _failed(self, source: Source, key: str, entry: Entry, error: IntensityError) -> None:
        """Leave a source alone for a while, and tell the other processes."""
        traits, failed = source.traits, self._failure(entry, str(error))
        pause_s, word = failed.not_before_s - failed.failed_s, "does not answer"
        if isinstance(error, SourceRefusedError):
            pause_s, word = REFUSED_S, "refuses"
        elif isinstance(error, NoDataError):
            pause_s, word = max(pause_s, min(traits.step_s, OPEN_MOST_S)), "has no data"
        elif isinstance(error, BadAnswerError):
            word = "answers nonsense"
        if isinstance(error, SourceDownError) and error.retry_after_s is not None:
            pause_s = max(pause_s, error.retry_after_s)
        self._tell(source, State(word, str(error)))
        log.debug("intensity.failed", source=traits.name, why=str(error), pause_s=pause_s)
        failed = replace(failed, not_before_s=failed.failed_s + pause_s)
        # What this user may not ask, another may: a refusal is not told to other processes.
        await self._keep(key, failed, is_shared=traits.is_remote and not isinstance(error, SourceRefusedError))

    def _failure(self, entry: Entry, why: str) -> Entry:
        """What is known of a question that was not answered once more: it is left alone for growing pauses."""
        now_s, failures = self.now_s, entry.failures + 1
        pause_s = min(OPEN_FIRST_S * 2.0 ** min(failures - 1, 10), OPEN_MOST_S) * (0.75 + self._chance() / 2.0)
        return replace(entry, failures=failures, failed_s=now_s, not_before_s=now_s + pause_s, why=why)

    async def _keep(self, key: str, entry: Entry, *, is_shared: bool = True) -> None:
        self._entries[key] = entry
        if is_shared:
            await self.blocking(self.cache.write, key, entry)
            if not self._is_tidied:
                self._is_tidied = True
                await self.blocking(self.cache.tidy)

    def _tell(self, source: Source, state: State) -> None:
        self.states[f"{source.traits.name} {source.traits.zone}"] = state

    def state(self, source: Source) -> State:
        """How a source is."""
        return self.states.get(f"{source.traits.name} {source.traits.zone}", State())

    async def aclose(self) -> None:
        """Close the way out."""
        if self.client is not None:
            await self.client.aclose()


def _why(state: tenacity.RetryCallState) -> str:
    """What an attempt failed by."""
    return str(state.outcome.exception()) if state.outcome is not None else ""


def _may_be_asked_again(error: BaseException) -> bool:
    """Whether an error may pass within seconds."""
    if isinstance(error, SourceDownError) and not isinstance(error, NotYetError):
        return error.retry_after_s is None or error.retry_after_s <= LONGEST_PAUSE_S
    return isinstance(error, BadAnswerError) and error.may_pass


def _load_tenacity() -> Any:  # Any: a module
    with FORKS.kept_off():
        import tenacity

        return tenacity

"""The children of a tracker: parts of a run with epochs and steps of their own, and the energy of their spans."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiocarbon._core.body import Child, Stint
from aiocarbon._core.spans import Sums
from aiocarbon._core.supply import QUANTUM
from aiocarbon._core.units import s_from_ns
from aiocarbon._engine.marks import Marks, Style
from aiocarbon._engine.verdicts import Verdicts

if TYPE_CHECKING:
    from concurrent.futures import Future

    from aiocarbon._core.report import EpochReport
    from aiocarbon._core.span_report import ChildReport
    from aiocarbon._engine.handle import Handle
    from aiocarbon._engine.session import Session

KEPT_STINTS: Final = 1000
"""Of each child the last epochs that are kept."""


KEPT_IN_ALL: Final = 2000
"""Of all children together the last epochs that a report holds: it is made anew for whoever reads it, at some 20 us an
epoch. A journal has them all."""

KEPT_LEAST: Final = 5
"""Of each child, however many there are."""

MOST_CHILDREN: Final = 1000
"""Children of a run that are kept apart; further ones are `OTHER_CHILDREN` together."""

OTHER_CHILDREN: Final = "(other children)"


@dataclass(slots=True)
class Question:
    """What a child's spans have used up to an instant; `answer` is None until that is known."""

    ident: int
    t_ns: int
    answer: Sums | None = None


@dataclass(slots=True)
class Epoch:
    """An epoch of a child, between two questions."""

    index: int
    begin: Question
    end: Question
    steps: int
    is_partial: bool

    def stint(self) -> Stint:
        """As far as it is known."""
        a, b = self.begin.answer, self.end.answer
        energy, co2eq = (0, 0) if a is None or b is None else (b.energy - a.energy, b.co2eq - a.co2eq)
        return Stint(
            index=self.index,
            duration_s=max(s_from_ns(self.end.t_ns - self.begin.t_ns), 0.0),
            energy_j=max(energy, 0) * QUANTUM,
            co2eq_g=max(co2eq, 0) * QUANTUM,
            steps=self.steps,
            is_partial=self.is_partial,
            is_final=a is not None and b is not None,
        )


class Books:
    """What a run's engine keeps of one child; all on its thread.

    Args:
        name: The child's.
        begin: Where its first epoch begins.

    Attributes:
        present: Tells the steps since the last epoch's end, which no epoch holds.
    """

    def __init__(self, name: str, begin: Question) -> None:
        self.name = name
        self._last = begin
        self._waiting = [begin]
        self._open: list[Epoch] = []  # whose energy is not known yet
        self._known: deque[Stint] = deque(maxlen=KEPT_STINTS)
        self.news: deque[Stint] = deque(maxlen=KEPT_STINTS)
        self._total = self._steps = 0
        self.present: Callable[[], int] = int

    def begin(self, question: Question) -> None:
        """Begin an epoch, or move the begin of the present one."""
        self._waiting.append(question)
        self._last = question

    def end(self, question: Question, steps: int, *, is_partial: bool) -> Epoch:
        """End the epoch that is open, and begin the next."""
        made = Epoch(self._total, self._last, question, steps, is_partial)
        self._waiting.append(question)
        self._last = question
        self._total += 1
        self._steps += steps
        self._open.append(made)
        return made

    def learn(self, tallies: dict[int, Sums]) -> None:
        """Take the answers that are known by now away."""
        for question in self._waiting:
            if question.answer is None:
                question.answer = tallies.pop(question.ident, None)
        self._waiting = [question for question in self._waiting if question.answer is None]
        still = []
        for epoch in self._open:
            stint = epoch.stint()
            if stint.is_final:
                self._known.append(stint)
                self.news.append(stint)
            else:
                still.append(epoch)
        self._open = still

    def recall(self) -> None:
        """Look upon all epochs that are kept as new."""
        self.news = self._known.copy()

    def told(self, at_most: int) -> Child:
        """For a report, with so many of the last epochs whose energy is known."""
        known = self._known if len(self._known) <= at_most else list(self._known)[-at_most:]
        stints = (*known, *(epoch.stint() for epoch in self._open))
        return Child(name=self.name, steps=self._steps + self.present(), stints=stints, total=self._total)


class Round:
    """Where questions of children are answered: readings that are taken for one serve all that had asked by then."""

    def __init__(self) -> None:
        import anyio

        self._lock = anyio.Lock()
        self._asked_ns = self._served_ns = -1

    async def serve(self, engine: Any, session: Session, t_ns: int) -> None:
        """Have what is asked up to an instant answered, as far as it can be."""
        self._asked_ns = max(self._asked_ns, t_ns)
        async with self._lock:
            if t_ns > self._served_ns:
                self._served_ns = self._asked_ns
                await engine.share_upto(session, self._asked_ns)


def kept_of_each(children: int) -> int:
    """Epochs of each of some children that a report holds."""
    return min(KEPT_STINTS, max(KEPT_IN_ALL // max(children, 1), KEPT_LEAST))


class ChildHandle(Marks):
    """A child as its user's threads see it.

    Args:
        run: Its run.
        name: Its name.
    """

    def __init__(self, run: Handle, name: str) -> None:
        super().__init__()
        self.run = run
        self.name = name
        self.verdicts = Verdicts(None, None)
        self._books: Books | None = None

    @property
    def is_active(self) -> bool:  # type: ignore[override]  # its run's
        """Whether its run goes on."""
        return self.run.is_active

    @property
    def mark_limit_s(self) -> float:  # type: ignore[override]  # its run's
        """Longest wait for a mark's report, seconds."""
        return self.run.mark_limit_s

    def tell(self, message: str) -> None:
        """Warn, once a message."""
        self.run.tell(f"{self.name}: {message}")

    def fail(self, error: BaseException) -> None:
        """Treat an error of the instrument as the run does."""
        self.run.fail(error)

    def heed_budget(self) -> None:
        """Act if the run's budget is used up."""
        self.run.heed_budget()

    def paused(self, t_ns: int, waited_s: float, why: str) -> None:
        """A child has no pauses of its own."""

    def start(self, t_ns: int) -> None:
        """Begin the first epoch here.

        Raises:
            UsageError: The run has not begun.
        """
        if self._may_mark(f"child({self.name!r})") and self._style is not Style.ENTERED:
            self._call(t_ns, lambda books, question: books.begin(question))

    def leave(self, t_ns: int) -> None:
        """End it: an epoch that is open is partial."""
        if self._is_open and self.is_active:
            self.end_epoch(t_ns, is_partial=True)

    def report(self) -> ChildReport:
        """What it has used, out of the newest report of its run.

        Raises:
            UsageError: The run has not begun.
        """
        from aiocarbon._core.span_report import unknown_child

        report = self.run.report()
        known = next((child for child in report.children if child.name == self.name), None)
        return known or unknown_child(self.name, report)

    # -- marks -------------------------------------------------------------------------------------------------

    def _may_mark(self, verb: str) -> bool:
        return self.run._may_mark(verb)

    def _open(self, t_ns: int, *, is_entered: bool) -> Future[Any] | None:
        return self._call(t_ns, lambda books, question: books.begin(question))

    def _border(self, t_ns: int, steps: int) -> Future[Any] | None:
        return self._close(t_ns, steps, is_partial=False)

    def _close(self, t_ns: int, steps: int, *, is_partial: bool) -> Future[Any] | None:
        return self._call(t_ns, lambda books, question: books.end(question, steps, is_partial=is_partial))

    def _call(self, t_ns: int, act: Callable[[Books, Question], Epoch | None]) -> Future[Any] | None:
        """Ask what its spans have used up to an instant, and have the engine set a mark there."""
        run, session = self.run, self.run.begun("child()")
        question = Question(run.tape.tally(t_ns, self.name), t_ns)

        async def verb(engine: Any) -> EpochReport | None:
            books = session.sharing.child(self.name, question)
            books.present = lambda: self._steps
            epoch = act(books, question)
            if epoch is None:
                return None
            await session.sharing.round.serve(engine, session, t_ns)
            books.learn(session.sharing.tallies)  # it may have been answered before the books knew that it was asked
            from aiocarbon._core.span_report import stint_report

            assert session.newest is not None  # published where the run began
            return stint_report(epoch.stint(), session.newest[1], session.ledger.pue.value, session.sharing.newest)

        return run.call(verb)

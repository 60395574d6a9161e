"""Keeps the split of one run's energy among its spans: takes the edges off the tape, and tells what the curves say.

Runs on the engine's thread, in slices. Where no span was ever opened nothing of this is loaded.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import anyio

from aiocarbon._core.policy import Split
from aiocarbon._engine.frozen import bounded
from aiocarbon._engine.known import TELLING_NS
from aiocarbon._logging import get_logger

if TYPE_CHECKING:
    from aiocarbon._core.attribution import Attribution
    from aiocarbon._core.body import Child, Stint
    from aiocarbon._core.edges import Edge
    from aiocarbon._core.feed import Feed
    from aiocarbon._core.ledger import Ledger, Mark
    from aiocarbon._core.shares import Account
    from aiocarbon._core.spans import Sums
    from aiocarbon._engine.children import Books, Question, Round
    from aiocarbon._engine.tape import Tape

log = get_logger("sharing")

STEP: Final = 256
"""Edges split in one step: at most half a millisecond."""

CHUNK: Final = 2048
"""Edges taken off the tape in one step."""

SLICE_NS: Final = 600_000
"""Steps of so much time are taken together: between them others have their turn."""

TELL_SHARE: Final = 0.005
"""A new account is made once what the last one took is this share of the time since."""


class Sharing:
    """The shares of one run.

    Args:
        ledger: Its curves, intensity and PUE.
        rule: How its energy is split.

    Attributes:
        newest: The newest account; None while no span was opened.
        tape: What is told of spans; None where nobody can.
        problem: Why there are no shares any more; empty while there are.
        turn: Held while energy is split.
        is_busy: True while `advance` is under way.
        end_ns: Where the run ends, as far as that is known; the engine may come to the end later.
    """

    def __init__(self, ledger: Ledger, rule: Split) -> None:
        self.newest: Account | None = None
        self.tape: Tape | None = None
        self.problem = ""
        self.turn = anyio.Lock()
        self.is_busy = False
        self._rule = rule
        self._ledger = ledger
        self._split: tuple[Attribution, Feed] | None = None
        self._due_ns = 0
        self.end_ns = 1 << 63  # after all else
        self._wanted_ns: int | None = None
        self._books: dict[str, Books] = {}
        self._round: Round | None = None

    @property
    def is_wanted(self) -> bool:
        """True if there is, or was, a span."""
        return not self.problem and self.tape is not None and (self._split is not None or bool(self.tape.edges))

    def ends(self, t_ns: int) -> None:
        """The run ends at an instant, from whatever thread that is told: nothing behind it is split."""
        self.end_ns = t_ns

    def hasten(self, t_ns: int) -> None:
        """Have an account made of the energy up to an instant once that is split, whatever it takes."""
        self._wanted_ns = t_ns

    def advance(self, begin: Mark, upto: Mark, *, is_last: bool = False) -> Iterator[None]:
        """Split all energy up to an instant, in slices; one call at a time.

        Args:
            begin: Where the run began.
            upto: Up to where its devices' energy is known.
            is_last: True at the run's end: spans that are open end there.
        """
        if not self.is_wanted:
            return
        self.is_busy = True
        try:
            yield from _in_slices(self._advance(begin, upto, is_last))
        except Exception as error:  # an error of ours costs the run its shares, and nothing else
            log.warning("sharing.failed", why=f"{type(error).__name__}: {error}")
            self.problem = f"energy is not split among spans any more: {type(error).__name__}: {error}"
            self.newest = self._split = None
            if self.tape is not None:
                self.tape.mute()
        finally:
            self.is_busy = False

    def _advance(self, begin: Mark, upto: Mark, is_last: bool) -> Iterator[None]:
        tape = self.tape
        assert tape is not None  # or it were not wanted
        edges = tape.take(CHUNK)
        attribution, feed = self._split = self._split or self._begin(begin, upto, edges)
        attribution.tell(edges)
        for _ in range(len(tape.edges) // CHUNK + 1):  # all that wait by now, in chunks that are soon put in order
            attribution.arrange()
            yield
            attribution.tell(tape.take(CHUNK))
        attribution.tell(tape.amounts(upto.t_ns))
        tape.held = attribution.waiting
        if upto.t_ns > feed.at_ns or is_last:
            attribution.supply(feed.upto(begin, upto))
            yield
        while attribution.settle(feed.at_ns, STEP):
            yield
        tape.held = attribution.waiting
        if is_last:
            while attribution.finish(feed.at_ns, STEP):
                yield
        self._learn(attribution)
        is_wanted = self._wanted_ns is not None and feed.at_ns >= self._wanted_ns
        if is_last or is_wanted or time.monotonic_ns() >= self._due_ns:
            if is_wanted:
                self._wanted_ns = None
            yield from self._tell(attribution, begin, upto)

    def _begin(self, begin: Mark, upto: Mark, edges: list[Edge]) -> tuple[Attribution, Feed]:
        from aiocarbon._core.attribution import Attribution
        from aiocarbon._core.feed import Feed

        floor = self._rule.floor_w
        by_device, in_all = (None, floor) if floor is None or isinstance(floor, float) else (floor, None)
        attribution = Attribution(begin.t_ns, policy=self._rule.policy, idle=self._rule.idle, floor_w=by_device)
        feed = Feed(self._ledger, begin.t_ns, in_all, by_device or ())
        # What was used before the first span tells the idle floor, which counts from that span on.
        first_ns = min(*(edge[0] - TELLING_NS for edge in edges), upto.t_ns)
        if first_ns > begin.t_ns:
            attribution.supply(feed.upto(begin, bounded(self._ledger.mark(first_ns), begin, upto)))
            attribution.settle(first_ns)
        return attribution, feed

    def _tell(self, attribution: Attribution, begin: Mark, upto: Mark) -> Iterator[None]:
        from aiocarbon._core.shares import Account, steps_of

        # In CPU time, and without the import: on a busy machine, and the first time, accounts would else be rare, and a
        # process that is killed would have told nothing of its newest seconds.
        began_ns = time.thread_time_ns()
        shares = yield from steps_of(attribution, upto.t_ns)
        known_g = self._ledger.cut(begin, upto).carbon.co2eq_g
        factor = known_g / shares.co2eq_g if shares.co2eq_g > 0.0 else 1.0
        assert self.tape is not None  # it was asked above
        self.newest = Account(shares=shares, co2eq_factor=factor, dropped=self.tape.dropped)
        self._due_ns = time.monotonic_ns() + round((time.thread_time_ns() - began_ns) / TELL_SHARE)

    # -- children ----------------------------------------------------------------------------------------------

    def child(self, name: str, begin: Question) -> Books:
        """The books of a child; a new one's first epoch begins at a question."""
        from aiocarbon._engine.children import Books

        return self._books.get(name) or self._books.setdefault(name, Books(name, begin))

    def children(self) -> tuple[Child, ...]:
        """The children, as far as is known what their spans used."""
        if not self._books:
            return ()
        from aiocarbon._engine.children import kept_of_each

        at_most = kept_of_each(len(self._books))
        return tuple(books.told(at_most) for books in self._books.values())

    @property
    def round(self) -> Round:
        """In which children have their questions answered."""
        from aiocarbon._engine.children import Round

        self._round = self._round or Round()
        return self._round

    @property
    def tallies(self) -> dict[int, Sums]:
        """Answers that nobody has taken yet."""
        return {} if self._split is None else self._split[0].tallies

    def news(self) -> Iterator[tuple[str, Stint]]:
        """The epochs of children whose energy became known since the last call, by the children's names."""
        for books in self._books.values():
            while books.news:
                yield books.name, books.news.popleft()

    def recall(self) -> None:
        """Tell the epochs of children again, as far back as they are kept."""
        for books in self._books.values():
            books.recall()

    def _learn(self, attribution: Attribution) -> None:
        for books in self._books.values():
            books.learn(attribution.tallies)


def _in_slices(steps: Iterator[None]) -> Iterator[None]:
    """Steps, of which those that are done in one slice are one."""
    began_ns = time.monotonic_ns()
    for _ in steps:
        if time.monotonic_ns() - began_ns >= SLICE_NS:
            yield
            began_ns = time.monotonic_ns()

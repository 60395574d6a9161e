"""Asks sources afterwards for what was missing or a guess in the intensity of runs, and keeps it beside their journals.

The journals of one place are asked for together, so that a source gets each question once, however many processes ran
there. Sources are asked in their order for what is left, in pieces of a week, the newest first: where a plan or an
archive ends, nothing older is asked for. A run that goes on, or broke off, is refreshed up to its newest point. What
was live, or given by the user, stays; where the place was a guess, that is asked for first.
"""

from __future__ import annotations

import bisect
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import anyio

from aiocarbon._core.answer import Answer
from aiocarbon._core.grid import Layer
from aiocarbon._core.intensity import IntensityValue, Location
from aiocarbon._core.units import S_PER_NS
from aiocarbon._engine.exchange import Exchange
from aiocarbon._engine.launch import machine_id
from aiocarbon._engine.questions import Kind, Question
from aiocarbon._engine.relocating import relocate
from aiocarbon._engine.whereabouts import chain_of
from aiocarbon.errors import AiocarbonError, IntensityError, JournalError, NoDataError
from aiocarbon.intensity.guesses import GUESSES, guessed, knows_better
from aiocarbon.journal.refresh import Learnt, Stretch, union, write_sidecar
from aiocarbon.journal.view import View

if TYPE_CHECKING:
    from aiocarbon.intensity.base import Source, Traits
    from aiocarbon.journal.process import Process
    from aiocarbon.settings import Settings

PIECE_S: Final = 7 * 86400.0
"""Longest time that is asked for at once; sources ask in shorter pieces where their service wants that."""

ASK_LIMIT_S: Final = 90.0
"""Longer than the minute that Energi Data Service wants between two questions, so that each week has its turn."""

LIMIT_S: Final = 600.0
"""For all of it; what is known by then is kept, and the rest can be asked for by the next call."""

OUT_OF_TIME: Final = "not all could be asked for in time; refresh again"

Window = tuple[float, float]
"""From and to, UTC seconds."""

Piece = tuple[float, float, IntensityValue]
"""From and to, UTC seconds, and what holds in between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A source that was to be asked for one place, and how that went.

    Attributes:
        title: For people.
        zone: The zone it answers for.
        begin_s: From where its values were wanted, UTC seconds.
        end_s: Up to where.
        why: Why some or all of it was not answered; empty if it was.
    """

    title: str
    zone: str
    begin_s: float
    end_s: float
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What of one process's intensity is a guess still.

    Attributes:
        run_id: Its run.
        guess_s: Seconds.
        of_s: Seconds that the process took.
        whys: Why, in words.
    """

    run_id: str
    guess_s: float
    of_s: float
    whys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshed:
    """What came of it.

    Attributes:
        asked: In the order of asking.
        left: By process; those of which nothing is a guess are not in it.
        problems: What could not be kept, in words.
        place: What there is to say of a place that was asked for, in words; empty if nothing.
    """

    asked: tuple[Asked, ...]
    left: tuple[Left, ...]
    problems: tuple[str, ...]
    place: str = ""


class _Run:
    """One process: its intensity over its time, and what was learnt of it."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.new: Learnt = ()
        self._look()

    def _look(self) -> None:
        view = View(self.process)
        wall = view.ledger.wall
        ends_ns = [(at + off, to + off) for at, to, off in wall.pieces(view.begin_ns, view.end_ns)]
        self.begin_s = min(at for at, _ in ends_ns) * S_PER_NS
        self.end_s = max(to for _, to in ends_ns) * S_PER_NS
        self._curve = view.ledger.intensity

    def steps(self) -> Iterator[Piece]:
        """Its intensity over its time."""
        return self._curve.steps(self.begin_s, self.end_s)

    def guess_s(self) -> float:
        """Seconds of it that are guesses."""
        return math.fsum(to - at for at, to, value in self.steps() if value.quality in GUESSES)

    def learn(self, traits: Traits, answers: Iterable[tuple[Window, Answer]], asked_s: float) -> None:
        """Take what a source knows better than what is used; blocking."""
        steps = list(self.steps())
        found = union(*(_better(steps, window, answer, traits, asked_s) for window, answer in answers))
        if found:
            self.new = union(self.new, found)
            self.process.learnt = union(self.process.learnt, found)
            self._look()


def _better(
    steps: Sequence[Piece], window: Window, answer: Answer, traits: Traits, asked_s: float
) -> Iterator[Stretch]:
    """The stretches of a window in which an answer is better than what is used."""
    layer = Layer(answer, 0.0, 0.0)
    for sample in answer.samples:
        from_s, to_s = max(sample.from_s, window[0]), min(sample.to_s, window[1])
        value = layer.value(sample)
        for at, to, old in steps[bisect.bisect_right(steps, from_s, key=lambda piece: piece[1]) :]:
            if at >= to_s:
                break
            if knows_better(value, old, traits):
                yield Stretch(max(at, from_s), min(to, to_s), value, asked_s)


@dataclass(slots=True)
class _Place:
    """The processes of one zone, while its sources are asked."""

    location: Location
    runs: list[_Run] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    whys: list[str] = field(default_factory=list)
    is_done: bool = False


async def refresh(
    exchange: Exchange,
    settings: Settings,
    processes: Iterable[Process],
    *,
    environ: Mapping[str, str] = os.environ,
    limit_s: float = LIMIT_S,
    ask_limit_s: float = ASK_LIMIT_S,
    machine: Callable[[], str] = machine_id,
) -> Refreshed:
    """Ask for what was a guess, have the processes know it, and keep it beside their journals.

    Args:
        exchange: Asks; the engine's.
        settings: Its intensity may name a source, a file or a URL, which are then asked first; a number is not used.
        processes: What journals hold; what is learnt is put into them.
        environ: Where base URLs and tokens are looked up.
        limit_s: Longest time for all of it, seconds.
        ask_limit_s: Longest time for one question, seconds.
        machine: A digest of this machine's id, as it is in journals; empty where it has none.
    """
    blocking = exchange.blocking
    places: dict[str, _Place] = {}
    processes = list(processes)
    told, lacks = await relocate(exchange, settings, processes, environ, machine)
    for process in processes:
        place = places.setdefault(process.facts.location.zone, _Place(process.facts.location))
        place.runs.append(await blocking(_Run, process))
    with anyio.move_on_after(limit_s):
        async with anyio.create_task_group() as group:
            for place in places.values():
                group.start_soon(_go_along, exchange, settings, place, environ, ask_limit_s)
    for place in places.values():
        if not place.is_done:
            place.whys.append(OUT_OF_TIME)
    problems = await blocking(_keep, [run for place in places.values() for run in place.runs])
    return Refreshed(
        asked=tuple(asked for place in places.values() for asked in place.asked),
        left=tuple(_left(place, run) for place in places.values() for run in place.runs if run.guess_s() > 0.0),
        problems=(*lacks, *problems),
        place=told,
    )


async def _go_along(
    exchange: Exchange, settings: Settings, place: _Place, environ: Mapping[str, str], ask_limit_s: float
) -> None:
    """Go along the chain of a place's sources until nothing is left to ask for."""
    blocking = exchange.blocking
    try:
        links = await blocking(chain_of, settings, place.location, blocking, environ)
    except AiocarbonError as error:
        place.whys.append(str(error))
        links = ()
    else:
        if not links:
            place.whys.append(f"no source covers {place.location.name} ({place.location.zone})")
    for link in links:
        if link.source is None:
            place.whys.append(f"{link.name}: {link.why}")
        elif not link.source.traits.has_past:
            place.whys.append(f"{link.source.traits.title} does not tell the past")
        else:
            await _ask(exchange, link.source, place, ask_limit_s)
    place.is_done = True


async def _ask(exchange: Exchange, source: Source, place: _Place, ask_limit_s: float) -> None:
    """Ask one source for all that is a guess by now, and learn what it says, also where the time is up in between."""
    title, zone = source.traits.title, source.traits.zone
    windows = list(_windows(place.runs, source.traits, exchange.now_s))
    if not windows:
        if any(run.guess_s() > 0.0 for run in place.runs):
            place.whys.append(f"{title} has not published it yet")
        return
    answers: list[tuple[Window, Answer]] = []
    why = OUT_OF_TIME
    try:
        why = await _ask_pieces(exchange, source, windows, answers, ask_limit_s)
    finally:
        with anyio.CancelScope(shield=True):
            for run in place.runs:
                await exchange.blocking(run.learn, source.traits, answers, exchange.now_s)
        place.asked.append(Asked(title=title, zone=zone, begin_s=windows[0][0], end_s=windows[-1][1], why=why))
        place.whys.append(f"{title}: {why}" if why else f"{title} has nothing better so far")


async def _ask_pieces(
    exchange: Exchange, source: Source, windows: list[Window], answers: list[tuple[Window, Answer]], ask_limit_s: float
) -> str:
    """Ask for each window, the newest first, up to a failure; why some was not answered, empty if all was."""
    lacks = ""
    for window in reversed(windows):
        try:
            with anyio.fail_after(ask_limit_s):
                answer = await exchange.ask(source, Question(Kind.PAST, *window))
        except TimeoutError:
            return f"no answer within {ask_limit_s:g} s"
        except NoDataError as error:  # a hole in its past, before which there may be more
            lacks = str(error)
        except IntensityError as error:
            return f"{error}. To mend it: {error.remedy}" if error.remedy else str(error)
        else:
            answers.append((window, answer))
    return lacks


def _windows(runs: Iterable[_Run], traits: Traits, now_s: float) -> Iterator[Window]:
    """What to ask a source for: one window a week with a guess, from the first to the last guess in it."""
    weeks: dict[int, Window] = {}
    for run in runs:
        for begin_s, end_s in guessed(run.steps(), traits, now_s):
            at = begin_s
            while at < end_s:
                week = math.floor(at / PIECE_S)
                to = min((week + 1) * PIECE_S, end_s)
                first, last = weeks.get(week, (at, to))
                weeks[week] = (min(first, at), max(last, to))
                at = to
    yield from (weeks[week] for week in sorted(weeks))


def _keep(runs: Iterable[_Run]) -> list[str]:
    """Write what was learnt beside the journals; what could not be written, in words. Blocking."""
    problems = []
    for run in runs:
        if run.new:
            try:
                write_sidecar(run.process.path, run.process.ident, run.process.learnt)
            except JournalError as error:
                problems.append(f"what was learnt of {run.process.facts.run_id} could not be kept: {error}")
    return problems


def _left(place: _Place, run: _Run) -> Left:
    return Left(
        run_id=run.process.facts.run_id,
        guess_s=run.guess_s(),
        of_s=run.end_s - run.begin_s,
        whys=tuple(dict.fromkeys(place.whys)),
    )

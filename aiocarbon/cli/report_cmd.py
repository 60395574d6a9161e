"""`aiocarbon report PATH...`: runs out of their journals, as text or in one of `report_outputs.py`'s forms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from aiocarbon.cli.asking import ask_engine
from aiocarbon.cli.output import say, show, write_text
from aiocarbon.cli.report_outputs import OUTPUTS
from aiocarbon.cli.statement_options import text_form
from aiocarbon.errors import EngineError
from aiocarbon.render import numbers
from aiocarbon.render.runs import groups_text, overlap_text, runs_text
from aiocarbon.render.text import report_text, total_text

if TYPE_CHECKING:
    from aiocarbon._engine.engine import Engine
    from aiocarbon._engine.refresh import Left, Refreshed
    from aiocarbon.cli.report_options import ReportOptions
    from aiocarbon.journal.process import Process
    from aiocarbon.journal.read import Loaded

__all__ = ["report"]

PATIENCE_S: Final = 30.0
"""Beyond the limit of asking, for starting the engine and writing on a busy machine."""


TOLD_WHOLE: Final = 8
"""Of more runs each is one line."""


def report(options: ReportOptions) -> int:
    """Show runs, and their sum where there are several.

    Args:
        options: Which, and in which forms.

    Returns:
        0, or 1 if what was asked for could not be written. What could not be read is said beside what could.

    Raises:
        JournalError: Nothing could be read at all.
        ConfigError: A value of the environment or of pyproject.toml is not accepted (to refresh).
    """
    from aiocarbon.journal.read import gather, load, selection_of, tell

    if options.is_refresh:
        problems: list[str] = []
        processes = gather(options.paths, problems, selection_of(options.names, options.since, options.until))
        for line in _refresh(processes):
            say(f"aiocarbon: {line}")
        loaded = tell(processes, problems, options.by)
    else:  # machine by machine: never all of them at once
        loaded = load(*options.paths, name=options.names, since=options.since, until=options.until, by=options.by)
    for problem in loaded.problems:
        say(f"aiocarbon: {problem}")
    if not options.outputs:
        return 0 if show(_text(loaded, options), paints=True) else 1
    return max([_write(name, target, loaded, options) for name, target in options.outputs.items()])


def _write(name: str, target: str, loaded: Loaded, options: ReportOptions) -> int:
    problem = write_text(target, OUTPUTS[name].make(loaded, options))
    if problem:
        say(f"aiocarbon: {problem}")
    return 1 if problem else 0


def _text(loaded: Loaded, options: ReportOptions) -> str:
    if options.by is not None:
        parts = [groups_text(loaded.groups, [options.by])]
    elif len(loaded.runs) <= TOLD_WHOLE:
        parts = [report_text(run) for run in loaded.runs]
    else:
        parts = [runs_text(loaded.runs)]
    if len(loaded.runs) > 1:
        several = [by for by, groups in loaded.groups.items() if len(groups) > 1 and by != options.by]
        if options.by is None and several:
            parts.append(groups_text(loaded.groups, several))
        total = total_text(loaded.total, len(loaded.runs))
        told = overlap_text(loaded.runs, loaded.total)
        parts.append(f"{total}\n  {told}" if told else total)
    if options.statement.sci_unit:
        parts.append(text_form(loaded, options.statement))
    return "\n\n".join(parts)


def _refresh(processes: Sequence[Process]) -> Iterator[str]:
    """Refresh what journals hold; what to say of it."""
    try:
        yield from refreshed_lines(_refreshed(processes))
    except EngineError as error:
        yield f"nothing was refreshed: {error}"


def _refreshed(processes: Sequence[Process]) -> Refreshed:
    from aiocarbon._engine.refresh import LIMIT_S, refresh
    from aiocarbon.settings import resolve

    settings = resolve({})

    async def verb(engine: Engine) -> Refreshed:
        return await refresh(engine.exchange(is_offline=settings.offline), settings, processes)

    return ask_engine(verb, LIMIT_S + PATIENCE_S)


def refreshed_lines(found: Refreshed) -> Iterator[str]:
    """What was asked of whom, what is a guess still and why, and what could not be kept, as lines of text."""
    if found.place:
        yield found.place
    for asked in found.asked:
        window = f"{_time(asked.begin_s)} to {_time(asked.end_s)}"
        yield f"{asked.title}, intensity of {asked.zone} from {window}: {asked.why or 'answered'}"
    groups: dict[tuple[str, tuple[str, ...]], list[Left]] = {}
    for left in found.left:
        groups.setdefault((left.run_id, left.whys), []).append(left)
    for (run_id, whys), lefts in groups.items():
        most = max(lefts, key=lambda left: left.guess_s)
        share = f"{numbers.duration(most.guess_s)} of {numbers.duration(most.of_s)}"
        processes = f" (of {len(lefts)} processes, the one with most)" if len(lefts) > 1 else ""
        yield f"{run_id}: the intensity of {share}{processes} is a guess still:"
        yield from (f"  {why}" for why in whys)
    if not found.asked and not found.left and not found.place:
        yield "nothing is missing or a guess: nothing was asked"
    yield from found.problems


def _time(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M} UTC"

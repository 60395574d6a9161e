"""`aiocarbon run -- CMD`: a tracker around any command.

The command is forked first and waits; the tracker then reads every meter, and the command starts. After its end the
meters are read again. The instrument never changes how the command runs or ends: what goes wrong with it is a line on
stderr, and the exit code stays the command's.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aiocarbon._engine.life import DEAD
from aiocarbon.cli.child import ChildProcess, ChildResult
from aiocarbon.cli.job import whole_job
from aiocarbon.cli.output import is_terminal, say, write_json, write_live
from aiocarbon.errors import AiocarbonError, ConfigError, EngineError
from aiocarbon.render.text import live_line, report_text

if TYPE_CHECKING:
    from aiocarbon._core.report import RunReport
    from aiocarbon.cli.options import Options
    from aiocarbon.sync import Tracker

__all__ = ["run"]

DEFAULT_JOURNAL: Final = Path("aiocarbon_runs")
EXIT_BUDGET: Final = 124
"""As timeout(1) has it: the command was ended by a limit."""

LEAST_LIVE_S: Final = 0.2
"""People read no faster."""


def run(options: Options) -> int:
    """Run a command under a tracker and report.

    Returns:
        The command's exit code, as a shell has it; 128 + n for a signal n that ended the wait before it.

    Raises:
        ConfigError: A value of the environment or of pyproject.toml is not accepted; the command was not started.
        EngineError: The instrument cannot start, and the user wants it strict; the command was not started.
    """
    from aiocarbon import sync
    from aiocarbon._engine.surroundings import resolved as in_force

    settings = with_journal(options, os.environ)
    resolved = in_force(settings)
    if resolved.resume is True and resolved.journal is not None:
        from aiocarbon.cli.resume import with_resume

        settings, word = with_resume(settings, resolved.journal, resolved.run_id or _launched(), resolved.name)
        resolved = in_force(settings)
        if word and not options.quiet:
            say(f"aiocarbon: {word}")
    note = ""
    if options.wait is not None:
        from aiocarbon.cli.wait import wait

        code, note = wait(options.wait, settings, is_quiet=bool(options.quiet))
        if code is not None:
            return code
    tracker = sync.Tracker(**settings)
    tracker._handle.with_root = False  # what measures is not the command
    child = ChildProcess(options.command)
    troubles: list[str] = []

    def begin() -> None:
        _start(tracker, troubles, strict=resolved.strict)
        if note and not troubles:
            tracker._handle.tell(note)
        if resolved.budget is not None and resolved.budget.action == "raise":
            # Nobody waits here: `end` may be called from the engine's thread.
            tracker._handle.verdicts.exceeded.add_done_callback(lambda _: child.end())

    def finish(result: ChildResult) -> None:
        try:
            tell(result)
        except Exception as error:  # the command has ended, and its exit code is to come out
            say(f"aiocarbon: the report could not be made: {type(error).__name__}: {error}")

    def tell(result: ChildResult) -> None:
        stack.close()  # the live line ends before the report is made
        report = _finish(tracker, troubles, ended_well=result.signal is None)
        if result.ended_by_us and not options.quiet:
            say(f"aiocarbon: the command was ended: {tracker._handle.begun('run').budget_broken}")
        if result.error:
            say(f"aiocarbon: {result.error}")
            return
        is_silent = options.quiet is None and bool(tracker._handle.who.rank)  # of a job's ranks the first one reports
        if report is not None and not is_silent:
            report = whole_job(report, tracker._handle.who, resolved.journal)
        _tell(options, report, troubles, is_silent=is_silent)

    with contextlib.ExitStack() as stack:
        on_spawn: Callable[[int], object] | None = None
        if options.live and is_terminal(sys.stderr) and hasattr(signal, "setitimer"):  # Windows has none
            on_spawn = lambda _: stack.enter_context(_live(tracker, max(resolved.interval_s, LEAST_LIVE_S)))  # noqa: E731
        result = child.run(before_spawn=begin, on_spawn=on_spawn, after_exit=finish)
    return EXIT_BUDGET if result.ended_by_us else result.returncode


def _launched() -> str:
    """Id that a launcher gives the run; empty if none does."""
    from aiocarbon._engine.launch import identify

    who = identify()
    return "" if "run id is new" in who.rules else who.run_id


def with_journal(options: Options, environ: Mapping[str, str]) -> dict[str, Any]:
    """The settings given, with the journal's folder that `run` has where nobody names one.

    Raises:
        ConfigError: A value of pyproject.toml is not accepted.
    """
    from aiocarbon.settings import resolve

    settings = dict(options.settings)
    if options.no_journal:
        settings["journal"] = None
    elif "journal" not in settings and not environ.get("AIOCARBON_JOURNAL"):
        # TOML has no None: what is None after reading the file is unset there.
        settings["journal"] = resolve(settings, environ={}).journal or DEFAULT_JOURNAL
    return settings


def _start(tracker: Tracker, troubles: list[str], *, strict: bool) -> None:
    """Begin the run; an instrument that cannot is told of and does not hold the command."""
    try:
        tracker.start()
    except ConfigError:
        raise
    except Exception as error:  # no thread or no memory left, say: whatever it is, the command runs
        if strict:
            raise error if isinstance(error, EngineError) else EngineError(str(error)) from error
        troubles.append(f"{type(error).__name__}: {error}")


def _finish(tracker: Tracker, troubles: list[str], *, ended_well: bool) -> RunReport | None:
    """End the run; an impatient second Ctrl-C does not cost the report, which takes a second at most."""
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        tracker._end(ended_well=ended_well)
        report = tracker.report()
        if not report.devices and DEAD in report.warnings:  # it never began: a report would hold nothing
            troubles.append("; ".join(sorted(tracker._handle._told)))
            return None
        return report
    except Exception as error:  # the command has ended well or not, and its exit code is to come out
        if not troubles:
            troubles.append("; ".join(sorted(tracker._handle._told)) or str(error))
        return None
    finally:
        signal.signal(signal.SIGINT, former)


def _tell(options: Options, report: RunReport | None, troubles: list[str], *, is_silent: bool) -> None:
    for trouble in troubles:
        say(f"aiocarbon: {trouble}; the command ran, and there is no report")
    if report is None or is_silent:
        return
    if not options.quiet:
        say(report_text(report), paints=True)
    if options.json is not None and (problem := write_json(options.json, report.to_dict())):
        say(f"aiocarbon: the report is not in JSON: {problem}")


@contextlib.contextmanager
def _live(tracker: Tracker, every_s: float) -> Iterator[None]:
    """Show a live line until left.

    Driven by a timer's signal: the main thread sleeps in poll(2) until signals come, so this is the one thing that
    wakes it, needs no thread, and never writes at the same time as the report. Timers are not inherited by a fork, and
    the child was forked before.
    """

    def show(number: int, frame: object) -> None:
        with contextlib.suppress(AiocarbonError):  # nothing was measured yet
            write_live(live_line(tracker.report()))

    former = signal.signal(signal.SIGALRM, show)
    signal.setitimer(signal.ITIMER_REAL, every_s, every_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, former)
        write_live("")

"""The command line: parsing and choosing; each command's doing is in a file of its own.

Exit codes: the command's own for `run` (126 not executable, 127 not there, 128 + n for signal n); else 0 done,
1 failed, 2 wrong usage.
"""

from __future__ import annotations

import functools
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Final

from aiocarbon.cli import EXIT_INTERRUPTED
from aiocarbon.cli.options import CommandLineError, hours_of, make_parser, run_options, settings_of, split
from aiocarbon.cli.output import Shown, fill_closed_streams, folder_problem, say
from aiocarbon.errors import AiocarbonError, ConfigError

__all__ = ["main"]

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        argv: Its words without the program's name; `sys.argv[1:]` by default.

    Returns:
        The exit code.
    """
    fill_closed_streams()
    words, command = split(sys.argv[1:] if argv is None else argv)
    try:
        _demand_separator(words, command)
        return _do(make_parser().parse_args(words), command)
    except SystemExit as end:  # --help and --version
        return int(end.code or 0)
    except (CommandLineError, ConfigError) as error:
        say(f"aiocarbon: {error}")
        return EXIT_USAGE
    except AiocarbonError as error:
        say(f"aiocarbon: {error}")
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _demand_separator(words: Sequence[str], command: Sequence[str] | None) -> None:
    """Say what is missing before the parser stumbles over the command's own flags."""
    is_run = words[:1] == ["run"]
    if is_run and not command and not {"-h", "--help"} & set(words):
        lack = "the command behind -- is missing" if command is not None else "-- is required before the command"
        raise CommandLineError(f"{lack}: aiocarbon run [options] -- COMMAND...")
    if command is not None and not is_run:
        raise CommandLineError("-- belongs to run alone: aiocarbon run [options] -- COMMAND...")


def _do(parsed: Namespace, command: Sequence[str] | None) -> int:
    if problem := folder_problem(getattr(parsed, "json", None)):
        raise CommandLineError(f"--json {problem}")
    if parsed.verb == "run":
        from aiocarbon.cli.run import run

        return run(run_options(parsed, command or ()))
    if parsed.verb == "doctor":
        from aiocarbon.cli.doctor import doctor

        return doctor(settings_of(parsed), json_file=parsed.json)
    if parsed.verb == "intensity":
        from aiocarbon.cli.intensity_cmd import intensity

        return intensity(settings_of(parsed), hours=hours_of(parsed.forecast), json_file=parsed.json)
    if parsed.verb == "report":
        from aiocarbon.cli.report_cmd import report
        from aiocarbon.cli.report_options import report_options

        return report(report_options(parsed))
    if parsed.verb == "dash":
        from aiocarbon.cli.dash_cmd import dash

        return dash(parsed)
    if parsed.verb == "compare":
        from aiocarbon.cli.compare_cmd import compare

        return compare(parsed.a, parsed.b, json_file=parsed.json)
    if parsed.verb == "import":
        from aiocarbon.cli.import_cmd import import_runs

        return import_runs(parsed)
    if parsed.verb == "estimate":
        from aiocarbon.cli.estimate_cmd import estimate
        from aiocarbon.cli.foresight_options import estimate_options

        return estimate(estimate_options(parsed), json_file=parsed.json)
    if parsed.verb == "when":
        from aiocarbon.cli.clean_options import when_options
        from aiocarbon.cli.when_cmd import when

        return when(when_options(parsed), json_file=parsed.json)
    if parsed.verb == "where":
        from aiocarbon.cli.foresight_options import where_options
        from aiocarbon.cli.where_cmd import where

        return where(where_options(parsed), json_file=parsed.json)
    return _demo()


def _demo() -> int:
    import anyio

    from aiocarbon.cli import demo

    shown = Shown(sys.stdout)
    anyio.run(functools.partial(demo.demo, stream=shown))
    if shown.problem:
        say(f"aiocarbon: {shown.problem}")
    return EXIT_FAILED if shown.problem else 0

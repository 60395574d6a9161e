"""What earlier tries of a run measured, out of its journals, for the try that goes on with it.

Blocking: called in a worker. What cannot be read costs nothing but itself: the merged report of the journals counts it
all the same, since no state has to be loaded to go on counting.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from aiocarbon._core.former import Former, Unfinished
from aiocarbon._core.pool import Pool, lump_of
from aiocarbon._core.report import Quantities
from aiocarbon.errors import JournalError
from aiocarbon.journal.alive import is_written
from aiocarbon.journal.machine import machines_of
from aiocarbon.journal.process import Process
from aiocarbon.journal.read import gather, tell
from aiocarbon.journal.sums import union_ns, utc_span
from aiocarbon.journal.view import View

__all__ = ["Resumed", "former_of"]

MOST_FILES: Final = 512
FILES_BESIDE: Final = 16


class Resumed(NamedTuple):
    """What a run's folder tells the try that goes on.

    Attributes:
        former: What was measured before; None if nothing was.
        notes: What a reader of the run's report must know.
        epochs_done: Number of the epoch behind the last complete one.
    """

    former: Former | None
    notes: tuple[str, ...] = ()
    epochs_done: int = 0


def former_of(
    folder: Path,
    run_id: str,
    rank: int | None = None,
    restart: int | None = None,
    *,
    host: str = "",
    boot_id: str = "",
) -> Resumed:
    """What earlier tries of a run measured.

    Args:
        folder: The run's folder; there may be none yet.
        run_id: Id of the run.
        rank: Number of the process among those of the run; only what its like measured is taken, since each of them
            goes on with its own.
        restart: How often the launcher had started the run before; None if it does not say.
        host: Name of this machine in journals.
        boot_id: Of this machine: its processes can be looked for.
    """
    problems: list[str] = []
    try:
        files = _files(folder, host)
        if not files:
            return Resumed(None)
        processes = [one for one in gather(files, problems) if one.facts.run_id == run_id]
    except (JournalError, OSError) as error:
        return Resumed(None, (f"nothing of the run's earlier tries can be read: {error}",))
    alive = {one.ident: one for one in processes if one.end is None and _is_beside(one, boot_id, restart)}
    over = [one for one in processes if one.ident not in alive]
    # Ranks of one job step together: what one of them has done is done.
    done = max((e.index + 1 for one in over for e in one.epochs.values() if not e.is_partial), default=0)
    over = _of_rank(over, rank)
    notes = [*problems, *map(_beside, _of_rank(alive.values(), rank))]
    if not over:
        return Resumed(None, tuple(notes), done)
    try:
        told, unfinished = tell(over, ()), tuple(_unfinished(over))
    except Exception as error:  # whatever lies there, the run goes on and its own figures are right
        return Resumed(None, (*notes, f"what the run's earlier tries measured cannot be told: {error}"), done)
    (run,) = told.runs
    former = Former(run=run, is_open=any(one.end is None for one in over), unfinished=unfinished)
    return Resumed(former, (*notes, *told.problems), done)


def _unfinished(processes: Sequence[Process]) -> Iterator[Unfinished]:
    """What tries that did not end well did on their way to epochs that no later one of them has.

    The rule is that of a merged run (`epochs.py`), and so is who tells which instant of a device.
    """
    by_machine: dict[tuple[str, str], list[Process]] = {}
    for process in processes:
        by_machine.setdefault((process.machine, process.boot), []).append(process)
    machines = [one for key in sorted(by_machine) for one in machines_of(by_machine[key], [])]
    views = [view for machine in machines for view in machine.views]
    pools: dict[int, Pool] = {}
    spans: dict[int, list[tuple[int, int]]] = {}
    for machine in machines:
        for view, devices, begin_ns, end_ns in machine.parts(machine.views):
            upto, last = 1 + max(view.process.epochs, default=-1), view.stretches[-1] if view.stretches else None
            if view.ended_well or last is None or last.epoch is not None or _is_taken_up(upto, view, views):
                continue
            begin_ns, end_ns = max(begin_ns, last.begin_ns), min(end_ns, last.end_ns)
            if begin_ns < end_ns:
                lump = lump_of(view.cut_of(devices, begin_ns, end_ns))
                pools.setdefault(upto, Pool()).add(view.process.facts.host, lump, view.process.pue.value)
                at_ns = view.ledger.wall.wall_ns(last.begin_ns)
                spans.setdefault(upto, []).append((at_ns, at_ns + last.end_ns - last.begin_ns))
    for upto, pool in sorted(pools.items()):
        yield Unfinished(upto=upto, used=Quantities(**pool.quantities(union_ns(spans[upto]))))


def _is_taken_up(epoch: int, view: View, others: Iterable[View]) -> bool:
    """True if a process that began after this one had ended has the epoch: then their report has it as rework."""
    _, end_ns = utc_span(view)
    return any(epoch in other.process.epochs and utc_span(other)[0] >= end_ns for other in others)


def _files(folder: Path, host: str) -> list[Path]:
    """A run's journals; of the thousands of a large cluster those of this machine, and some others for their epochs.

    All its processes start at one time: each reading what all have written would be the square of their number.
    """
    files = sorted(folder.rglob("*.jsonl"))
    if len(files) <= MOST_FILES:
        return files
    mine = [path for path in files if path.name.startswith(f"{host}-")]
    return [*mine, *[path for path in files if path not in set(mine)][:FILES_BESIDE]]


def _of_rank(processes: Iterable[Process], rank: int | None) -> list[Process]:
    """Those that have a rank; where none of all has one, all."""
    found = list(processes)
    ranks = [one.facts.identity.rank if one.facts.identity is not None else None for one in found]
    return [one for one, other in zip(found, ranks, strict=True) if other == rank]


def _is_beside(process: Process, boot_id: str, restart: int | None) -> bool:
    who = process.facts.identity
    before = restart is not None and who is not None and who.restart is not None and who.restart < restart
    return is_written(process, boot_id, is_before=before)


def _beside(process: Process) -> str:
    return (
        f"another process ({process.facts.host}, process {process.pid}) goes on with this run at the same time: what "
        "it measures is not in this report; `aiocarbon report` puts both together and counts each joule once"
    )

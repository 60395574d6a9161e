"""`aiocarbon where`: the same work in other countries, states and cloud regions, by the bundled tables alone."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aiocarbon._core.intensity import Location, Pue
from aiocarbon._core.places import Energy, Place, Ran, Where, rank
from aiocarbon.cli.foresight_options import WhereOptions
from aiocarbon.cli.options import CommandLineError
from aiocarbon.cli.output import deliver, say, with_version
from aiocarbon.cli.width import columns
from aiocarbon.errors import JournalError
from aiocarbon.render.places import can_show_bars, where_lines
from aiocarbon.render.text import places_of

if TYPE_CHECKING:
    from aiocarbon._core.report import RunReport

__all__ = ["where"]


def where(options: WhereOptions, *, json_file: str | None = None) -> int:
    """Rank and tell; on stdout, or as JSON in a file.

    Args:
        options: What was asked for.
        json_file: File for all of it as JSON, "-" for stdout, which then gets nothing else; None: none.

    Returns:
        0, or 1 if it could not be written. What could not be read of journals is said beside what could.

    Raises:
        CommandLineError: No place is left of what was asked for.
        ConfigError: A value of the environment or of pyproject.toml is not accepted.
        JournalError: Nothing could be read of the journals, or they hold no energy.
    """
    found = _found(options)

    def text() -> str:
        many = sum(len(ranking.rows) for ranking in found.rankings)
        top, bottom = (many, 0) if options.is_all else (options.top, options.bottom)
        blocks = can_show_bars(getattr(sys.stdout, "encoding", None))
        return "\n".join(where_lines(found, top=top, bottom=bottom, width=columns(sys.stdout), blocks=blocks))

    return deliver(json_file, lambda: with_version(found.to_dict()), text)


def _found(options: WhereOptions) -> Where:
    from aiocarbon._engine.surroundings import surroundings
    from aiocarbon.intensity import places
    from aiocarbon.settings import resolve

    settings = resolve(options.settings)
    around = surroundings(settings, options.settings)
    location, pue, notes = around.location, around.pue, []
    runs: Sequence[RunReport] = ()
    if options.energy_kwh is not None:
        kwh = float(options.energy_kwh)
        energy = Energy(kwh=kwh, low_kwh=kwh, high_kwh=kwh, source="given")
    else:
        energy, runs = _of_journals(options.paths)
        location, pue = _where_it_ran(options, runs, location, pue)
    if settings.intensity is not None:
        notes.append("the intensity of the settings is not used here: all places are compared by the tables")
    chosen = [place for place in places.places(pue) if _is_wanted(place, options)]
    if not chosen:
        raise CommandLineError(f"no place fits --cloud and --filter {options.words!r}: give a part of a name or code")
    return Where(
        energy=energy,
        location=location,
        here_pue=pue,
        rankings=rank(energy, chosen, places.here(location, pue)),
        ran=tuple(_ran(run) for run in runs),
        notes=tuple(notes),
    )


def _of_journals(paths: Sequence[str]) -> tuple[Energy, Sequence[RunReport]]:
    from aiocarbon.journal.read import load

    loaded = load(*paths)
    for problem in loaded.problems:
        say(f"aiocarbon: {problem}")
    total, many = loaded.total, len(loaded.runs)
    if total.it_energy_kwh <= 0.0:
        raise JournalError("these journals hold no energy: --energy-kwh E says how much there would be")
    energy = Energy(
        kwh=total.it_energy_kwh,
        low_kwh=total.it_energy_kwh_low,
        high_kwh=total.it_energy_kwh_high,
        source=f"the journals of {many} runs" if many > 1 else f"the journal of {loaded.runs[0].run_id}",
    )
    return energy, loaded.runs


def _where_it_ran(
    options: WhereOptions, runs: Sequence[RunReport], location: Location, pue: Pue
) -> tuple[Location, Pue]:
    """Where all runs ran, unless another place was given; where they ran in several, where this machine is."""
    if "location" not in options.settings and len({place.zone for run in runs for place in places_of(run)}) == 1:
        location = runs[0].location
    if "pue" not in options.settings and len({run.pue.value for run in runs}) == 1:
        pue = runs[0].pue
    return location, pue


def _ran(run: RunReport) -> Ran:
    return Ran(
        run_id=run.run_id,
        zone=", ".join(place.zone for place in places_of(run)),
        it_energy_kwh=run.it_energy_kwh,
        pue=run.pue.value,
        co2eq_g=run.co2eq_g,
        g_per_kwh=run.intensity_g_per_kwh,
        factor_bases=tuple(dict.fromkeys(use.factor_basis for use in run.intensity_sources)),
    )


def _is_wanted(place: Place, options: WhereOptions) -> bool:
    if options.clouds and place.kind not in options.clouds:
        return False
    words = options.words.casefold()
    return not words or any(words in text.casefold() for text in (place.name, place.code, place.zone))

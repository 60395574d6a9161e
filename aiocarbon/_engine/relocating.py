"""Asks afterwards where runs of this machine took place that had to guess it, and keeps that beside their journals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from aiocarbon._engine.exchange import Exchange
from aiocarbon._engine.launch import machine_id
from aiocarbon._engine.whereabouts import Found, geolocate, is_own
from aiocarbon.errors import IntensityError, JournalError
from aiocarbon.journal.place import FoundPlace, write_place

if TYPE_CHECKING:
    from aiocarbon.journal.process import Process
    from aiocarbon.settings import Settings


async def relocate(
    exchange: Exchange,
    settings: Settings,
    processes: Sequence[Process],
    environ: Mapping[str, str],
    machine: Callable[[], str] = machine_id,
) -> tuple[str, list[str]]:
    """Ask where this machine is, if runs of it had to guess that, and have their processes and journals know it.

    Nobody is asked where no packet may be sent, or where the user says the place or the intensity. What is asked tells
    nothing of the runs of other machines.

    Args:
        exchange: Asks; the engine's.
        settings: What the user says of place and intensity.
        processes: What journals hold.
        environ: Where base URLs are looked up.
        machine: A digest of this machine's id, as it is in journals; empty where it has none.

    Returns:
        What there is to say of it, in words, and what could not be kept.
    """
    if settings.location is not None or isinstance(settings.intensity, int | float) or is_own(settings):
        return "", []
    here = await exchange.blocking(machine)
    guessed = [one for one in processes if one.facts.location.is_guess]
    own = [one for one in guessed if here and one.machine_id == here]
    if not guessed or exchange.client is None:
        return "", []
    if not own:
        return "the location is a guess of runs of other machines: refresh them there", []
    try:
        found = await geolocate(exchange, own[0].facts.location, environ)
    except IntensityError as error:
        found = Found(location=own[0].facts.location, notice=f"where this machine is was not asked: {error}")
    if found.location.is_guess:
        return found.notice, []
    place = FoundPlace(exchange.now_s, found.location)
    return found.notice, await exchange.blocking(_keep, own, place)


def _keep(processes: Sequence[Process], place: FoundPlace) -> list[str]:
    """Have processes and what lies beside their journals know a place; what could not be kept, in words. Blocking."""
    problems = []
    for process in processes:
        process.locate(place)
        process.learnt = ()  # of another place
        try:
            write_place(process.path, process.ident, place)
        except JournalError as error:
            problems.append(f"where {process.facts.run_id} ran could not be kept: {error}")
    return problems

"""Reports out of cuts: the same for a run that goes on and for one read from a journal."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator

from aiocarbon._core.body import Body, Facts
from aiocarbon._core.carbon import CarbonCut
from aiocarbon._core.intensity import Quality
from aiocarbon._core.ledger import Cut, Ledger
from aiocarbon._core.report import (
    EpochReport,
    Equivalent,
    IntensityUse,
    Quantities,
    RunReport,
    device_reports,
    quantities,
    utc,
)
from aiocarbon._core.scope_report import MEASURED as MEASURED
from aiocarbon._core.scope_report import scope as scope
from aiocarbon._core.span_report import span_fields, span_notes

SHARE_THAT_MIXES = 0.001
"""A kind of intensity that weighed less of the energy than this is not told as a mixture."""


def epoch_report(
    cut: Cut, *, index: int, host: str, pue: float, steps: int, is_partial: bool, is_final: bool
) -> EpochReport:
    """The report of one epoch from its cut."""
    return EpochReport(
        **quantities(cut, pue),
        index=index,
        devices=device_reports(cut, host),
        steps=steps,
        is_partial=is_partial,
        is_final=is_final,
    )


def run_report(
    facts: Facts,
    ledger: Ledger,
    body: Body,
    equivalents: Callable[[float], tuple[Equivalent, ...]],
    cut: Cut | None = None,
) -> RunReport:
    """The report of a run, finished or not.

    Args:
        facts: What it states beside quantities.
        ledger: Its curves, intensity and PUE.
        body: Its marks, epochs and warnings.
        equivalents: Tells grams of CO2eq as other things; handed in by the caller, who has the table.
        cut: From the body's begin to its end, where it was made already.
    """
    cut = cut or ledger.cut(body.begin, body.end)
    if facts.former is not None:
        from aiocarbon._core.former import continued

        alone = run_report(dataclasses.replace(facts, former=None), ledger, body, equivalents, cut)
        try:
            return continued(facts.former, alone, facts.first_epoch)
        except Exception as error:  # what this start measured is right whatever another one wrote down
            lack = f"what earlier tries measured cannot be added, and is left out: {type(error).__name__}: {error}"
            return dataclasses.replace(alone, warnings=(lack, *alone.warnings))
    ended_at = utc(ledger.wall.wall_s(body.begin.t_ns) + cut.duration_s)
    whole = quantities(cut, ledger.pue.value)
    split_upto = ended_at if body.account is None else utc(ledger.wall.wall_s(body.account.shares.as_of_ns))
    return RunReport(
        **whole,
        **span_fields(whole, ledger.pue.value, split_upto, body.account, body.children),
        run_id=facts.run_id,
        name=facts.name,
        host=facts.host,
        started_at=utc(ledger.wall.wall_s(body.begin.t_ns)),
        ended_at=ended_at,
        as_of=ended_at,
        is_final=body.is_final,
        ended_well=body.ended_well,
        epochs=body.epochs,
        epochs_total=body.epochs_total,
        outside=Quantities(**quantities(body.outside, ledger.pue.value)),
        devices=device_reports(cut, facts.host),
        status="complete" if body.is_final and body.ended_well else "partial",
        scope=scope(cut, body.missing, facts.scope),
        location=facts.location,
        pue=ledger.pue,
        intensity_g_per_kwh=cut.carbon.intensity_g_per_kwh,
        intensity_sources=uses(cut.carbon),
        co2eq_g_before=None if body.mended_by_g is None else cut.carbon.co2eq_g - body.mended_by_g,
        equivalents=equivalents(cut.carbon.co2eq_g),
        prediction=body.prediction,
        warnings=(*body.warnings, *span_notes(body.account, body.children), *mixtures(cut.carbon)),
        overhead=body.overhead,
        tool=facts.tool,
        version=facts.version,
        identity=facts.identity,
    )


def mixtures(carbon: CarbonCut) -> Iterator[str]:
    """What a reader must know where one sum holds intensities that cannot be compared."""
    told = [use for use in uses(carbon) if use.share >= SHARE_THAT_MIXES and use.quality != Quality.GIVEN]
    for what, of in (("factors", "factor_basis"), ("intensities", "kind")):
        shares: dict[str, float] = {}
        for use in told:
            name = getattr(use, of)
            shares[name] = shares.get(name, 0.0) + use.share
        if len(shares) > 1:
            parts = " and ".join(f"{name} ({share:.0%} of the energy)" for name, share in shares.items())
            yield f"the CO2eq is a sum of {parts} {what}, which are not the same thing"


def uses(carbon: CarbonCut) -> tuple[IntensityUse, ...]:
    """Whose intensity weighed how much of a window's energy, each source once, in the order of time."""
    energy = math.fsum(use.energy_j for use in carbon.uses.values())
    time_ns = math.fsum(use.time_ns for use in carbon.uses.values())
    return tuple(
        IntensityUse(
            source=use.value.source,
            zone=use.value.zone,
            quality=use.value.quality.value,
            kind=use.value.kind.value,
            factor_basis=use.value.factor_basis.value,
            g_per_kwh=use.weighed / use.energy_j if use.energy_j > 0.0 else use.value.g_per_kwh,
            # Where nothing was used, the time that each held is all that can be told.
            share=use.energy_j / energy if energy > 0.0 else use.time_ns / time_ns if time_ns > 0.0 else 1.0,
            note=use.value.note,
        )
        for use in carbon.uses.values()
    )

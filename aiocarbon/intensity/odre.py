"""eCO2mix of the French grid operator RTE, on the open data platform ODRE: France by quarter hours.

Facts: odre.opendatasoft.com, data set `eco2mix-national-tr`; a recorded answer of version 2.1. Its `taux_co2` is of
what is produced in France, imports left out, direct emissions. Times carry their offset, so the October night's two
hours differ. Rows of the rest of the day exist beforehand without a value, and rows come in any order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from aiocarbon._core.answer import Answer
from aiocarbon._core.intensity import FactorBasis, Location, Quality
from aiocarbon.errors import BadAnswerError, NoDataError
from aiocarbon.intensity.base import Access, Row, Source, Traits, in_pieces, make_answer, shown, utc_s

if TYPE_CHECKING:
    from aiocarbon.intensity.client import Client

__all__ = ["URL", "EcoTwoMix", "bind"]

NAME: Final = "odre"
TITLE: Final = "eCO2mix (RTE, ODRE)"
URL: Final = "https://odre.opendatasoft.com"
PATH: Final = "/api/explore/v2.1/catalog/datasets/eco2mix-national-tr/records"
HAS_VALUE: Final = "taux_co2 is not null"
STEP_S: Final = 900.0
OFFSET_S: Final = 600.0
"""Assumed: a quarter hour's value is there ten minutes into the next; each answer brings the last two hours."""

STALE_S: Final = 7200.0
ROWS: Final = 100
"""The most that one answer holds."""

PIECE_S: Final = 24 * 3600.0
"""Asked for at once: 96 quarter hours of two columns, 6 kB."""

NONE: Final = frozenset({"", "-", "ND"})
"""Texts that stand for no value; "ND" occurs in older files."""

NOTE: Final = "of production in France, imports left out"


def bind(place: Location, access: Access) -> tuple[Source, ...]:
    """The source of France as a whole; none elsewhere, and none for its islands."""
    if place.zone != "FR":
        return ()
    traits = Traits(
        name=NAME,
        title=TITLE,
        zone="FR",
        factor_basis=FactorBasis.DIRECT,
        step_s=STEP_S,
        offset_s=OFFSET_S,
        stale_s=STALE_S,
        has_past=True,
        asked_at=shown(access.url),
    )
    return (EcoTwoMix(traits, access),)


@dataclass(frozen=True)
class EcoTwoMix:
    """The service.

    Attributes:
        traits: What it is.
        access: How it is reached.
    """

    traits: Traits
    access: Access = field(repr=False)

    async def now(self, client: Client, now_s: float) -> Answer:
        """The values of the last two hours.

        Raises:
            IntensityError: It could not answer, or its newest value is older than `stale_s`.
        """
        rows = await self._asked(client, HAS_VALUE, "date_heure desc", 8)
        # A machine's clock may be slow by a little; nothing later can have been measured.
        begun = [row for row in rows if row[0] <= now_s + STEP_S]
        return make_answer(self.traits, begun, now_s=now_s, note=NOTE, oldest_s=now_s - self.traits.stale_s)

    async def past(self, client: Client, begin_s: float, end_s: float, now_s: float) -> Answer:
        """All values of a window; asked for in pieces of a day.

        Raises:
            IntensityError: It could not answer, or has nothing of that time.
        """

        async def ask(at: float, to: float) -> Answer:
            where = f"{HAS_VALUE} and date_heure >= date'{_stamp(at)}' and date_heure < date'{_stamp(to)}'"
            rows = await self._asked(client, where, "date_heure asc", ROWS)
            return make_answer(
                self.traits, [row for row in rows if at <= row[0] < min(to, now_s)], now_s=now_s, note=NOTE
            )

        return await in_pieces(self.traits, begin_s, end_s, PIECE_S, ask)

    async def forecast(self, client: Client, now_s: float, hours: float) -> Answer:
        """There is none.

        Raises:
            NoDataError: Always.
        """
        raise NoDataError(f"{TITLE} publishes no forecast", source=NAME)

    async def _asked(self, client: Client, where: str, order: str, limit: int) -> list[Row]:
        params = {
            "select": "date_heure,taux_co2",
            "where": where,
            "order_by": order,
            "limit": str(limit),
            "timezone": "UTC",
        }
        return list(self._rows(await client.json(f"{self.access.url}{PATH}", source=NAME, params=params)))

    def _rows(self, said: Any) -> Iterator[Row]:
        records = said.get("results") if isinstance(said, dict) else None
        if not isinstance(records, list) or not all(isinstance(row, dict) and "taux_co2" in row for row in records):
            raise BadAnswerError(f"{TITLE} sent an answer of an unknown shape", source=NAME)
        for record in records:
            from_s = utc_s(record.get("date_heure"), self.traits)
            yield from_s, from_s + STEP_S, _number(record["taux_co2"]), Quality.LIVE


def _number(value: object) -> object:
    """Some columns have their numbers as texts ("0"); a text that is no number stays one, to be refused as that."""
    if not isinstance(value, str):
        return value
    if value.strip() in NONE:
        return None
    try:
        return value if "_" in value else float(value)
    except ValueError:
        return value


def _stamp(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

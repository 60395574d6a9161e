"""Up to where devices have told what they used: what may be made final, and what has to wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aiocarbon._core.units import NS_PER_MS, NS_PER_S
from aiocarbon._engine.track import Track

SETTLE_NS: Final = 150 * NS_PER_MS
"""After this long a mark is final with what is known, whatever the meters still hold back."""

PROBED_NS: Final = 1000 * NS_PER_MS
"""By then a device's refresh has been found or sought in vain, in 500 ms from its first reading on."""

TELLING_NS: Final = 20 * NS_PER_MS
"""Users' threads may take so long between an edge's stamp and its telling: the interpreter gives others 5 ms turns."""

PATIENCE_NS: Final = 60 * NS_PER_S
"""The split among spans waits so long for a device that hangs; what it tells later is in no span. A mark waits so long
for a counter that is lost."""


def has_told(track: Track, t_ns: int) -> bool:
    """True if what a device used up to an instant will not be known better."""
    if track.is_lost and track.is_power:
        return True
    if not track.is_probed or len(track.derivation.curve) < 2:
        return False  # before the second point no power is known, and an instant beside the first has no value
    if not track.is_power and not track.needs_watch:
        last = track.derivation.last_read_ns
        return last is not None and last >= t_ns
    curve = track.derivation.curve
    return curve[-1].t_ns >= t_ns


def is_waiting_over(tracks: Sequence[Track], t_ns: int, now_ns: int, *, may_hang: bool) -> bool:
    """True if what is known of an instant is not worth waiting for any more.

    A device that hangs is waited for where it may: its counter will tell, once it answers, what it used in the
    meantime. So is, for a minute, a counter that is lost or cannot be read: what it had used by a mark that is frozen
    meanwhile would count behind it. So is a device that another process reads for this one, and has not yet. So is one
    whose refresh is being probed: its curve is placed anew when that is known, and a mark frozen before would lie on
    another curve than later ones.
    """
    if now_ns < t_ns + SETTLE_NS:
        return False
    if now_ns < t_ns + PROBED_NS and any(not (track.is_probed or track.is_lost) for track in tracks):
        return False
    return not (may_hang and any(_is_hanging(track, t_ns, now_ns) for track in tracks))


def _is_hanging(track: Track, t_ns: int, now_ns: int) -> bool:
    if track.is_lost or track.failures:
        return not track.is_power and not has_told(track, t_ns) and now_ns < t_ns + PATIENCE_NS
    # Who reads it for this process was asked for a reading and may be busy; if it ended, another one takes its place
    # within seconds, and goes on with its counter.
    is_late = not track.is_own and not has_told(track, t_ns)
    return is_late or track.is_slow or len(track.derivation.curve) < 2


def known_ns(tracks: Sequence[Track], begin_ns: int, now_ns: int) -> int | None:
    """The instant up to which all devices have told what they used, as far as they can be waited for.

    Args:
        tracks: The devices.
        begin_ns: Where the run began.
        now_ns: Now.

    Returns:
        None where one of them has not told anything yet.
    """
    upto_ns = now_ns - TELLING_NS
    for track in tracks:
        if track.is_lost:
            continue
        curve = track.derivation.curve
        newest_ns = curve[-1].t_ns if len(curve) else begin_ns
        if now_ns - newest_ns > PATIENCE_NS + track.derivation.pace_ns:
            continue
        if not track.is_probed or len(curve) < 2:
            return None
        if not track.is_slow and track.is_own:  # another one may take the place of who reads it, and bridge the time
            newest_ns = max(newest_ns, now_ns - track.derivation.pace_ns - 2 * SETTLE_NS)
        upto_ns = min(upto_ns, newest_ns)
    return upto_ns

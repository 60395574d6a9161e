"""How often a sensor refreshes, by what was seen of it: its changes, or how long it stood between them.

A counter of energy grows whenever it refreshes, so that reads of one value lie between the same two refreshes: how long
it stood is the least that its refresh can be. A power sensor may show one value because the power is the same.
"""

from __future__ import annotations

import itertools

from aiocarbon._core.counters import estimate_refresh
from aiocarbon._core.units import NS_PER_MS, NS_PER_S, s_from_ns
from aiocarbon._engine.track import MOST_POWER_PACE_NS, POWER_PACE_NS, Track
from aiocarbon._logging import get_logger

log = get_logger("sampler")

PROBE_NS = 500 * NS_PER_MS
"""How long a sensor's refresh is sought when it is first read."""

MOST_PROBE_NS = 5 * PROBE_NS
"""How long it is sought of a counter that changes too seldom for that: one of a second, as QEMU shows its guests
(target/i386/kvm/vmsr_energy.h, MSR_ENERGY_THREAD_SLEEP_US), has shown a whole period by then."""

MOST_REFRESH_NS = 10 * NS_PER_S
"""What stands for longer is taken to stand still, and not to be slow."""

MARGIN = 10
"""A refresh that is known by a stand varies by one part in so many: reads find its ends but roughly."""


def settle_probe(track: Track, now_ns: int) -> None:
    """Take the refresh that was observed up to now; where that is but a part of one, go on probing.

    Where nothing was read, the assumed one stays.
    """
    track.is_probed = True
    found = estimate_refresh(track.changed_ns)
    if found is None and not track.is_power:
        found = _by_stand(track, now_ns)
    if track.is_probed:
        track.changed_ns.clear()
    if found is None:
        return
    refresh, jitter = found
    track.derivation.set_refresh(refresh, jitter)
    if track.is_power:
        track.derivation.pace_ns = min(max(refresh, POWER_PACE_NS), MOST_POWER_PACE_NS)
    log.debug("meter.refresh", device=track.device.id, refresh_s=s_from_ns(refresh), jitter_s=s_from_ns(jitter))


def _by_stand(track: Track, now_ns: int) -> tuple[int, int] | None:
    """The refresh of a counter that changed twice at most, and how regular it is; None if it did not answer."""
    began_ns, ended_ns = track.probed_from_ns, track.derivation.last_read_ns
    if began_ns is None or ended_ns is None or ended_ns <= began_ns:
        return None
    stand_ns = max(b - a for a, b in itertools.pairwise([began_ns, *track.changed_ns, ended_ns]))
    if len(track.changed_ns) == 2:
        return stand_ns, stand_ns // MARGIN
    track.is_probed = now_ns - began_ns >= MOST_PROBE_NS
    refresh_ns = max(stand_ns, track.derivation.curve.refresh_ns)
    return refresh_ns, refresh_ns  # but a part was seen, which is half of the whole on average


def note_stand(track: Track) -> None:
    """Look, after a tick, whether a counter that needs watching stood for longer than its refresh."""
    value, read_ns = track.derivation.last_value, track.derivation.last_read_ns
    if read_ns is None or value != track.stood_at:
        track.stood_at, track.stood_from_ns = value, read_ns or 0
        return
    stand_ns = read_ns - track.stood_from_ns
    if track.derivation.curve.refresh_ns < stand_ns <= MOST_REFRESH_NS:
        refresh_ns = stand_ns + stand_ns // MARGIN  # or it would be set at each tick while the counter stands
        track.derivation.set_refresh(refresh_ns, refresh_ns // MARGIN)
        log.debug("meter.refresh", device=track.device.id, refresh_s=s_from_ns(refresh_ns))

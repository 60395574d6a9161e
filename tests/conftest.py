"""What all tests share: the same examples every time, and no time limit on one of them."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A machine of CI is slow at times; a found example must be found again.
settings.register_profile("aiocarbon", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("aiocarbon")

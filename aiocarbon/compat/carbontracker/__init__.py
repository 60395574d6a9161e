"""carbontracker's names.

`from carbontracker.tracker import CarbonTracker` becomes `from aiocarbon.compat.carbontracker.tracker import
CarbonTracker`, and `carbontracker.parser` likewise. What differs is said in `tracker.py` and `parser.py`.
"""

from __future__ import annotations

from aiocarbon.compat.carbontracker import parser
from aiocarbon.compat.carbontracker.tracker import CarbonTracker

__all__ = ["CarbonTracker", "parser"]

"""Runs as a page: one file that opens offline (`html.py`), or a live one on this machine (`server.py`).

`series.py` cuts a run's curves as a screen shows them, `foresight.py` holds what was foreseen against what came,
`data.py` puts both beside the report's figures as plain JSON values, which `assets/` draws. Nothing is measured here.

The charts are drawn by uPlot 1.6.32 (MIT, `assets/uPlot.LICENSE`), which lies in `assets/` as it was published: 51 kB
in each page where other libraries put 1 to 5 MB, and a page needs nothing that is not in it.
"""

from __future__ import annotations

__all__: list[str] = []

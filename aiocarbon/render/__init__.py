"""Reports as text: a report in, text out; no measuring and no output."""

from __future__ import annotations

from aiocarbon.render.text import live_line, report_text, total_text

__all__ = ["live_line", "report_text", "total_text"]

"""The bundled tables: small CSV files, each with its source, year and licence in the comment lines at its top.

Every value here can be set by the user instead; nothing here is measured on this machine.
"""

from __future__ import annotations

from functools import cache

__all__ = ["rows"]


@cache
def rows(name: str) -> list[dict[str, str]]:
    """The rows of a bundled table, in the file's order; a blocking read the first time, then from memory.

    Args:
        name: The file's name without ".csv": "countries", "pue".

    Returns:
        One dict a row, column to text; an empty text where the source has no value. Shared by all callers: read only.

    Raises:
        FileNotFoundError: There is no such table.
    """
    # Imported here: nothing of this is needed before the first table is.
    import csv
    import pkgutil

    # Not importlib.resources: it takes 10 ms to import, which entering a tracker would wait for.
    content = pkgutil.get_data(__name__, f"{name}.csv")
    if content is None:
        raise FileNotFoundError(f"{name}.csv cannot be read by the loader of this package")
    text = content.decode("utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))

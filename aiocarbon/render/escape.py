"""Foreign text made safe to stand in a report: one line, of sane length, escaped for the form that it is put into.

Names come from users, sources and other tools' files and may hold anything: line breaks, control characters, markup,
formulas, ten thousand characters. Nothing here raises.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["cell", "latex", "markdown", "one_line"]

MOST: Final = 200
"""Characters of a name that are kept: the longest that `Settings.name` takes."""

_LATEX: Final = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "-": r"{-}",  # so that "--" stays two hyphens
    "µ": r"\textmu{}",
    "×": r"$\times$",
    "±": r"$\pm$",
    "−": r"$-$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "°": r"\textdegree{}",
}
"""The ten specials of TeX (The TeXbook, chapter 7), what ligatures and encodings change, and signs of our own."""

_MARKDOWN: Final = re.compile(r"([\\`*_{}\[\]()#+\-.!|~$:@^=])")
"""What CommonMark 0.31 (2.4) and GitHub's extensions of it may read as markup."""

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
"""First characters with which a spreadsheet takes a cell for a formula (OWASP, CSV Injection)."""


def one_line(text: str, most: int = MOST) -> str:
    """A text on one line: breaks and tabs are blanks, what cannot be printed is "?", what is too long ends in "...".

    Args:
        text: Anything.
        most: Characters of the result, at least 4.
    """
    # Cut before looking at each character: ten million are not worth it.
    flat = " ".join(text[: 4 * most].split())
    plain = "".join(letter if letter.isprintable() else "?" for letter in flat)
    is_cut = len(plain) > most or len(text) > 4 * most
    return f"{plain[: most - 3]}..." if is_cut else plain


def markdown(text: str, most: int = MOST) -> str:
    """A text that Markdown shows as it is, also in a table's cell, and that holds no HTML."""
    flat = one_line(text, most)
    escaped = _MARKDOWN.sub(r"\\\1", flat)
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def latex(text: str, most: int = MOST) -> str:
    """A text that LaTeX typesets as it is, with the packages that `statement_latex` names.

    Letters that an 8-bit font lacks stand as "?": a line that does not compile would lose all others.
    """
    return "".join(_tex(letter) for letter in one_line(text, most))


def _tex(letter: str) -> str:
    if letter in _LATEX:
        return _LATEX[letter]
    return letter if letter.isascii() or "À" <= letter <= "ÿ" else "?"


def cell(text: str, most: int = MOST) -> str:
    """A text as a cell of a CSV file that no spreadsheet takes for a formula; the CSV writer still quotes it."""
    flat = one_line(text, most)
    return f"'{flat}" if flat.startswith(_FORMULA) or text.startswith(_FORMULA) else flat

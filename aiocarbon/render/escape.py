"""Foreign text made safe to stand in a report: one line, of sane length, escaped for the form that it is put into.

Names come from users, sources and other tools' files and may hold anything: line breaks, control characters, markup,
formulas, ten thousand characters. Nothing here raises.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["cell", "harmless", "latex", "line", "markdown", "one_line"]

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
    '"': r"{\char34}",  # \textquotedbl is an error in TeX's own fonts
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "µ": r"\textmu{}",
    "×": r"$\times$",
    "±": r"$\pm$",
    "−": r"$-$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "°": r"\textdegree{}",
}
"""The ten specials of TeX (The TeXbook, chapter 7), what ligatures and encodings change, and signs of our own."""

_NORDIC: Final = frozenset("æÆøØßåÅ")
"""Letters beyond ASCII that TeX's own fonts have."""

_MARKDOWN: Final = re.compile(r"([\\`*_\[\]|~$^#])")
"""What CommonMark 0.31 (2.4) and GitHub's extensions of it may read as markup inside a line."""

_ENTITIES: Final = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("@", "&#64;"), ("://", ":&#47;/"))
"""What is HTML, or becomes a link or a mention."""

_LINE_BEGIN: Final = re.compile(r"([-+=:]|\d+(?=[.)](?:\s|$)))")
"""What they may read as a list or a heading where a line begins."""

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
"""First characters with which a spreadsheet takes a cell for a formula (OWASP, CSV Injection)."""


_COMMANDS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What terminals obey instead of showing it: controls (ECMA-48) but tab and line feed, and what turns text (UAX 9)."""


def harmless(text: str) -> str:
    r"""A text that no terminal takes for a command: such characters stand as "\u001b", which JSON reads as the same.

    Line breaks and tabs stay.
    """
    return _COMMANDS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def line(text: str) -> str:
    """A text that is one line of a report: harmless, and its breaks are blanks."""
    return harmless(text.replace("\n", " "))


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
    for letter, entity in _ENTITIES:
        flat = flat.replace(letter, entity)
    escaped = _MARKDOWN.sub(r"\\\1", flat)
    begin = _LINE_BEGIN.match(escaped)
    if begin is not None:
        at = begin.end() - (not begin[1][0].isdigit())
        escaped = f"{escaped[:at]}\\{escaped[at:]}"
    return escaped.replace("&\\#", "&#")


def latex(text: str, most: int = MOST) -> str:
    """A text that LaTeX typesets as it is, with the packages that `statement_latex` names.

    Letters that TeX's own fonts lack stand as "?": a line that does not compile would lose all others.
    """
    return "".join(_tex(letter) for letter in one_line(text, most)).replace("--", "-{}-").replace("--", "-{}-")


def _tex(letter: str) -> str:
    if letter in _LATEX:
        return _LATEX[letter]
    if letter.isascii() or letter in _NORDIC:
        return letter
    import unicodedata  # only where a text has such letters

    # Letters with one accent that TeX's own fonts put together; others would be an error.
    base, *accents = list(unicodedata.normalize("NFD", letter))
    return letter if base.isascii() and len(accents) == 1 and "À" <= letter <= "ÿ" else "?"


def cell(text: str, most: int = MOST) -> str:
    """A text as a cell of a CSV file that no spreadsheet takes for a formula; the CSV writer still quotes it."""
    flat = one_line(text, most)
    return f"'{flat}" if flat.startswith(_FORMULA) or text.startswith(_FORMULA) else flat

"""The statement as a section of a model card (Markdown) and as a table with a sentence (LaTeX).

Both hold nothing of a user's text unescaped. The Markdown has the fields of Hugging Face's model card template
("Environmental Impact") and, as YAML, of its metadata (`co2_eq_emissions`). The LaTeX compiles with a kernel of 2020 or
later, without any package.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from aiocarbon._core.units import S_PER_HOUR
from aiocarbon.render import numbers
from aiocarbon.render.escape import latex, markdown, one_line
from aiocarbon.render.statement import (
    Statement,
    basis_words,
    equivalent_words,
    headline,
    intensity_texts,
    joined,
    missing_words,
    rests_on,
    sci_text,
    tool_words,
)

__all__ = ["statement_latex", "statement_markdown"]

LONGEST: Final = 2000
"""Characters of a sentence: names in it are short already."""

BARE_MOST: Final = 60
"""Characters of a word in the card's metadata."""


def statement_markdown(facts: Statement) -> str:
    """The statement as a section of a model card, without a line break at the end."""
    lines = ["## Environmental Impact", "", _paragraph(headline(facts)), ""]
    lines += ["| | | |", "|---|---|---|"]
    lines += [
        f"| {markdown(label)} | {markdown(value, LONGEST)} | {markdown(how, LONGEST)} |"
        for label, value, how in _rows(facts)
    ]
    if not numbers.is_nothing(facts.total):
        lines += ["", "### What was measured and what was estimated", "", _paragraph(rests_on(facts))]
    if facts.sci is not None:
        lines += ["", markdown(sci_text(facts), LONGEST)]
    lines += ["", *_card(facts)]
    return "\n".join(lines)


def _paragraph(sentences: Iterator[str]) -> str:
    return " ".join(markdown(sentence, LONGEST) for sentence in sentences)


def _card(facts: Statement) -> Iterator[str]:
    """The fields of the card's template, and its metadata."""
    hours = facts.total.duration_s / S_PER_HOUR
    rows = (
        ("Hardware Type", joined(facts.hardware)),
        ("Hours used", f"{numbers.rounded(hours)} (in which at least one run ran)"),
        ("Compute Region", joined(facts.locations)),
        ("Carbon Emitted", "" if numbers.is_nothing(facts.total) else f"{numbers.co2eq(facts.total.co2eq_g)} of CO2eq"),
    )
    yield from (f"- **{label}:** {markdown(text, LONGEST)}" for label, text in rows if text)
    if numbers.is_nothing(facts.total):
        return
    yield from ("", "Metadata for the head of the model card:", "", "```yaml", "co2_eq_emissions:")
    words = {
        "source": joined([tool_words(tool, facts.runs) for tool in facts.tools]),
        "geographical_location": joined(facts.locations),
        "hardware_used": joined(facts.hardware),
    }
    yield f"  emissions: {numbers.plain(facts.total.co2eq_g)}  # grams of CO2eq"
    yield from (f"  {key}: {_yaml(word)}" for key, word in words.items() if word)
    yield "```"


def _yaml(text: str) -> str:
    """A text as a YAML string that neither ends a block of code nor holds HTML."""
    quoted = json.dumps(one_line(text))  # a JSON string is one of YAML 1.2
    return "".join(f"\\u{ord(letter):04x}" if letter in "`<>&" else letter for letter in quoted)


def statement_latex(facts: Statement) -> str:
    """The statement as a table and a paragraph of LaTeX, to be read by input; without a line break at the end."""
    rows = [f"    {' & '.join(map(_table_cell, row))} \\tabularnewline" for row in _rows(facts)]
    text = [_sentence(sentence) for sentence in (*headline(facts), *rests_on(facts), *filter(None, [sci_text(facts)]))]
    return "\n".join(
        (
            "% Energy and CO2eq as stated by aiocarbon. Compiles with LaTeX of 2020 or later; needs no package.",
            "\\begin{table}[htbp]",
            "  \\centering",
            "  \\caption{Energy and \\mbox{CO$_2$eq} of the training, with 90\\,\\% ranges.}",
            "  \\label{tab:aiocarbon}",
            "  \\small",
            "  \\begin{tabular}{p{0.17\\linewidth}p{0.22\\linewidth}p{0.5\\linewidth}}",
            "    \\hline",
            *rows,
            "    \\hline",
            "  \\end{tabular}",
            "\\end{table}",
            "",
            *text,
        )
    )


def _sentence(text: str) -> str:
    return latex(text, LONGEST).replace("CO2eq", "\\mbox{CO$_2$eq}").replace(" \\%", "~\\%")


def _table_cell(text: str) -> str:
    return f"\\raggedright {_sentence(text)}"


def _rows(facts: Statement) -> Iterator[tuple[str, str, str]]:
    """Label, value, and how it is known."""
    total = facts.total
    names = joined([one_line(name) for name in facts.names])
    yield "Runs", f"{facts.runs}", names or "not named"
    yield "Time", numbers.duration(total.duration_s), f"{facts.started_at:%Y-%m-%d} to {facts.ended_at:%Y-%m-%d} UTC"
    if numbers.is_nothing(total):
        yield "Energy and CO2eq", "not known", "nothing was measured"
    else:
        yield from _figures(facts)
    if facts.missing:
        yield "Not included", joined(list(missing_words(facts))), "neither measured nor estimated"
    yield "Coverage", numbers.percent(total.coverage), "share of the time that readings vouch for"
    yield "Hardware", "", joined(facts.hardware) or "not known"
    yield "Location", "", joined(facts.locations)
    yield "Tool", "", joined([tool_words(tool, facts.runs) for tool in facts.tools])


def _figures(facts: Statement) -> Iterator[tuple[str, str, str]]:
    """The rows with energy and CO2eq."""
    total = facts.total
    it, it_ends = numbers.energy_range(total.it_energy_kwh, total.it_energy_kwh_low, total.it_energy_kwh_high)
    energy, ends = numbers.energy_range(total.energy_kwh, total.energy_kwh_low, total.energy_kwh_high)
    mass, mass_ends = numbers.co2eq_range(total.co2eq_g, total.co2eq_g_low, total.co2eq_g_high)
    pues = joined([f"{pue.value:g}: {one_line(pue.source)}" for pue in facts.pue])
    made_up = f"; {numbers.percent(facts.made_up_share)} simulated" if facts.made_up_share > 0.0 else ""
    yield "Energy of the devices", it, f"{it_ends}; {basis_words(total)}{made_up}"
    yield "Energy with PUE", energy, f"{ends}; PUE {pues}"
    yield "CO2eq", mass, f"{mass_ends}; estimated: {joined(list(intensity_texts(facts)))}"
    if facts.equivalent is not None:
        yield "Equivalent", *_apart(equivalent_words(facts.equivalent, total))


def _apart(words: str) -> tuple[str, str]:
    """An amount with its unit's sign, and the rest."""
    number, unit, rest = [*words.split(" ", 2), "", ""][:3]
    return f"{number} {unit}", rest

"""The JSON Schema of `aiocarbon report --json` and `aiocarbon run --json`, made of the reports' own classes.

It is published as `aiocarbon/data/report.schema.json`; where a report gains a field, that file is written anew by
`python -m aiocarbon.render.schema > aiocarbon/data/report.schema.json`, which a test asks for.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import pkgutil
import re
import sys
import types
import typing
from datetime import datetime
from enum import Enum
from typing import Any, Final

import aiocarbon._core
from aiocarbon._core.groups import By, GroupReport
from aiocarbon._core.report import REPORT_SCHEMA, Quantities, RunReport
from aiocarbon.render.statement import Statement

__all__ = ["report_schema"]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

Node = dict[str, Any]

PLAIN: Final[dict[object, Node]] = {
    float: {"type": "number"},
    int: {"type": "integer"},
    str: {"type": "string"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    datetime: {"type": "string", "format": "date-time"},
    Any: {},
}


def report_schema() -> Node:
    """The schema as plain values.

    Every field is there in every report; what is not known is null or empty, never left out. Readers must not mind
    fields that they do not know: later versions add some under the same name of the schema.
    """
    made = _Maker()
    runs, total, group, stated = (made.node(kind) for kind in (RunReport, Quantities, GroupReport, Statement))
    several: Node = {
        "type": "object",
        "description": "What `aiocarbon report --json` writes: several runs, or one.",
        "required": ["schema", "runs", "total", "groups", "problems", "statement"],
        "properties": {
            "schema": {"const": REPORT_SCHEMA},
            "runs": {"type": "array", "items": runs, "description": "One report a run, by the time of their begin."},
            "total": {**total, "description": "All runs together, each joule once."},
            "groups": {
                "type": "object",
                "description": "Sums of several runs by what they were asked for by.",
                "propertyNames": made.node(By),
                "additionalProperties": {"type": "array", "items": group},
            },
            "problems": {
                "type": "array",
                "items": {"type": "string"},
                "description": "What could not be read, in words.",
            },
            "statement": {**stated, "description": "What a paper or a model card states of them."},
        },
    }
    return {
        "$schema": DIALECT,
        "$id": f"urn:{REPORT_SCHEMA.replace('/', ':')}",
        "title": REPORT_SCHEMA,
        "description": "Energy in kWh, CO2eq in grams, time in seconds, power in watts; ranges are 90 %.",
        "anyOf": [{"$ref": "#/$defs/Report"}, {**runs, "description": "What `aiocarbon run --json` writes: one run."}],
        "$defs": {"Report": several, **dict(sorted(made.defs.items()))},
    }


class _Maker:
    """Turns classes into definitions."""

    def __init__(self) -> None:
        self.defs: dict[str, Node] = {}
        # Classes name others that they import for type checkers alone: all of the core's are looked up.
        self._names: dict[str, Any] = {}
        for module in pkgutil.iter_modules(aiocarbon._core.__path__, "aiocarbon._core."):
            found = vars(importlib.import_module(module.name))
            self._names |= {name: value for name, value in found.items() if isinstance(value, type)}

    def node(self, kind: Any) -> Node:
        """The schema of a type."""
        if kind in PLAIN:
            return dict(PLAIN[kind])
        if isinstance(kind, type) and issubclass(kind, Enum):
            return {"enum": [member.value for member in kind]}
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            if kind.__name__ not in self.defs:
                self.defs[kind.__name__] = {}  # a class may hold itself
                self.defs[kind.__name__] = self._object(kind)
            return {"$ref": f"#/$defs/{kind.__name__}"}
        origin, parts = typing.get_origin(kind), typing.get_args(kind)
        if origin in (typing.Union, types.UnionType):
            return {"anyOf": [self.node(part) for part in parts]}
        if origin is tuple:
            return {"type": "array", "items": self.node(parts[0])}
        if origin is dict:
            keys = self.node(parts[0])
            named = {} if keys == PLAIN[str] else {"propertyNames": keys}
            return {"type": "object", "additionalProperties": self.node(parts[1]), **named}
        raise TypeError(f"{kind!r} has no form in JSON that is known here")

    def _object(self, kind: type) -> Node:
        own = vars(sys.modules[kind.__module__])
        hints = typing.get_type_hints(kind, {**self._names, **own}, {})
        told = _described(kind)
        names = [field.name for field in dataclasses.fields(kind)]
        properties = {name: {**self.node(hints[name]), **told.get(name, {})} for name in names}
        for field in dataclasses.fields(kind):
            if field.name == "schema":
                properties["schema"] = {"const": field.default, **told["schema"]}
        head = (kind.__doc__ or "").strip().partition("\n")[0]
        return {"type": "object", "description": head, "required": names, "properties": properties}


def _described(kind: type) -> dict[str, Node]:
    """The descriptions of a class's attributes, out of its docstring and those of the classes above it."""
    found: dict[str, Node] = {}
    for parent in reversed(kind.__mro__):
        _, _, text = (parent.__doc__ or "").partition("Attributes:\n")
        for name, words in re.findall(r"^ {8}(\w+): (.*(?:\n {12}.*)*)", text, re.MULTILINE):
            found[name] = {"description": " ".join(words.split())}
    return found


def _written() -> str:
    return json.dumps(report_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(_written())

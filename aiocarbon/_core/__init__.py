"""Pure core: no I/O, no clock, no async, no logging; only the standard library's maths and dataclasses."""

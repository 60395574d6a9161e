"""`python -m aiocarbon`: the command line."""

from aiocarbon.cli.main import entry

entry()

"""`python -m aiocarbon`: the command line."""

try:
    from aiocarbon.cli import entry
except KeyboardInterrupt:
    raise SystemExit(130) from None  # as all of it ends by Ctrl-C

entry()

"""What the text of an error about a question may say: what failed and why, and nothing that was sent.

A server may repeat a token in what it answers, whole or across the place where a quotation is cut off; so what was sent
is taken out of all that is quoted, before it is cut, in each of the forms in which servers repeat things.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, quote_plus, unquote, urlsplit

__all__ = ["SENT", "Sent", "hidden", "quoted", "why"]

CELL: Final = 40
"""Of one value of an answer, what a message quotes."""

QUOTED: Final = 200
"""Of an error's body, what its message quotes."""

LEAST_SECRET: Final = 5
"""Shorter values of a query or a header ("de", "24") are none, and hiding them would make the text unreadable. Users
and passwords are hidden however short they are."""


class Sent:
    """What was sent with a question, so that none of it is repeated.

    Args:
        url: Where; its user, password and query are taken as sent.
        params: Query.
        headers: Headers.
    """

    def __init__(
        self,
        url: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        try:
            parts = urlsplit(url)
            found = {form for word in _credentials(parts) for form in _forms(word)}
            query = [value for _, value in parse_qsl(parts.query)]
        except ValueError:  # no URL, so that all of it may be a secret
            found, query = set(), [url]
        values = [*(params or {}).values(), *query, *(headers or {}).values()]
        for value in values:
            for word in (value, *value.split()):
                found.update(form for form in _forms(word) if len(form) >= LEAST_SECRET)
        found.discard("")
        # The longest first: one may hold another.
        pattern = "|".join(re.escape(text) for text in sorted(found, key=len, reverse=True))
        self._pattern = re.compile(pattern, re.IGNORECASE) if pattern else None

    def hidden_in(self, text: str) -> str:
        """A text with all that was sent taken out, on one line, without control characters."""
        # A terminal obeys control characters, and a secret broken by one would not be found.
        plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return plain if self._pattern is None else self._pattern.sub("...", plain)

    def quoted(self, body: bytes) -> str:
        """What an error's text may quote of a body; nothing of a web page."""
        said = self.hidden_in(body.decode("utf-8", "replace"))[:QUOTED]
        return "" if "<" in said else said

    def is_in(self, error: BaseException) -> bool:
        """Whether an exception or what it was raised from would repeat what was sent."""
        seen: BaseException | None = error
        while seen is not None:
            text = f"{seen} {seen!r}"
            if self._pattern is not None and self._pattern.search(text):
                return True
            seen = seen.__cause__ or seen.__context__
        return False


SENT: Final[ContextVar[Sent | None]] = ContextVar("SENT", default=None)
"""What this task sent last, so that whoever reads the answer, in a worker too, quotes nothing of it."""


def hidden(text: str) -> str:
    """A text out of an answer, with all taken out that was sent to get it."""
    sent = SENT.get()
    return text if sent is None else sent.hidden_in(text)


def quoted(value: object, most: int = CELL) -> str:
    """What a message may quote of a value out of an answer: cut off, but not before what was sent is taken out."""
    return hidden(str(value))[:most]


def _credentials(parts: SplitResult) -> Iterator[str]:
    """The user and the password of a URL, and both as a header has them."""
    if not (parts.username or parts.password):
        return
    pair = (unquote(parts.username or ""), unquote(parts.password or ""))
    yield from pair
    for encoding in ("utf-8", "latin-1"):
        yield base64.b64encode(":".join(pair).encode(encoding, "replace")).decode()


def _forms(word: str) -> Iterable[str]:
    """A text as it is, and as it stands in a URL and in JSON."""
    told = word.encode("utf-8", "replace")  # half a surrogate pair has no form in a URL
    return word, quote(told), quote(told, safe=""), quote_plus(told), json.dumps(word)[1:-1]


def why(error: Exception, connect_limit_s: float) -> tuple[str, str]:
    """What an error of the transport says in words, and a remedy, without addresses, which may hold a query.

    Args:
        error: One of aiohttp's or of the operating system's.
        connect_limit_s: How long a connection may take, seconds.
    """
    import aiohttp

    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
        reason = getattr(cause, "verify_message", "") or type(cause).__name__
        return f"its certificate is not trusted ({reason})", "export SSL_CERT_FILE=..., if your network has its own"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy answered {error.status}", ""
    if isinstance(error, aiohttp.ServerTimeoutError):
        return f"no connection within {connect_limit_s:g} s", ""
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError):
        return "it closed the connection before its answer was complete", ""
    if isinstance(error, aiohttp.ClientResponseError):
        return "what it sent is no HTTP", ""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror, ""
    if isinstance(error, ValueError):
        return "its address, or what was to be sent, cannot be sent as it is", ""
    return type(error).__name__, ""

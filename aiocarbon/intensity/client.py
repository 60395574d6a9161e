"""The one way out: HTTPS questions of all sources over one shared session.

Guarantees: TLS is verified; plain HTTP goes to loopback and link-local addresses only; a redirect to another host is
not followed; an answer is cut off at `MOST_BYTES`, refused beyond `MOST_VALUES`, and decoded in well under the 3 ms for
which a thread may keep the interpreter from the training; every wait has an end; nothing of a header, a token or a
query goes into an error's text. A proxy of the environment is used, except for `direct` questions.
"""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import anyio

from aiocarbon._version import __version__
from aiocarbon.errors import BadAnswerError, SourceDownError, SourceRefusedError
from aiocarbon.intensity.base import shown

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

__all__ = ["Blocking", "Client", "Reply", "decoded", "shown"]

Blocking = Callable[..., Awaitable[Any]]
"""Runs a blocking function in a worker thread of the engine's."""

MOST_BYTES: Final = 256 * 1024
"""The largest answer asked for here is 14 days of British half hours (90 kB)."""

MOST_VALUES: Final = 12_000
"""Commas and brackets in an answer: decoding that many takes 2 ms (256 kB of nothing but numbers would take 8)."""

CONNECT_LIMIT_S: Final = 5.0
TOTAL_LIMIT_S: Final = 10.0
MOST_REDIRECTS: Final = 3
MOST_RETRY_AFTER_S: Final = 6 * 3600.0
PATIENCE: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
LOCAL_NAMES: Final = frozenset({"localhost", "metadata.google.internal", "metadata"})
QUOTED: Final = 200
"""Of an error's body, what its message quotes."""

LEAST_SECRET: Final = 5
USER_AGENT: Final = f"aiocarbon/{__version__}"


class Reply:
    """What was answered.

    Attributes:
        status: HTTP status, 200..299.
        headers: Its headers, by their lower-case names.
        body: Its body, at most `MOST_BYTES`.
        date_s: UTC seconds of its Date header; None if it has none.
    """

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.date_s = _date_s(headers.get("date", ""))


class Client:
    """Asks over one session, which is made with the first question and belongs to the loop that asks it.

    Args:
        blocking: Runs a blocking function in a worker thread.
        proxies: Gives the proxy URLs by scheme; by default those of the environment.
    """

    def __init__(self, blocking: Blocking, *, proxies: Callable[[], Mapping[str, str]] | None = None) -> None:
        self._blocking = blocking
        self._proxies = proxies
        self._session: ClientSession | None = None
        self._lock = anyio.Lock()

    async def json(
        self,
        url: str,
        *,
        source: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        limit_s: float = TOTAL_LIMIT_S,
    ) -> Any:
        """The decoded JSON that a GET is answered with.

        Args:
            url: Where.
            source: Name of the source, for errors.
            params: Query, not yet encoded.
            headers: More headers.
            limit_s: Longest wait, seconds.

        Raises:
            SourceDownError: No answer, or one that asks for patience (408, 425, 429, 5xx).
            SourceRefusedError: Another status, a redirect to another host, plain HTTP.
            BadAnswerError: The answer is no JSON, or too large.
        """
        reply = await self.ask("GET", url, source=source, params=params, headers=headers, limit_s=limit_s)
        return await self._blocking(decoded, reply.body, source, shown(url))

    async def ask(
        self,
        method: str,
        url: str,
        *,
        source: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        basic: tuple[str, str] | None = None,
        direct: bool = False,
        limit_s: float = TOTAL_LIMIT_S,
    ) -> Reply:
        """One question; like `json`, but with the body as it came.

        Args:
            method: "GET" or "PUT".
            url: Where.
            source: Name of the source, for errors.
            params: Query, not yet encoded.
            headers: More headers.
            basic: User and password.
            direct: True to go past any proxy (a cloud's metadata must).
            limit_s: Longest wait, seconds.

        Raises:
            SourceDownError: No answer, or one that asks for patience.
            SourceRefusedError: Another status than 2xx, a redirect to another host, plain HTTP.
            BadAnswerError: The answer is too large.
        """
        _demand_safe(url, source)
        session = await self._made()
        import aiohttp

        auth = aiohttp.BasicAuth(*basic) if basic is not None else None
        try:
            with anyio.fail_after(limit_s):
                proxy = None if direct else await self._proxy(url)
                for _ in range(MOST_REDIRECTS + 1):
                    async with session.request(
                        method,
                        url,
                        params=dict(params) if params else None,
                        headers=dict(headers) if headers else None,
                        auth=auth,
                        proxy=proxy,
                        allow_redirects=False,
                    ) as response:
                        if response.status in (301, 302, 303, 307, 308):
                            url, params = _redirected(response, url, source), None
                            continue
                        secrets = [*(headers or {}).values(), *(basic or ()), *(params or {}).values()]
                        return await _reply(response, url, source, secrets)
            raise SourceRefusedError(f"{shown(url)} redirects without end", source=source)
        except TimeoutError as error:
            raise SourceDownError(f"{shown(url)} did not answer within {limit_s:g} s", source=source) from error
        except aiohttp.ClientError as error:
            raise SourceDownError(f"{shown(url)} cannot be reached: {_why(error)}", source=source) from error
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            raise SourceDownError(f"{shown(url)} cannot be reached: {why}", source=source) from error

    async def aclose(self) -> None:
        """Close the session."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _made(self) -> ClientSession:
        async with self._lock:
            if self._session is None:
                # In a worker: the import takes longer than a loop may stand still.
                await self._blocking(_load)
                self._session = _session(self._blocking)
            return self._session

    async def _proxy(self, url: str) -> str | None:
        proxy: str | None = await self._blocking(_proxy_of, url, self._proxies)
        return proxy


def _load() -> None:
    import aiohttp  # noqa: F401  # loading is the purpose


def _session(blocking: Blocking) -> ClientSession:
    import aiohttp
    from aiohttp.abc import AbstractResolver, ResolveResult

    class Resolver(AbstractResolver):
        """Looks names up in our own workers: aiohttp's uses the loop's executor, which is joined at exit."""

        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
        ) -> list[ResolveResult]:
            found = await blocking(_looked_up, host, port, family)
            return [
                ResolveResult(
                    hostname=host, host=address, port=at, family=kind, proto=proto, flags=int(socket.AI_NUMERICHOST)
                )
                for kind, proto, address, at in found
            ]

        async def close(self) -> None:
            """Nothing is held."""

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(resolver=Resolver(), limit=16, limit_per_host=4, force_close=True),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_LIMIT_S),
        headers={"User-Agent": USER_AGENT, "Accept": "application/json"},
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,  # it would also read ~/.netrc; proxies are looked up here
    )


def _looked_up(host: str, port: int, family: int) -> list[tuple[int, int, str, int]]:
    found = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [(kind, proto, str(address[0]), int(address[1])) for kind, _, proto, _, address in found]


def _proxy_of(url: str, proxies: Callable[[], Mapping[str, str]] | None) -> str | None:
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    found = (proxies or getproxies)()
    host = parts.hostname or ""
    if _is_local(host) or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxy = found.get(parts.scheme) or found.get("all")
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"


async def _reply(response: ClientResponse, url: str, source: str, secrets: Iterable[str]) -> Reply:
    """The answer; what an error quotes of it repeats nothing that was sent, which may be a token."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    body = await _body(response, url, source)
    if 200 <= response.status < 300:
        return Reply(response.status, headers, body)
    said = " ".join(body[:QUOTED].decode("utf-8", "replace").split())
    for secret in secrets:
        for word in secret.split():
            said = said.replace(word, "...") if len(word) >= LEAST_SECRET else said
    message = f"{shown(url)} answered {response.status}" + (f": {said}" if said and "<" not in said else "")
    if response.status in PATIENCE:
        raise SourceDownError(
            message, source=source, status=response.status, retry_after_s=_retry_after_s(headers.get("retry-after", ""))
        )
    raise SourceRefusedError(message, source=source, status=response.status)


async def _body(response: ClientResponse, url: str, source: str) -> bytes:
    """The body, decompressed, cut off where it grows too large."""
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_chunked(32 * 1024):
        size += len(part)
        if size > MOST_BYTES:
            raise BadAnswerError(f"{shown(url)} sent more than {MOST_BYTES // 1024} KiB", source=source)
        parts.append(part)
    return b"".join(parts)


def decoded(body: bytes, source: str, place: str) -> Any:
    """A body's JSON.

    Raises:
        BadAnswerError: It is empty, no JSON, or holds more values than any question here asks for.
    """
    if not body.strip():
        raise BadAnswerError(f"{place} sent an empty answer", source=source, may_pass=True)
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MOST_VALUES:
        raise BadAnswerError(f"{place} sent more than {MOST_VALUES} values", source=source)
    try:
        return json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise BadAnswerError(f"{place} sent something that is no JSON", source=source, may_pass=True) from error


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number")


def _demand_safe(url: str, source: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and _is_local(parts.hostname or ""):
        return
    raise SourceRefusedError(
        f"{shown(url)} is not asked: only https, or http on this machine", source=source, remedy="use an https:// URL"
    )


def _is_local(host: str) -> bool:
    """Whether a host is this machine or a cloud's link-local metadata service."""
    if host in LOCAL_NAMES:
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_link_local or host == "fd00:ec2::254"


def _redirected(response: ClientResponse, url: str, source: str) -> str:
    """Where a redirect leads, on the same host.

    Raises:
        SourceRefusedError: It leads elsewhere, or nowhere.
    """
    from yarl import URL

    try:
        target = str(URL(url).join(URL(response.headers.get("Location", ""))))
    except ValueError as error:
        raise SourceRefusedError(f"{shown(url)} redirects to nowhere", source=source) from error
    before, after = urlsplit(url), urlsplit(target)
    if (before.scheme, before.netloc) != (after.scheme, after.netloc):
        raise SourceRefusedError(
            f"{shown(url)} redirects to {after.hostname}, which is not followed",
            source=source,
            status=response.status,
        )
    return target


def _why(error: Exception) -> str:
    """What a transport error says, without addresses that may hold a query."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__


def _retry_after_s(text: str) -> float | None:
    """Seconds of a Retry-After header, which holds seconds or a date."""
    import time

    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MOST_RETRY_AFTER_S)
    when = _date_s(text)
    # Against the machine's clock: the header is the server's, whose own Date would be better and is often missing.
    return None if when is None else min(max(when - time.time(), 0.0), MOST_RETRY_AFTER_S)


def _date_s(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError):
        return None

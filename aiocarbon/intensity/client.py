"""The one way out: HTTPS questions of all sources over one shared session.

Guarantees: TLS is verified; plain HTTP goes to loopback and link-local addresses only; a redirect to another origin is
not followed; an answer is cut off at `MOST_BYTES`, decompressed or not, refused beyond `MOST_VALUES`, and decoded in
well under the 3 ms for which a thread may keep the interpreter from the training; every wait has an end; nothing of a
header, a token or a query goes into an error's text. A proxy of the environment is used, except for `direct` questions.
"""

from __future__ import annotations

import functools
import ipaddress
import json
import socket
import zlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import anyio

from aiocarbon._forks import FORKS
from aiocarbon._version import __version__
from aiocarbon.errors import BadAnswerError, SourceDownError, SourceRefusedError
from aiocarbon.intensity.base import shown
from aiocarbon.intensity.headers import patience_s, server_now_s
from aiocarbon.intensity.wording import SENT, Sent, why

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

__all__ = ["Blocking", "Client", "Reply", "decoded", "shown"]

Blocking = Callable[..., Awaitable[Any]]
"""Runs a blocking function in a worker thread of the engine's."""

MOST_BYTES: Final = 256 * 1024
"""The largest answer asked for here is a week of Danish five minutes (170 kB)."""

MOST_VALUES: Final = 12_000
"""Commas and brackets in an answer: decoding that many takes 2 ms (256 kB of nothing but numbers would take 8)."""

CONNECT_LIMIT_S: Final = 5.0
TOTAL_LIMIT_S: Final = 10.0
MOST_REDIRECTS: Final = 3
PATIENCE: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
LOCAL_NAMES: Final = frozenset({"localhost", "metadata.google.internal", "metadata"})
REFUSAL_LIMIT_S: Final = 2.0
"""What is said with an error is waited for no longer: its status is known by then."""

USER_AGENT: Final = f"aiocarbon/{__version__}"


class Reply:
    """What was answered.

    Attributes:
        status: HTTP status, 200..299.
        headers: Its headers, by their lower-case names.
        body: Its body, at most `MOST_BYTES`.
        date_s: UTC seconds by the server's clock; None if it does not tell.
    """

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.date_s = server_now_s(headers)


class Client:
    """Asks over one session, which is made with the first question and belongs to the loop that asks it.

    Args:
        blocking: Runs a blocking function in a worker thread.
        proxies: Gives the proxy URLs by scheme, and as "no" the hosts that go past them, separated by commas; by
            default those of the environment or the system.
        load_limit_s: Longest wait for the workers to load what asks, and to decode what was answered, seconds.

    Attributes:
        date_s: UTC seconds by the clock of the server that answered last, when it did; None if it did not tell.
    """

    def __init__(
        self,
        blocking: Blocking,
        *,
        proxies: Callable[[], Mapping[str, str]] | None = None,
        load_limit_s: float = TOTAL_LIMIT_S,
    ) -> None:
        self._blocking = blocking
        self._proxies = proxies
        self._load_limit_s = load_limit_s
        self.date_s: float | None = None
        self._session: ClientSession | None = None

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
        return await self._worked(source, decoded, reply.body, source, shown(url))

    async def ask(
        self,
        method: str,
        url: str,
        *,
        source: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
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
            direct: True to go past any proxy (a cloud's metadata must).
            limit_s: Longest wait, seconds.

        Raises:
            SourceDownError: No answer, or one that asks for patience.
            SourceRefusedError: Another status than 2xx, a redirect to another host, plain HTTP.
            BadAnswerError: The answer is too large.
        """
        _demand_safe(url, source)
        sent = Sent(url, params, headers)
        SENT.set(sent)
        session = await self._made(source)
        import aiohttp  # loaded by now

        proxy = None
        try:
            with anyio.fail_after(limit_s):
                proxy = None if direct else await self._proxy(url, source)
                ask = functools.partial(session.request, method, proxy=proxy, allow_redirects=False)
                reply = await _asked(ask, url, source, dict(params or {}), dict(headers or {}), sent)
                self.date_s = reply.date_s
                return reply
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failure, (reason, remedy) = error, why(error, CONNECT_LIMIT_S)
        is_late = type(failure) is TimeoutError and not failure.args  # the one of the limit above
        what = f"did not answer within {limit_s:g} s" if is_late else f"cannot be reached: {reason}"
        by = f" (by the proxy {shown(proxy)})" if proxy else ""
        # Raised out here, since what is raised beside an error brings it along; and it may hold what was sent.
        may_be_told = not (sent.is_in(failure) or Sent(proxy or "").is_in(failure))
        raise SourceDownError(f"{shown(url)} {what}{by}", source=source, remedy=remedy) from (
            failure if may_be_told else None
        )

    async def aclose(self) -> None:
        """Close the session."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _made(self, source: str) -> ClientSession:
        if self._session is None:
            # In a worker: the import takes longer than a loop may stand still.
            await self._worked(source, _load)
        if self._session is None:  # or another question made it meanwhile
            self._session = _session(self._blocking)
        return self._session

    async def _worked(self, source: str, function: Callable[..., Any], *args: object) -> Any:
        """What a worker gives, if one is free and done soon."""
        try:
            with anyio.fail_after(self._load_limit_s):
                return await self._blocking(function, *args)
        except TimeoutError as error:
            raise SourceDownError(f"no worker was free within {self._load_limit_s:g} s", source=source) from error

    async def _proxy(self, url: str, source: str) -> str | None:
        proxy: str | None = await self._blocking(_proxy_of, url, self._proxies)
        if proxy is not None and not proxy.startswith(("http://", "https://")):
            raise SourceRefusedError(
                f"{shown(url)} is not asked: the proxy {shown(proxy)} is none of HTTP",
                source=source,
                remedy=f"export HTTPS_PROXY=http://..., or NO_PROXY={urlsplit(url).hostname} to go past it",
            )
        return proxy


def _load() -> None:
    with FORKS.kept_off():
        import encodings.idna  # which looking up a name would load  # noqa: F401  # loading is the purpose

        import aiohttp  # noqa: F401


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
        headers={"User-Agent": USER_AGENT, "Accept": "application/json", "Accept-Encoding": "gzip"},
        auto_decompress=False,  # it would inflate all that arrived at once, a thousandfold if it must
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,  # it would also read ~/.netrc; proxies are looked up here
    )


def _looked_up(host: str, port: int, family: int) -> list[tuple[int, int, str, int]]:
    found = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [(kind, proto, str(address[0]), int(address[1])) for kind, _, proto, _, address in found]


def _proxy_of(url: str, proxies: Callable[[], Mapping[str, str]] | None) -> str | None:
    from urllib.request import getproxies, proxy_bypass, proxy_bypass_environment  # type: ignore[attr-defined]  # hidden

    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    if _is_local(parts.hostname or ""):
        return None
    found = dict((proxies or getproxies)())
    if proxy_bypass(host) if proxies is None else proxy_bypass_environment(host, found):
        return None
    proxy = found.get(parts.scheme) or found.get("all")
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


async def _asked(
    ask: Callable[..., Any], url: str, source: str, params: dict[str, str], headers: dict[str, str], sent: Sent
) -> Reply:
    """The answer at the end of the redirects."""
    place = shown(url)  # told in errors wherever redirects lead, since a server may repeat a token in their path
    for _ in range(MOST_REDIRECTS + 1):
        async with ask(url, params=params or None, headers=headers or None) as response:
            if response.status not in REDIRECTS:
                return await _reply(response, place, source, sent)
            url, params = _redirected(response, url, source, sent), {}
    raise SourceRefusedError(f"{place} redirects without end", source=source)


async def _reply(response: ClientResponse, place: str, source: str, sent: Sent) -> Reply:
    """The answer; what an error quotes of it repeats nothing that was sent, which may be a token."""
    from aiohttp import ClientError

    headers = {name.lower(): value for name, value in response.headers.items()}
    if 200 <= response.status < 300:
        return Reply(response.status, headers, await _body(response, place, source))
    said = ""
    # Whatever comes of the body, or does not: the status counts, and for how long not to ask.
    with suppress(BadAnswerError, OSError, ClientError), anyio.move_on_after(REFUSAL_LIMIT_S):
        said = sent.quoted(await _body(response, place, source))
    message = f"{place} answered {response.status}" + (f": {said}" if said else "")
    if response.status in PATIENCE:
        raise SourceDownError(message, source=source, status=response.status, retry_after_s=patience_s(headers))
    raise SourceRefusedError(message, source=source, status=response.status)


async def _body(response: ClientResponse, place: str, source: str) -> bytes:
    """The body, decompressed, cut off where it grows too large."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"identity", "", "gzip", "x-gzip"}:
        raise BadAnswerError(f"{place} sent an encoding that was not asked for", source=source)
    inflate = zlib.decompressobj(wbits=31) if "gzip" in encoding else None
    parts: list[bytes] = []
    left = MOST_BYTES
    try:
        async for part in response.content.iter_chunked(32 * 1024):
            part = part if inflate is None else inflate.decompress(part, left + 1)
            left -= len(part)
            if left < 0:
                raise BadAnswerError(f"{place} sent more than {MOST_BYTES // 1024} KiB", source=source)
            parts.append(part)
    except zlib.error as error:
        raise BadAnswerError(f"{place} sent something that is not compressed", source=source, may_pass=True) from error
    if inflate is not None and not inflate.eof and b"".join(parts):
        raise BadAnswerError(f"{place} sent less than all of its answer", source=source, may_pass=True)
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
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise SourceRefusedError("its address is no URL", source=source, remedy="use an https:// URL") from None
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


def _redirected(response: ClientResponse, url: str, source: str, sent: Sent) -> str:
    """Where a redirect leads, on the same origin, with the user and password of before.

    Raises:
        SourceRefusedError: It leads elsewhere, or nowhere.
    """
    from yarl import URL

    before, status = URL(url), response.status
    try:
        after = before.join(URL(response.headers.get("Location", "")))
        where = f"{after.scheme}://{after.host}:{after.port}"
    except ValueError as error:
        cause = None if sent.is_in(error) else error
        raise SourceRefusedError(f"{shown(url)} redirects to nowhere", source=source, status=status) from cause
    if (before.scheme, before.host, before.port) != (after.scheme, after.host, after.port):
        message = f"{shown(url)} redirects to {sent.hidden_in(where)}, which is not followed"
        raise SourceRefusedError(message, source=source, status=status)
    return str(after.with_user(before.user).with_password(before.password))

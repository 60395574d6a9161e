"""Cuts a process off from every network but this machine's own, as a node without a route is.

Some contenders ask web services where they are, whatever they are told. They shall meet the same silence everywhere,
and the fastest there is: a refusal at once, which costs them nothing.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

LOOPBACK = ("127.", "::1", "localhost")


def _is_near(address: Any) -> bool:
    return not isinstance(address, tuple) or str(address[0]).startswith(LOOPBACK)


def cut() -> None:
    """Refuse every connection and every name beyond loopback from now on."""
    # Patching is the point: the contenders are run as they are, and no part of them takes a network to be handed in.
    connect, connect_ex, resolve = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def refused(self: socket.socket, address: Any) -> None:
        if not _is_near(address):
            raise OSError(errno.ENETUNREACH, "cut off by the benchmark")
        connect(self, address)

    def refused_ex(self: socket.socket, address: Any) -> int:
        return connect_ex(self, address) if _is_near(address) else errno.ENETUNREACH

    def unknown(host: Any, *arguments: Any, **more: Any) -> Any:
        if host and not str(host).startswith((*LOOPBACK, "0.0.0.0")):
            raise socket.gaierror(socket.EAI_NONAME, "cut off by the benchmark")
        return resolve(host, *arguments, **more)

    socket.socket.connect = refused  # type: ignore[method-assign,assignment]  # see above
    socket.socket.connect_ex = refused_ex  # type: ignore[method-assign,assignment]
    socket.getaddrinfo = unknown

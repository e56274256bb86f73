"""Addresses that konsil can listen on and dial: a host and a TCP port, written as a multiaddr.

Pure, and free of libp2p, so that a wrong address is named before a node starts.
"""

from __future__ import annotations

import socket

from multiaddr import Multiaddr

from konsil.protocol.errors import ConfigError

Endpoint = tuple[str, int, int]
"""Host, port and address family (`AF_INET`, `AF_INET6` or `AF_UNSPEC`)."""

_HINT = "write /ip4/<address>/tcp/<port> or /dns4/<name>/tcp/<port>"
_FAMILIES = {
    "ip4": socket.AF_INET,
    "ip6": socket.AF_INET6,
    "dns4": socket.AF_INET,
    "dns6": socket.AF_INET6,
    "dns": socket.AF_UNSPEC,
}


def endpoint(address: str | Multiaddr) -> Endpoint:
    """Where a multiaddr such as /ip4/192.0.2.7/tcp/4001 or /dns4/a.example/tcp/4001 points.

    Raises `ConfigError` naming the address when it is not host and TCP port.
    """
    parts = str(address).strip("/").split("/")
    try:
        Multiaddr("/" + "/".join(parts))
    except ValueError as error:
        raise ConfigError(f"{address} is not an address: {error}", hint=_HINT) from error
    if len(parts) not in (4, 6) or parts[0] not in _FAMILIES or parts[2] != "tcp":
        raise ConfigError(f"{address} is not an address that konsil can use", hint=_HINT)
    return parts[1], int(parts[3]), _FAMILIES[parts[0]]

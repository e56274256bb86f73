"""Addresses that konsil can listen on and dial: a host and a TCP port, written as a multiaddr.

Pure, and free of libp2p, so that a wrong address is named before a node starts.
"""

from __future__ import annotations

import ipaddress
import re
import socket

from konsil.protocol.errors import ConfigError

Endpoint = tuple[str, int, int]
"""Host, port and address family (`AF_INET`, `AF_INET6` or `AF_UNSPEC`)."""

_HINT = "write /ip4/<address>/tcp/<port> or /dns4/<name>/tcp/<port>"
_ADDRESS = re.compile(r"/?(ip[46]|dns[46]?)/([^/\s]+)/tcp/(\d{1,5})(?:/p2p/[^/\s]+)?/?", re.ASCII)
_LITERAL = {"ip4": ipaddress.IPv4Address, "ip6": ipaddress.IPv6Address}
_FAMILIES = {
    "ip4": socket.AF_INET,
    "ip6": socket.AF_INET6,
    "dns4": socket.AF_INET,
    "dns6": socket.AF_INET6,
    "dns": socket.AF_UNSPEC,
}


def endpoint(address: str) -> Endpoint:
    """Where a multiaddr such as /ip4/192.0.2.7/tcp/4001 or /dns4/a.example/tcp/4001 points.

    Raises `ConfigError` naming the address when it is not host and TCP port.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match[3]) > 65_535:
        raise ConfigError(f"{address} is not an address that konsil can use", hint=_HINT)
    kind, host, port = match.groups()
    try:
        if kind in _LITERAL:
            _LITERAL[kind](host)
    except ValueError as error:
        raise ConfigError(f"{address} is not an address: {error}", hint=_HINT) from error
    return host, int(port), _FAMILIES[kind]

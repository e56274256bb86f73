"""Addresses that konsil can listen on and dial: a host and a TCP port, written as a multiaddr.

Pure, and free of libp2p, so that a wrong address is named before a node starts.
"""

from __future__ import annotations

import ipaddress
import socket

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


def endpoint(address: str) -> Endpoint:
    """Where a multiaddr such as /ip4/192.0.2.7/tcp/4001 or /dns4/a.example/tcp/4001 points.

    Raises `ConfigError` naming the address when it is not host and TCP port.
    """
    kind, host, tcp, port, *peer = (*address.strip("/").split("/"), "", "", "")[:7]
    peer = [part for part in peer if part]
    if kind not in _FAMILIES or tcp != "tcp" or not host or peer[:1] not in ([], ["p2p"]):
        raise ConfigError(f"{address} is not an address that konsil can use", hint=_HINT)

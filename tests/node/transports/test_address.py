"""Addresses: what konsil can listen on and dial, told apart before anything starts."""

import socket

import pytest

from konsil.node.transports.address import endpoint
from konsil.protocol.errors import ConfigError


@pytest.mark.parametrize(
    ("address", "where"),
    [
        ("/ip4/192.0.2.7/tcp/4001", ("192.0.2.7", 4001, socket.AF_INET)),
        ("/ip4/0.0.0.0/tcp/0/", ("0.0.0.0", 0, socket.AF_INET)),
        ("/ip6/::1/tcp/65535", ("::1", 65535, socket.AF_INET6)),
        ("/dns4/a.example/tcp/4001", ("a.example", 4001, socket.AF_INET)),
        ("/dns6/a.example/tcp/4001", ("a.example", 4001, socket.AF_INET6)),
        ("/dns/a.example/tcp/4001/p2p/12D3KooW", ("a.example", 4001, socket.AF_UNSPEC)),
    ],
)
def test_host_and_port(address, where):
    assert endpoint(address) == where


@pytest.mark.parametrize(
    "address",
    [
        "",
        "127.0.0.1:4001",
        "/ip4/127.0.0.1",
        "/ip4/127.0.0.1/udp/4001",
        "/ip4/127.0.0.1/tcp/",
        "/ip4/127.0.0.1/tcp/70000",
        "/ip4/127.0.0.1/tcp/-1",
        "/ip4/127.0.0.1/tcp/４００１",
        "/ip4/127.0.0.256/tcp/4001",
        "/ip4/::1/tcp/4001",
        "/ip6/127.0.0.1/tcp/4001",
        "/ip4/a.example/tcp/4001",
        "/dns4//tcp/4001",
        "/ip4/127.0.0.1/tcp/4001/ws",
        "/ip4/127.0.0.1/tcp/4001/p2p",
        "/ip4/127.0.0.1/tcp/4001/p2p/x/p2p-circuit",
        "/ip4/127.0.0.1/tcp/4001\n",
        "/unix/tmp/x",
    ],
)
def test_anything_else_is_named_with_its_remedy(address):
    with pytest.raises(ConfigError) as caught:
        endpoint(address)
    assert str(caught.value).startswith(f"{address} is not an address")
    assert "/ip4/<address>/tcp/<port>" in caught.value.hint

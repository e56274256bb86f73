"""Transports: how bytes reach a peer. One contract, two carriers: libp2p, and memory for tests.

Nothing else in konsil imports libp2p; what runs above sees `transport.Transport` only.
"""

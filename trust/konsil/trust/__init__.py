"""trust: what a node believes of its peers, and how a stranger checks it.

The ledger and its audit, lineage by replay, and the rules by which evidence becomes weight.
Pure functions over records; no torch, no network, no clock.
"""

"""A scenario with real daemons: one home and one process a node, linked as the scenario says.

The simulator decides who has which rows, who is Byzantine, who is away when, and measures the
models; what happens in between is the daemons' own work, over libp2p.
"""

"""node: one hospital's daemon.

Everything with a side effect is here: files, sockets, processes, time. `daemon` shows it on one
screen; `cli` is the command line. Only `worker` (a process of its own) opens tensors, and only
the `libp2p_*` files import libp2p.
"""

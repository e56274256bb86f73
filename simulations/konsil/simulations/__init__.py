"""simulations: whole networks on one machine, from the daemon's own parts.

Topologies, populations, adversaries, and the demo that starts real daemons. Nothing below
this floor knows of it; attacks live here and nowhere else.
"""

"""Bench: how fast the simulator is, against the fastest that its mathematics allow.

`workload` is what all run, `ceiling` the limit, `loop` the plain way, `measuring` takes turns.
Nothing here is used by a simulation.
"""

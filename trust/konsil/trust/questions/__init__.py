"""Questions that an auditor asks of one or several ledgers, and how the answers are shown.

Each question is a pure function over what `gathering` read and verified; each has a view that
makes lines for people and plain data for scripts. No torch, no network, nothing is written.
"""

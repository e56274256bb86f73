"""kinds: how each kind of knowledge leaves a hospital, is compared, tried and taken in.

One rule of trust serves them all (docs/adr/0014): it needs distances between what is handed in,
a trial of it on private rows, and a way to take it in by weights.
"""

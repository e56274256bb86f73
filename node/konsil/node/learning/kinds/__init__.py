"""kinds: how each kind of knowledge leaves a hospital, is compared, judged and taken in.

One rule of trust serves them all (docs/adr/0014, 0017): it needs distances between what is handed
in, what each shows to be good for, and a way to take it in by weights.
"""

"""teaching: what unlike models say to each other: logits, prototypes and weak labels.

Peers agree on a `question` (unlabelled inputs and the order of the classes), each hands in its
`answers`, a receiver judges by them whom to hear (`hearing`), and learns from the `consensus` of
those. No labelled row leaves a hospital, and no two of them need the same architecture.
"""

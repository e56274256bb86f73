"""The simulator: a whole network of hospitals in one process, every step for all at once.

The parameters of all nodes lie in one tensor of nodes × elements; training, judging and mixing
are batched over it. What decides is not written twice: batch orders, private losses, trust and
weights are the functions of `konsil.knowledge` and `konsil.trust` that the daemon calls.
"""

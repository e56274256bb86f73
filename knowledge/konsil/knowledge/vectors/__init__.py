"""vectors: what one training run changed in a model, to be merged at any time by anybody.

One shot and without a centre: hospitals that started from the same base hand in the difference
to it, and a receiver merges what it trusts. Importing the package does not import torch.
"""

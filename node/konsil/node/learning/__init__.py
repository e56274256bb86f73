"""Learning: a node's own rounds. Train, publish, judge and mix what arrived, remember.

Tensors are opened in the worker process alone; the modules of the daemon never import torch.
"""

"""Gossip learning with one object a node, after Ormándi, Hegedűs and Jelasity (2013).

Discrete events, as simulators of gossip run it: at its tick a node updates its model and pushes a
copy of it, as a message, to each of its neighbours; a message waits in the network until its
tick and is handed to the receiver, which keeps the newest of each sender. To be comparable the
nodes are in step: all merge what they have once all have pushed.
"""

from __future__ import annotations

import copy
import heapq
import itertools
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from benchmarks.baselines import ready, tell
from konsil.knowledge.batches import keys_of
from konsil.knowledge.train import descend
from konsil.simulations.sim.bench.loop import module_of, task_of
from konsil.simulations.sim.bench.workload import accuracy

if TYPE_CHECKING:
    from torch import nn

    from konsil.knowledge.task import Task


@dataclass(order=True)
class Message:
    """A model on its way; the earliest tick is delivered first."""

    tick: int
    number: int
    sender: int = field(compare=False)
    receiver: int = field(compare=False)
    model: nn.Module = field(compare=False)


@dataclass
class Node:
    """A participant: its rows, its model, and the newest model of each neighbour."""

    task: Task
    model: nn.Module
    seed: int
    neighbours: list[int]
    inbox: dict[int, nn.Module] = field(default_factory=dict)

    def update(self, number: int) -> None:
        """One round of local training."""
        descend(self.task, self.model, keys_of([self.seed], number))

    @torch.no_grad()
    def merge(self) -> None:
        """The mean of the own model and of all that came."""
        models = [self.model, *self.inbox.values()]
        for several in zip(*(model.parameters() for model in models), strict=True):
            several[0].copy_(torch.stack([one.detach() for one in several]).mean(0))
        self.inbox.clear()


def main(rounds: int) -> None:
    """Run all rounds and tell."""
    setting = ready(rounds)
    links = setting.graphs.at(1)
    nodes = [
        Node(
            task_of(setting, place),
            module_of(setting),
            setting.seeds[place],
            links.receiver[links.sender == place].tolist(),
        )
        for place in range(setting.nodes)
    ]
    begun = time.process_time()
    numbers = itertools.count()
    network: list[Message] = []
    for number in range(1, rounds + 1):
        for place, node in enumerate(nodes):
            node.update(number)
            for other in node.neighbours:
                sent = copy.deepcopy(node.model)
                heapq.heappush(network, Message(number, next(numbers), place, other, sent))
        while network:
            message = heapq.heappop(network)
            nodes[message.receiver].inbox[message.sender] = message.model
        for node in nodes:
            node.merge()
    spent = time.process_time() - begun
    layout = setting.network.layout
    models = torch.stack([layout.row(node.model.state_dict()) for node in nodes])
    tell(accuracy(setting, models), setting.nodes * rounds, spent)


if __name__ == "__main__":
    main(int(sys.argv[1]))

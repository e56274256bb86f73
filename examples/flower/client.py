"""A Flower client as it lies in many a hospital: a `NumPyClient`, and nothing of konsil in it.

It stays as it is; `task.py` beside it makes a task of it. No Flower server is needed then, nor
Flower itself: what a node calls are the client's own methods.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

try:
    from flwr.client import NumPyClient
except ImportError:
    NumPyClient = object

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = list[NDArray[Any]]


class Net(nn.Sequential):
    """Thirty measurements of a tumour, two classes."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 2))


class Hospital(NumPyClient):
    """One hospital's patients and model, for a Flower server."""

    def __init__(self, net: nn.Module, trainloader: DataLoader, valloader: DataLoader) -> None:
        self.net, self.trainloader, self.valloader = net, trainloader, valloader

    def get_parameters(self, config: dict[str, Any]) -> Arrays:
        """The model as arrays."""
        return [value.detach().cpu().numpy().copy() for value in self.net.state_dict().values()]

    def set_parameters(self, parameters: Arrays) -> None:
        """Go on from these arrays."""
        named = zip(self.net.state_dict(), map(torch.tensor, parameters), strict=True)
        self.net.load_state_dict(dict(named))

    def fit(
        self, parameters: Arrays, config: dict[str, Any]
    ) -> tuple[Arrays, int, dict[str, float]]:
        """Train the given model on the own patients for an epoch."""
        self.set_parameters(parameters)
        optimiser = torch.optim.Adam(self.net.parameters(), lr=0.005)
        total = 0.0
        for inputs, targets in self.trainloader:
            loss = nn.functional.cross_entropy(self.net(inputs), targets)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item()
        loss_mean = total / len(self.trainloader)
        return self.get_parameters({}), len(self.trainloader.dataset), {"loss": loss_mean}

    def evaluate(
        self, parameters: Arrays, config: dict[str, Any]
    ) -> tuple[float, int, dict[str, float]]:
        """Loss and accuracy of the given model on the patients held back."""
        self.set_parameters(parameters)
        inputs, targets = self.valloader.dataset.tensors
        with torch.no_grad():
            outputs = self.net(inputs)
        right = (outputs.argmax(1) == targets).float().mean().item()
        loss = nn.functional.cross_entropy(outputs, targets).item()
        return loss, len(targets), {"accuracy": right}


def client_fn(site: int = 0, sites: int = 1) -> Hospital:
    """The client of a hospital; every fourth patient is held back."""
    table = load_breast_cancer()
    inputs = torch.tensor(table.data[site::sites], dtype=torch.float32)
    inputs = (inputs - inputs.mean(0)) / inputs.std(0)
    targets = torch.tensor(table.target[site::sites])
    held = torch.arange(len(targets)) % 4 == 0
    return Hospital(
        Net(),
        DataLoader(TensorDataset(inputs[~held], targets[~held]), 16, shuffle=True),
        DataLoader(TensorDataset(inputs[held], targets[held]), 64),
    )

"""A training script as it lies in many a hospital: plain torch, and nothing of konsil in it.

    python examples/script/train.py

It stays as it is; `task.py` beside it makes a task of its parts.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

BATCH, RATE, EPOCHS = 16, 0.005, 10


class Net(nn.Sequential):
    """Thirty measurements of a tumour, two classes."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 2))


def load_patients(site: int = 0, sites: int = 1) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Standardised measurements (n × 30), classes and patient numbers of this hospital."""
    table = load_breast_cancer()
    inputs = torch.tensor(table.data[site::sites], dtype=torch.float32)
    targets = torch.tensor(table.target[site::sites])
    patients = [f"patient {number}" for number in range(site, len(table.data), sites)]
    return (inputs - inputs.mean(0)) / inputs.std(0), targets, patients


def train_epoch(model: nn.Module, loader: DataLoader, optimiser: torch.optim.Optimizer) -> float:
    """One pass over the patients; the mean loss."""
    losses = []
    for inputs, targets in loader:
        loss = nn.functional.cross_entropy(model(inputs), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


def main() -> None:
    """Train alone."""
    inputs, targets, _ = load_patients()
    loader = DataLoader(TensorDataset(inputs, targets), BATCH, shuffle=True)
    model = Net()
    optimiser = torch.optim.Adam(model.parameters(), RATE)
    for epoch in range(EPOCHS):
        print(f"epoch {epoch}: loss {train_epoch(model, loader, optimiser):.4f}")


if __name__ == "__main__":
    main()

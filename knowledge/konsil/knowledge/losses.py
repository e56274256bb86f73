"""Losses: what a model costs on private rows, balanced over the classes that are there.

Cross-entropy with the softmax restricted to the classes of which the hospital has rows, because
a node does not judge what it cannot see (trust.md, step 1). Every function takes leading
dimensions, so one model of one hospital and thousands of both are judged by the same lines.
All in float64. Rows that do not count (padding) have a weight of 0.

Masks are judged by the same idea, image by image: an image contributes to each class of which
it has pixels the mean over those pixels, so that a large background does not drown a small
lesion, and it is the images, not their pixels, that are independent of each other.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def members(targets: Tensor, classes: int, counts: Tensor | None = None) -> Tensor:
    """1 where a row (…, n) is of a class and counts, else 0: (…, n, classes) in float64."""
    found = functional.one_hot(targets, classes).double()
    return found if counts is None else found * counts.double()[..., None]


def row_losses(outputs: Tensor, targets: Tensor, seen: Tensor | None) -> Tensor:
    """Each row's cross-entropy (…, n) of outputs (…, n, C), within the classes `seen` (…, C).

    `seen` is None where that is all classes.
    """
    logits = outputs.movedim(-1, 0).double().contiguous()  # classes first: sums run along rows
    if seen is not None:
        logits.masked_fill_(~seen.movedim(-1, 0)[..., None], -torch.inf)
    most = logits.amax(0)
    right = logits.gather(0, targets.expand(most.shape)[None])[0]
    return (logits - most).exp_().sum(0).log_() + (most - right)


def balanced_shares(members: Tensor) -> Tensor:
    """What each row (…, n) counts in `balanced_mean`; those of a hospital sum to one."""
    sizes = members.sum(-2)
    shares = (members / sizes.clamp(min=1)[..., None, :]).sum(-1)
    return shares / (sizes > 0).sum(-1, keepdim=True)


def balanced_mean(values: Tensor, members: Tensor) -> Tensor:
    """Mean over the classes that have rows of the mean of their rows' `values` (…, n)."""
    return (values * balanced_shares(members)).sum(-1)


def balanced_error(values: Tensor, members: Tensor) -> Tensor:
    """The standard error of `balanced_mean`: ``sqrt(sum_c var_c / n_c) / C``.

    The variance of a class with one row is taken as that value's square: nothing else is
    known of its spread.
    """
    return balanced_errors(values[..., None, :], members)[..., 0]


def balanced_errors(values: Tensor, members: Tensor) -> Tensor:
    """`balanced_error` (…, k) of k series of values (…, k, n) over the same rows."""
    sizes = members.sum(-2)
    several = members * (sizes > 1)[..., None, :]
    means = (values @ several) / sizes.clamp(min=1)[..., None, :]
    apart = values - means @ several.mT
    weights = 1 / (sizes * (sizes - 1).clamp(min=1)).clamp(min=1)
    spread = apart.square() @ (members @ weights[..., None])
    return spread[..., 0].sqrt() / (sizes > 0).sum(-1, keepdim=True)


def mask_members(targets: Tensor, classes: int) -> Tensor:
    """1 where an image has pixels of a class, else 0: (n, classes), of masks (n, h, w)."""
    return torch.stack([(targets == k).flatten(1).any(1) for k in range(classes)], 1).double()


def mask_losses(outputs: Tensor, targets: Tensor, seen: Tensor | None) -> Tensor:
    """The mean cross-entropy (n, C) over each image's pixels of each class, within `seen` (C).

    Outputs are (n, C, h, w), masks (n, h, w). 0 where an image has no pixel of a class.
    """
    classes = outputs.shape[1]
    pixels = row_losses(outputs.flatten(2).mT, targets.flatten(1), _each_image(seen, outputs))
    flat = targets.flatten(1)
    means = []
    for k in range(classes):
        mine = flat == k
        sums = torch.where(mine, pixels, 0.0).sum(1)
        means.append(sums / mine.sum(1).clamp(min=1))
    return torch.stack(means, 1)


def mask_mean(values: Tensor, members: Tensor) -> Tensor:
    """Mean over the classes that are there of the mean over the images that have them.

    `values` and `members` are (n, C).
    """
    sizes = members.sum(0)
    sums = torch.where(members > 0, values, 0.0).sum(0)
    return (sums / sizes.clamp(min=1)).sum() / (sizes > 0).sum()


def mask_error(values: Tensor, members: Tensor) -> Tensor:
    """The standard error of `mask_mean`, from what each image contributes to it.

    An image that has several classes is one observation of all of them together (the
    linearised variance of a sum of ratios). As in `balanced_error`, nothing but its square is
    known of a class that one image has.
    """
    sizes = members.sum(0)
    several = members * (sizes > 1)
    means = (values * several).sum(0) / sizes.clamp(min=1)
    widened = (sizes / (sizes - 1).clamp(min=1)).clamp(min=1).sqrt()
    apart = (values - means) * members * widened / sizes.clamp(min=1)
    return apart.sum(1).square().sum().sqrt() / (sizes > 0).sum()


def _each_image(seen: Tensor | None, outputs: Tensor) -> Tensor | None:
    return None if seen is None else seen.expand(len(outputs), -1)

"""A log of many entries that each name a digest of their own."""

from __future__ import annotations

from konsil.protocol.digest import sha256
from konsil.protocol.learning_bodies import ModelBase


def base(model):
    return ModelBase(model=model, source="", licence="", note="")


def grow(hospital, count):
    """Appends so many entries, and signs for them."""
    first = hospital.journal.size
    models = [sha256(b"model %d" % at) for at in range(first, first + count)]
    hospital.journal.append([base(model) for model in models])
    hospital.journal.sign_checkpoint()


def folder(hospital):
    return hospital.home / "ledger"

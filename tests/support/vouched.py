"""What others vouch for: the cosigned checkpoint of a home, as its node would have collected it."""

from __future__ import annotations

from konsil.protocol import cosignature


def cosign(hospital, times):
    """Signs for all that is in the log of `hospital` now; these hospitals cosign it.

    `times` gives the unix seconds at which each does. Returns the bytes of `ledger/cosigned`.
    """
    note = hospital.journal.sign_checkpoint()
    lines = [
        cosignature.sign(note, one.author.origin, one.keys["wit"], seconds)
        for one, seconds in times.items()
    ]
    data = note + b"".join(lines)
    (hospital.home / "ledger" / "cosigned").write_bytes(data)
    return data

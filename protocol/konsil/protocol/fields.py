"""Fields that several kinds of ledger entry share: words, texts, counts and fractions.

No fraction is ever a float: `_e9` counts units of 1e-9, so that every machine computes the same.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

UNIT_E9 = 1_000_000_000
"""1 as an integer fraction in units of 1e-9."""

Code = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_.:/-]{0,63}\Z")]
Text = Annotated[str, msgspec.Meta(max_length=1_024)]
TensorName = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Number = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
"""A count that starts at 1."""
Fraction = Annotated[int, msgspec.Meta(ge=0, le=UNIT_E9)]
Role = Literal["log", "wit", "art", "peer", "rec"]

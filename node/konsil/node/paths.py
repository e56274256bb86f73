"""Where things lie in a node's home; the only file that knows the names."""

from __future__ import annotations

from pathlib import Path

import msgspec


class Home(msgspec.Struct, frozen=True):
    """The folder of one node."""

    root: Path

    @property
    def config(self) -> Path:
        """The configuration."""
        return self.root / "node.toml"

    @property
    def card(self) -> Path:
        """This node's own row of the member list, to hand to the others."""
        return self.root / "member.toml"

    @property
    def keys(self) -> Path:
        """Private keys, one file a role."""
        return self.root / "keys"

    @property
    def ledger(self) -> Path:
        """The ledger's files."""
        return self.root / "ledger"

    @property
    def blobs(self) -> Path:
        """Payloads by digest: models and artifacts."""
        return self.root / "blobs"

    @property
    def spool(self) -> Path:
        """Transfers that are not finished."""
        return self.root / "spool"

    @property
    def peers(self) -> Path:
        """The genesis entries of members that we met."""
        return self.root / "peers"

    @property
    def socket(self) -> Path:
        """The control socket."""
        return self.root / "control.sock"

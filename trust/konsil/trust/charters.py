"""The charter over one log's time: which version was in force where, and who joined under it.

From the first `charter.adopt` on every entry carries a digest that the log adopted. Before it
the founders' list is the charter: version 0, whose digest entries simply carry. A false step
is told once and then taken as it stands. Keys of members come from their genesis entries, and
from their logs where those are given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.protocol import charter as charters
from konsil.protocol import fork
from konsil.protocol.digest import sha256
from konsil.protocol.entries import NO_CHARTER
from konsil.protocol.errors import ManifestRefused, RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable

    from konsil.protocol.charter import Charter, Signed
    from konsil.protocol.entries import Entry
    from konsil.protocol.identity import VerifyKey
    from konsil.protocol.keyring import Keyring
    from konsil.protocol.office_bodies import (
        CharterAdopt,
        CharterVote,
        MemberAdd,
        MemberRemove,
        MemberSuspend,
    )
    from konsil.trust.margin import Margin
    from konsil.trust.structure import Place

_VERDICTS = {"member.add": "add", "member.suspend": "suspend", "member.remove": "remove"}


class Charters:
    """Feed it a log in order: every entry to `carried`, then those of its own types."""

    def __init__(
        self,
        node: str,
        ring: Callable[[str], Keyring | None],
        margin: Margin,
    ) -> None:
        """`ring` gives the keys of a node, as far as they are known by then."""
        self.versions: dict[int, dict[bytes, tuple[Place, frozenset[str]]]] = {}
        """Charters by version and digest that were adopted without fault: where, and who signed."""
        self._node = node
        self._ring = ring
        self._margin = margin
        self._adopted: dict[bytes, Charter | None] = {}
        self._digest = NO_CHARTER
        self._charter: Charter | None = None
        self._lost = False
        self._votes: dict[int, bytes] = {}
        self._carried = NO_CHARTER

    @property
    def liars(self) -> int:
        """How many members may lie, as the charter in force says; none where there is none."""
        return 0 if self._charter is None else self._charter.thresholds.faults

    def carried(self, place: Place, entry: Entry) -> None:
        """The charter digest in the frame of an entry."""
        if entry.c == self._carried:
            return
        self._carried = entry.c
        if self._adopted and entry.c not in self._adopted:
            message = f"carries {entry.c.hex()[:16]}…, a charter that this log never adopted"
            self._margin.add("charter.chain", place, message)
        elif not self._adopted:
            self._digest = entry.c

    def of(self, digest: bytes) -> Charter | None:
        """An adopted charter; None for version 0 and for what was never adopted."""
        return self._adopted.get(digest)

    def acted(self, place: Place, entry: Entry) -> None:
        """An artifact was published or mixed: under the charter in force, not an older one that
        forbade less, and not under an expired one."""
        rules = self._adopted.get(entry.c)
        if self._adopted and entry.c != self._digest and entry.c in self._adopted:
            self._margin.add(
                "charter.chain", place, "under a charter that is not in force any more"
            )
        if rules is not None and entry.ts >= rules.expires_ms:
            message = f"charter {rules.version} had expired"
            self._margin.add("charter.chain", place, message)

    def voted(self, place: Place, body: CharterVote) -> None:
        """This node's vote; a second one for another charter of the same version is a fork."""
        first = self._votes.setdefault(body.version, body.charter)
        if first != body.charter:
            message = f"a second vote for version {body.version}, for another charter"
            self._margin.add("charter.fork", place, message)
        opened = self._opened(place, body.envelope, body.charter)
        if opened is not None and self._node not in self._signers(*opened):
            self._margin.add("charter.chain", place, "the envelope does not carry this vote")

    def adopted(self, place: Place, entry: Entry, body: CharterAdopt) -> None:
        """A version comes into force."""
        if body.version == 0 or body.envelope is None:
            if self._adopted or body.version or body.envelope is not None:
                message = f"version {body.version} without signatures, or after another"
                self._margin.add("charter.chain", place, message)
            self._come(body.charter, None)
            return
        opened = self._opened(place, body.envelope, body.charter)
        if opened is None:
            self._come(body.charter, None)
            self._lost = True
            return
        signed, found = opened
        by = self._signers(signed, found)
        fault = self._adoption_fault(found, by, entry.ts)
        if not fault and found.version != body.version:
            fault = f"it is version {found.version}, not {body.version}"
        known = self.versions.get(found.version, {})
        if fault:
            self._margin.add("charter.chain", place, f"charter {body.version}: {fault}")
        else:
            # Anybody can write down a charter that nobody signed: it is no rival of another.
            self.versions[found.version] = {**known, body.charter: (place, by)}
        if known and body.charter not in known:
            message = f"another charter of version {found.version} was adopted before"
            self._margin.add("charter.fork", place, message)
        self._come(body.charter, found)

    def _adoption_fault(self, found: Charter, by: frozenset[str], now_ms: int) -> str:
        own = self._ring(self._node)
        if own is not None and own.author.consortium != found.name:
            return f"it is of {found.name}, another consortium"
        if self._lost:
            return ""  # what it follows is not here, and that is a finding
        return charters.succession_fault(self._charter, self._digest, found, by, now_ms)

    def member(
        self, place: Place, entry: Entry, body: MemberAdd | MemberSuspend | MemberRemove
    ) -> None:
        """A verdict about one node: enough members under the charter in force signed it."""
        word = _VERDICTS[entry.t]
        if word == "suspend" and body.credential is None:
            self._suspended(place, body)
            return
        if self._lost:
            return  # nobody can say who decides
        fault = "there is no credential"
        if body.credential is not None:
            limit = self._margin.limits.message_bytes
            data = self._margin.blob(place, body.credential, "a credential", limit=limit)
            if data is None:
                return
            fault = self._verdict_fault(data, word, entry, body)
        if fault:
            self._margin.add("member.unknown", place, f"to {word} {body.node}: {fault}")

    def _suspended(self, place: Place, body: MemberAdd | MemberSuspend | MemberRemove) -> None:
        """Without votes only a fork proof suspends, and that by itself."""
        digest = getattr(body, "evidence", b"")
        limit = self._margin.limits.message_bytes
        data = self._margin.blob(place, digest, "a fork proof", limit=limit)
        if data is None:
            return
        try:
            self.prove_fork(data, body.node)
        except RemoteError as error:
            message = f"neither votes nor a fork proof suspend {body.node}: {error.message}"
            self._margin.add("member.unknown", place, message)

    def prove_fork(self, data: bytes, node: str) -> None:
        """Return if `data` proves that the log of `node` forked. Raises `RemoteError`."""
        keys = self._ring(node)
        if keys is None:
            raise ManifestRefused(f"the keys of {node} are not known here")
        fork.verify_with(data, keys.open_checkpoint, limits=self._margin.limits)

    def _verdict_fault(
        self, data: bytes, word: str, entry: Entry, body: MemberAdd | MemberSuspend | MemberRemove
    ) -> str:
        if self._charter is None:
            return "no signed charter is in force that could know its credential"
        try:
            signed, verdict = charters.open_verdict(data, limits=self._margin.limits)
        except RemoteError as error:
            return error.message
        said = (verdict.charter, verdict.node, verdict.verdict, verdict.effective_ms)
        if said != (self._digest.hex(), body.node, word, body.effective_ms):
            return "the credential says something else"
        by = self._signers(signed, self._charter) & self._charter.members_at(entry.ts)
        needed, count = self._charter.thresholds.member, len(by - {body.node})
        return "" if count >= needed else f"{count} of {needed} members signed its credential"

    def _come(self, digest: bytes, found: Charter | None) -> None:
        """What entries carried so far stays known: a node needs a moment to take a charter up."""
        self._adopted.setdefault(self._carried, None)
        self._adopted[digest] = found
        self._digest, self._charter, self._lost = digest, found, False

    def _opened(
        self, place: Place, envelope: bytes, digest: bytes
    ) -> tuple[Signed, Charter] | None:
        limit = self._margin.limits.message_bytes
        data = self._margin.blob(place, envelope, "a signed charter", limit=limit)
        if data is None:
            return None
        try:
            signed, found = charters.open_charter(data, limits=self._margin.limits)
            if sha256(signed.payload) != digest:
                raise ManifestRefused("the envelope holds another charter")
        except RemoteError as error:
            self._margin.add("charter.chain", place, error.message, self._margin.path(envelope))
            return None
        return signed, found

    def _signers(self, signed: Signed, rules: Charter) -> frozenset[str]:
        """Who signed, of the members that `rules` name and of those of the version in force."""
        named = {one.node: one.genesis for one in rules.members}
        if self._charter is not None:
            named |= {one.node: one.genesis for one in self._charter.members}
        keys: dict[str, list[VerifyKey]] = {}
        for node, genesis in named.items():
            ring = self._ring(node)
            if ring is not None and sha256(ring.author.entry).hex() == genesis:
                keys[node] = [one.key for one in ring.periods if one.role == "art"]
        return charters.signers(signed, keys)

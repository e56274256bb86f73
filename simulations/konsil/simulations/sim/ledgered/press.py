"""Press: what each node trains and publishes in a round, logged, sealed and proven.

Manifest, envelope and entries are those of a daemon's press. Each artifact is signed once, under
one checkpoint, however many receive it. A receiver's checks (signatures and proof) are made of
each node's first artifact only: the later ones come from the same keys and the same lines, and
an audit verifies all of them for every receiver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from konsil.node.learning.memory import PARAMETERS
from konsil.protocol import artifact, envelope, proof
from konsil.protocol.artifact import Artifact, PrivacySpent
from konsil.protocol.artifact import Payload as Named
from konsil.protocol.digest import sha256
from konsil.protocol.errors import ManifestRefused
from konsil.protocol.learning_bodies import ArtifactPublish, ModelTrain
from konsil.protocol.limits import DEFAULT_LIMITS
from konsil.simulations.sim.ledgered.release import Release
from konsil.simulations.sim.ledgered.sites import sites_of

if TYPE_CHECKING:
    from konsil.protocol.digest import Digest
    from konsil.protocol.genesis import Author
    from konsil.simulations.sim.ledgered.desk import Desk
    from konsil.simulations.sim.ledgered.payloads import Payload, Payloads
    from konsil.simulations.sim.setting import Setting

NO_PRIVACY = PrivacySpent(mechanism="none", unit="none", epsilon_micro=0, delta_e12=0)


class Press:
    """The publishing side of all nodes."""

    def __init__(self, setting: Setting, payloads: Payloads, base: Digest, charter: Digest) -> None:
        self._payloads = payloads
        self._base, self._charter = base.hex(), charter.hex()
        self._sites = sites_of(setting)
        self._published = [0] * setting.nodes

    @property
    def task(self) -> str:
        """What all nodes learn."""
        return self._sites.task

    def issue(self, node: int, number: int, desk: Desk, trained: Digest, out: Payload) -> Release:
        """Logs what is pending, the training of round `number`, and the release of `out`.

        All of it is signed for.
        """
        ledger = desk.ledger
        sealed, published = self._sealed(node, number, desk, out)
        desk.pending += [self._training(node, number, desk.model, trained), published]
        index = desk.flush()
        ledger.sign_checkpoint()
        proven = ledger.prove(index)
        release = Release(
            publisher=ledger.author.node,
            art=out.digest,
            env=published.env,
            sealed=sealed,
            index=index,
            size=ledger.signed_size,
            root=ledger.root(),
            proof=proven,
            proven=sha256(proven),
        )
        if self._published[node] == 1:
            _require_received(release, ledger.author)
        return release

    def _sealed(
        self, node: int, number: int, desk: Desk, out: Payload
    ) -> tuple[bytes, ArtifactPublish]:
        """The envelope of the node's next artifact, and the entry that says the same."""
        self._published[node] += 1
        parents = [] if out.digest == desk.model else [desk.model]
        published = ArtifactPublish(
            art=out.digest,
            chunk_root=self._payloads.chunk_root(out),
            kind=PARAMETERS,
            size=self._payloads.size,
            env=b"",
            derived_from=parents,
            knowledge=None,
            policy=None,
            sequence=self._published[node],
        )
        manifest = self._manifest(node, number, desk.node, published)
        sealed = envelope.pack(artifact.seal(manifest, desk.ledger.keys["art"]))
        return sealed, msgspec.structs.replace(published, env=sha256(sealed))

    def _manifest(
        self, node: int, number: int, publisher: str, published: ArtifactPublish
    ) -> Artifact:
        return Artifact(
            kind=PARAMETERS,
            publisher=publisher,
            sequence=published.sequence,
            round=number,
            task=self.task,
            base=self._base,
            architecture=self._payloads.architecture.hex(),
            parents=tuple(parent.hex() for parent in published.derived_from),
            payload=Named(
                digest=published.art.hex(),
                size=published.size,
                format="safetensors",
                chunk_bytes=DEFAULT_LIMITS.chunk_bytes,
                chunk_root=published.chunk_root.hex(),
            ),
            coverage=self._sites.coverage[node],
            privacy=NO_PRIVACY,
            charter=self._charter,
            knowledge=None,
        )

    def _training(self, node: int, number: int, before: Digest, trained: Digest) -> ModelTrain:
        sites = self._sites
        return ModelTrain(
            base=before,
            out=trained,
            data=sites.data[node],
            cohort=sites.coverage[node].rows,
            recipe=sites.recipe,
            code=sites.code,
            env=sites.environment,
            round=number,
            privacy=None,
        )


def _require_received(release: Release, author: Author) -> None:
    """Raises a `RemoteError` unless a receiver would take this artifact."""
    published = proof.open_published(release.proof, author)
    manifest = artifact.open_sealed(envelope.unpack(release.sealed), author.keys["art"])
    stated = (release.art.hex(), release.env, release.index)
    if stated != (manifest.payload.digest, published.body.env, published.entry.n):
        raise ManifestRefused(f"{author.name}: the log shows another artifact")

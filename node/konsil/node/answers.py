"""What a running node answers on its control socket: one function a verb, plain data out.

A node that waits says for whom, since when, why, and what a person can check (`waiting`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from konsil.node.exchange.overlay import graph_of
from konsil.node.learning.learner import LOOK_AT
from konsil.node.learning.memory import OPERATOR_CAUSES
from konsil.protocol import records
from konsil.protocol.errors import LocalProtocolError, UnreachableError, UsageError
from konsil.protocol.learning_bodies import TrustUpdate
from konsil.trust.fixed import UNIT_E9
from konsil.trust.gate import Decision

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from konsil.node.config import NodeConfig
    from konsil.node.control import Answer
    from konsil.node.exchange.intake import Intake
    from konsil.node.exchange.links import Links
    from konsil.node.learning.learner import Learner
    from konsil.node.learning.shelf import Shelf
    from konsil.node.learning.trainer import Trainer
    from konsil.node.roster import Roster
    from konsil.node.store.chronicle import Chronicle
    from konsil.node.transports.transport import Transport
    from konsil.trust.contribution import Contribution

OPERATOR_VERBS = {
    "pin": "operator.pin",
    "mute": "operator.mute",
    "quarantine": "operator.quarantine",
    "release": "operator.release",
}


class Waiting:
    """What a node answers before a peer has vouched for its ledger: how it stands, and stop."""

    def __init__(
        self,
        config: NodeConfig,
        roster: Roster,
        transport: Transport,
        chronicle: Chronicle,
        stop: trio.Event,
    ) -> None:
        self._config = config
        self._roster = roster
        self._transport = transport
        self._chronicle = chronicle
        self._stop = stop
        self._started = trio.current_time()

    def verbs(self) -> dict[str, Answer]:
        """The closed list of questions; most of them have no answer yet."""
        silent = dict.fromkeys(
            ("peers", "artifacts", "trust", "rotate", "redact", "publish"), self._not_yet
        )
        return {"status": self._status, "stop": self._halt, **silent}

    async def _status(self, _: Mapping[str, Any]) -> dict[str, Any]:
        members = (self._roster.peer(peer) for peer in self._transport.connected())
        linked = sorted(member.name for member in members if member is not None)
        return {
            **await _identity(self._roster, self._transport, self._chronicle, self._started),
            "phase": "vouching",
            "round": 0,
            "rounds": self._config.training.rounds,
            "model": None,
            "metrics": {},
            "task_error": None,
            "neighbours": linked,
            "waiting": self._waiting(linked),
            "worker": {"state": "stopped", "restarts": 0},
            "artifacts": {self._config.artifacts.kind: 0},
            "received": 0,
            "rejected": 0,
            "integrated": 0,
        }

    def _waiting(self, linked: Collection[str]) -> dict[str, Any]:
        why = "no neighbour has shown yet that it knows the newest state of our ledger"
        if not linked:
            why = f"nobody is linked; {why}"
        names = _neighbours(self._config)
        return _wait(names, self._started, why, LOOK_AT + " ([ledger] vouch_wait_s bounds it)")

    async def _not_yet(self, _: Mapping[str, Any]) -> dict[str, Any]:
        if self._chronicle.size == 1:
            raise UnreachableError("the node is still starting", hint="ask again in a moment")
        raise UnreachableError(
            "no peer has vouched for the ledger of this node yet",
            hint="start another hospital's node, or set [ledger] vouch_wait_s in node.toml",
        )

    async def _halt(self, _: Mapping[str, Any]) -> dict[str, Any]:
        self._stop.set()
        return {"stopping": True}


class Answers:
    """Looks at the node's parts; changes them only where an operator says so."""

    def __init__(
        self,
        config: NodeConfig,
        roster: Roster,
        transport: Transport,
        links: Links,
        shelf: Shelf,
        learner: Learner,
        trainer: Trainer,
        intake: Intake,
        chronicle: Chronicle,
        stop: trio.Event,
    ) -> None:
        self._config = config
        self._roster = roster
        self._transport = transport
        self._links = links
        self._shelf = shelf
        self._learner = learner
        self._trainer = trainer
        self._intake = intake
        self._chronicle = chronicle
        self._stop = stop
        self._started = trio.current_time()

    def verbs(self) -> Mapping[str, Answer]:
        """The closed list of questions."""
        return {
            "status": self._status,
            "peers": self._peers,
            "artifacts": self._artifacts,
            "trust": self._trust,
            "publish": self._publish,
            "stop": self._halt,
        }

    async def _status(self, _: Mapping[str, Any]) -> dict[str, Any]:
        learner, memory, me = self._learner, self._learner.memory, self._roster.me
        own = [held for held in self._shelf if held.head.publisher == me.node]
        linked = sorted(link.member.name for link in self._links.live().values())
        return {
            **await _identity(self._roster, self._transport, self._chronicle, self._started),
            "phase": learner.phase,
            "round": memory.round,
            "rounds": self._config.training.rounds,
            "model": None if memory.model is None else memory.model.hex(),
            "metrics": learner.metrics,
            "task_error": learner.task_error,
            "neighbours": linked,
            "waiting": self._waiting(linked),
            "worker": {"state": self._trainer.state, "restarts": max(0, self._trainer.restarts)},
            "artifacts": {memory.kind: len(own)},
            "received": self._intake.received,
            "rejected": self._intake.rejected,
            "integrated": memory.integrated,
        }

    def _waiting(self, linked: Collection[str]) -> dict[str, Any] | None:
        """For whom the learner waits, if it does."""
        learner, training = self._learner, self._config.training
        away = _neighbours(self._config) - set(linked)
        if learner.phase not in ("connecting", "waiting") or not (away or linked):
            return None
        if not linked:
            why = "nobody is linked" + ("; no further round begins" if training.rounds else "")
            return _wait(away, learner.since, why, LOOK_AT)
        members = (self._roster.node(node) for node in learner.awaited)
        names = {member.name for member in members if member is not None}
        if learner.phase == "connecting":
            why = f"the first round waits {training.start_wait_s:g} s for all neighbours"
            return _wait(away | names, learner.since, why, LOOK_AT)
        why = f"their next artifacts, for {training.patience_s:g} s at most"
        return _wait(names, learner.since, why, "") if names else None

    async def _peers(self, _: Mapping[str, Any]) -> dict[str, Any]:
        live = self._links.live()
        rows = []
        for member in self._roster:
            if member.node == self._roster.me.node:
                continue
            link = live.get(member.node)
            have = None if link is None else link.have
            rows.append(
                {
                    "name": member.name,
                    "node": member.node,
                    "peer": member.peer,
                    "linked": link is not None,
                    "degree": None if have is None else have.degree,
                    "learning": None if have is None else have.learning,
                    "addresses": list(member.addresses),
                }
            )
        return {"peers": rows}

    async def _artifacts(self, _: Mapping[str, Any]) -> dict[str, Any]:
        rows = []
        for held in self._shelf:
            member = self._roster.node(held.head.publisher)
            rows.append(
                {
                    "publisher": held.head.publisher if member is None else member.name,
                    "kind": held.head.kind,
                    "sequence": held.head.sequence,
                    "round": held.head.round,
                    "size": held.head.size,
                    "art": held.head.art.hex(),
                    "env": held.head.env.hex(),
                }
            )
        return {"artifacts": rows}

    async def _trust(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        if "operator" in arguments:
            verb, peer = str(arguments["operator"]), str(arguments.get("peer"))
            await self._operate(verb, peer, str(arguments.get("reason", "")))
        rows = []
        for member in self._roster:
            if member.node == self._roster.me.node:
                continue
            standing = self._learner.memory.standing(member.node)
            rows.append(
                {
                    "name": member.name,
                    "node": member.node,
                    "kind": self._learner.memory.kind,
                    "trust": standing.trust_e9 / UNIT_E9,
                    "weight": standing.weight_e9 / UNIT_E9,
                    "share": standing.share_e9 / UNIT_E9,
                    "state": standing.operator or "evidence",
                    "contribution": _share(standing.contribution),
                    "course": [
                        {
                            "round": one.round,
                            "old": one.old_e9 / UNIT_E9,
                            "new": one.new_e9 / UNIT_E9,
                            "why": one.why,
                        }
                        for one in standing.course
                    ],
                }
            )
        return {"peers": rows}

    async def _operate(self, verb: str, name: str, reason: str) -> None:
        member, cause = self._roster.named(name), OPERATOR_VERBS.get(verb)
        if member is None or cause is None or member.node == self._roster.me.node:
            raise UsageError(
                f"`{name}` is no other member", hint="name one that `konsil node peers` shows"
            )
        memory = self._learner.memory
        trust = memory.standing(member.node).trust_e9
        try:
            note = records.pack(Decision(cause=cause, node=member.node, reason=reason))
        except LocalProtocolError as error:
            hint = "at most 1,024 bytes of plain text in one line"
            raise UsageError(f"the reason cannot be written: {error.message}", hint=hint) from error
        (receipt,) = await self._chronicle.append(
            TrustUpdate(
                node=member.node,
                kind=memory.kind,
                art=None,
                old_e9=trust,
                new_e9=trust,
                cause=cause,
                evidence=await self._chronicle.put(note),
            )
        )
        memory.operate(member.node, OPERATOR_CAUSES[cause], receipt.index)

    async def _publish(self, _: Mapping[str, Any]) -> dict[str, Any]:
        held = await self._learner.publish_now()
        return {
            "env": held.head.env.hex(),
            "art": held.head.art.hex(),
            "sequence": held.head.sequence,
            "size": held.head.size,
        }

    async def _halt(self, _: Mapping[str, Any]) -> dict[str, Any]:
        self._stop.set()
        return {"stopping": True}


def _share(given: Contribution) -> float | None:
    """The share of a peer's judged artifacts that helped; None before there is one."""
    return None if given.share_e9 is None else given.share_e9 / UNIT_E9


def _neighbours(config: NodeConfig) -> frozenset[str]:
    """The members that this node should be linked with, by name."""
    names = [member.name for member in config.members]
    return graph_of(names, config.overlay.edges)[config.node.name]


def _wait(names: Collection[str], since: float, why: str, check: str) -> dict[str, Any]:
    """One wait as `node status` tells it: `check` is what a person can look at."""
    waited_s = trio.current_time() - since
    return {"for": sorted(names), "since_s": waited_s, "why": why, "check": check}


async def _identity(
    roster: Roster, transport: Transport, chronicle: Chronicle, started: float
) -> dict[str, Any]:
    """Who the node is, where it listens, and how long its ledger is."""
    me = roster.me
    size, root = await chronicle.head()
    return {
        "name": me.name,
        "node_id": me.node,
        "peer_id": me.peer,
        "consortium": roster.consortium,
        "ledger": {"size": size, "root": root.hex()},
        "bytes_sent": transport.bytes_written,
        "bytes_received": transport.bytes_read,
        "addresses": list(transport.addresses),
        "uptime_s": trio.current_time() - started,
    }

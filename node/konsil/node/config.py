"""`node.toml`: one strict file that says who we are, whom we know and what we learn.

Unknown keys are refused with their path. The member list in it is the consortium's charter
until a signed one exists, so it must be the same at every member (addresses apart).
Reading is pure but for the file itself; nothing here looks at the network or the clock.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from konsil.node.learning.partners import Gossip
from konsil.protocol.artifact import Kind
from konsil.protocol.encoding import CHANGES, Codec
from konsil.protocol.errors import ConfigError
from konsil.protocol.identity import peer_id
from konsil.protocol.members import Charter0, Member

if TYPE_CHECKING:
    from pathlib import Path

    from konsil.protocol.genesis import Author

NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_Seconds = Annotated[float, msgspec.Meta(ge=0.0, le=86_400.0 * 365)]
_Positive = Annotated[float, msgspec.Meta(gt=0.0, le=86_400.0 * 365)]


class NodeSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who this node is, and where it listens."""

    name: Annotated[str, msgspec.Meta(pattern=f"^{NAME.pattern}$")]
    listen: tuple[str, ...] = ("/ip4/0.0.0.0/tcp/4001",)
    """Multiaddrs; empty for an outbound-only hospital."""


class ConsortiumSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The consortium that the members form."""

    name: Annotated[str, msgspec.Meta(pattern=f"^{NAME.pattern}$")]


class OverlaySection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who is linked with whom; absent means everyone with everyone."""

    edges: tuple[tuple[str, str], ...] | None = None


class TaskSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is learned: a factory `module:function`, and what it is called with."""

    factory: str = "konsil.knowledge.tabular:build"
    options: dict[str, Any] = {}


class ArtifactsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is handed out and taken in; the same at all members that learn from each other."""

    kind: Kind = "parameters"
    codec: Codec = "plain"
    """How what is handed out travels; each node chooses for itself."""
    gossip: Gossip = "neighbours"
    """Whom a round hears: see `konsil.node.learning.partners`."""


class TrainingSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How this node paces itself. Times in seconds."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0
    rounds: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Own rounds to learn; 0 goes on without an end."""
    patience_s: _Seconds = 60.0
    """How long a round waits at most for live neighbours that have delivered nothing new."""
    late_after_s: _Seconds = 0.5
    """How long at least, and a quarter of its own training longer, a round that has heard half
    of its neighbours waits for the others: see `konsil.node.learning.arrivals`."""
    timeout_s: _Positive = 3_600.0
    """A task that gives no answer for this long is killed."""
    start_wait_s: _Seconds = 20.0
    """How long the first round waits for the links to come up."""
    pause_s: _Seconds = 0.0
    """Rest between two rounds."""


class TrustSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What trust in peers rests on, besides evidence."""

    opinions: bool = False
    """Tell neighbours how far this node trusts its peers, and hear what they say of theirs."""


class LedgerSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How careful a start is with the ledger. Times in seconds."""

    vouch_wait_s: _Seconds | None = None
    """How long a start waits for a neighbour that vouches for the newest state of our ledger;
    absent: for as long as it takes. A ledger that has only its genesis entry waits no longer
    than `training.start_wait_s`."""


class LogSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How much the node tells."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class NodeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All of `node.toml`, checked."""

    node: NodeSection
    consortium: ConsortiumSection
    members: tuple[Member, ...]
    overlay: OverlaySection = OverlaySection()
    task: TaskSection = TaskSection()
    artifacts: ArtifactsSection = ArtifactsSection()
    training: TrainingSection = TrainingSection()
    trust: TrustSection = TrustSection()
    ledger: LedgerSection = LedgerSection()
    log: LogSection = LogSection()

    def charter(self) -> Charter0:
        """The member list as charter version 0."""
        return Charter0(consortium=self.consortium.name, members=self.members)

    def me(self) -> Member:
        """This node's own row of the member list."""
        return next(m for m in self.members if m.name == self.node.name)


def read_config(path: Path) -> NodeConfig:
    """The checked configuration at `path`. Raises `ConfigError` naming file, key and remedy."""
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path}: this is no file", hint="name a node.toml")
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: there is no such file", hint="make a home with: konsil init HOME --name NAME"
        ) from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    return parse_config(raw, path)


def parse_config(raw: bytes, path: Path) -> NodeConfig:
    """The checked configuration in `raw`; `path` only names it in errors."""
    try:
        config = msgspec.toml.decode(raw, type=NodeConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}", hint="see docs/node-toml.md for every key") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: this is not TOML in UTF-8: {error}") from error
    _check_numbers(config.task.options, "$.task.options", path)
    _check_members(config, path)
    _check_edges(config, path)
    if config.artifacts.codec != "plain" and config.artifacts.kind not in CHANGES:
        raise ConfigError(
            f"{path}: `{config.artifacts.kind}` are few bytes as they are - at `$.artifacts.codec`",
            hint='leave codec out, or write codec = "plain"',
        )
    if ":" not in config.task.factory:
        raise ConfigError(
            f"{path}: `{config.task.factory}` is no module:factory - at `$.task.factory`",
            hint='write for example "task:build" for build() in HOME/task.py',
        )
    return config


def _check_numbers(value: object, place: str, path: Path) -> None:
    """Raise `ConfigError` at an integer of more than 64 bits, which the worker cannot be told."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ConfigError(f"{path}: a number of more than 64 bits - at `{place}`")
    inner = value.items() if isinstance(value, dict) else ()
    for key, part in [*inner, *(enumerate(value) if isinstance(value, list) else ())]:
        _check_numbers(part, f"{place}.{key}", path)


def _check_members(config: NodeConfig, path: Path) -> None:
    try:
        config.charter().validate()
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message} - at `$.members`", hint=error.hint) from error
    if config.node.name not in {member.name for member in config.members}:
        raise ConfigError(
            f"{path}: this node, `{config.node.name}`, is not in its own member list"
            " - at `$.members`",
            hint="append HOME/member.toml of every member, this one included",
        )


def check_addresses(config: NodeConfig, path: Path) -> None:
    """Raise `ConfigError` naming the first address that a real network cannot use."""
    from konsil.node.transports.address import endpoint

    places = {f"$.node.listen[{i}]": one for i, one in enumerate(config.node.listen)}
    for i, member in enumerate(config.members):
        places |= {f"$.members[{i}].addresses[{j}]": a for j, a in enumerate(member.addresses)}
    for place, address in places.items():
        try:
            endpoint(address)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error.message} - at `{place}`", hint=error.hint) from error


def check_identity(config: NodeConfig, author: Author, path: Path) -> None:
    """Raise `ConfigError` unless this node's row of the member list is that of its own ledger."""
    me = config.me()
    for what, said, own in (
        ("name", me.name, author.name),
        ("consortium", config.consortium.name, author.consortium),
        ("node id", me.node, author.node),
        ("peer id", me.peer, peer_id(author.keys["peer"].raw)),
    ):
        if said != own:
            raise ConfigError(
                f"{path}: the {what} of this home is `{own}`, not `{said}`",
                hint="HOME/member.toml has its row of the member list",
            )


def _check_edges(config: NodeConfig, path: Path) -> None:
    names = {member.name for member in config.members}
    for index, (left, right) in enumerate(config.overlay.edges or ()):
        place = f"at `$.overlay.edges[{index}]`"
        for name in (left, right):
            if name not in names:
                raise ConfigError(
                    f"{path}: `{name}` is not a member - {place}",
                    hint="an edge joins the names of two members",
                )
        if left == right:
            raise ConfigError(f"{path}: `{left}` is joined with itself - {place}")

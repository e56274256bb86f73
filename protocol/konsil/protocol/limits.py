"""Every bound that hostile bytes can meet, in one place.

A decoder consults `Limits` before it allocates. The defaults admit what a hospital
sends and little more; a test proves that no input makes a decoder hold more.
"""

from __future__ import annotations

import msgspec

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bounds on what is read from the wire or from a ledger (bytes unless named otherwise)."""

    entry_bytes: int = 65_535
    """One ledger entry: the uint16 prefix of tlog-tiles."""
    depth: int = 8
    """Nesting of one canonical value (levels)."""
    items: int = 65_536
    """Values in one canonical value, all levels together."""
    text_bytes: int = 1_024
    """One human-readable string."""
    frame_bytes: int = 1 * MIB + 4 * KIB
    """One frame of a stream: a chunk and its header."""
    message_bytes: int = 256 * KIB
    """One message of a stream that is not a chunk."""
    announcement_bytes: int = 16 * KIB
    """One gossiped announcement; GossipSub loses anything above 1 MiB without a word."""
    envelope_bytes: int = 64 * KIB
    """One signed envelope on the wire."""
    knowledge_bytes: int = 128 * KIB
    """One knowledge manifest; it travels in one message with an envelope and a proof."""
    proof_bytes: int = 16 * KIB
    """One tlog-proof with its checkpoint and cosignatures."""
    proof_hashes: int = 63
    """Hashes in one inclusion or consistency proof."""
    note_signatures: int = 128
    """Signature lines of one note."""
    heads: int = 1_024
    """Heads in one Have message."""
    head_history: int = 64
    """Sequences remembered for each publisher and kind, to notice two heads for one."""
    head_forks: int = 4
    """Heads kept for one sequence that a publisher used more than once."""
    members: int = 1_024
    """Members of a consortium; neighbours in one Have message."""
    parents: int = 64
    """Parents of one artifact."""
    formats: int = 64
    """Formats of payloads that a greeting may list."""
    classes: int = 4_096
    """Classes that a coverage declaration may name."""
    opinions: int = 1_024
    """Peers and kinds that a knowledge manifest may have an opinion on."""
    payload_bytes: int = 4 * GIB
    """One artifact payload."""
    mirror_bytes: int = 1 * GIB
    """What we keep of one other member's log: some three million entries, and as much as an
    audit reads of it."""
    unsigned_bytes: int = 16 * MIB
    """What we take from one neighbour of our own log before a signature of ours is seen to cover
    it: some fifty thousand entries."""
    tail_bytes: int = 1 * GIB
    """The newest entries of a log, in one file."""
    blob_bytes: int = 1 * GIB
    """One blob beside a log: an envelope, a proof, evidence."""
    note_file_bytes: int = 1 * MIB
    """A file that should hold a checkpoint; what is in it must be within `proof_bytes`."""
    witness_bytes: int = 64 * MIB
    """The record of the checkpoints that a node vouched for."""
    use_bytes: int = 16 * MIB
    """The records of use of one batch."""
    named_file_bytes: int = 1 * MIB
    """A proof, genesis entry or policy that a person names."""
    lost_groups: int = 1_024
    """Groups of 256 entries that may be lost before what comes after them is believed in."""
    damaged_frames: int = 64
    """Damaged frames that are told apart in one tail; behind the last one nothing is read."""
    searched_bytes: int = 64 * MIB
    """What is hashed in the search for whole frames in one damaged tail."""
    chunk_bytes: int = 1 * MIB
    """One chunk of a payload; the unit of hashing and of resuming."""
    chunks: int = 65_536
    """Chunks of one payload: two MiB of digests."""
    tensor_header_bytes: int = 1 * MIB
    """The JSON header of a safetensors payload."""
    tensors: int = 16_384
    """Tensors in one payload."""
    tensor_name_bytes: int = 256
    """The name of one tensor."""
    tensor_rank: int = 8
    """Dimensions of one tensor."""


DEFAULT_LIMITS = Limits()

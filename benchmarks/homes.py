"""Two hospitals that know each other, and a payload of any size that one of them publishes."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from konsil.node.init import create_home, node_toml

NAMES = ("bern", "graz")
FACTORY = "konsil.knowledge.tabular:build"
LOG_TABLE = '\n[log]\nlevel = "debug"\n'


def free_address() -> str:
    """A multiaddr on loopback whose port was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"/ip4/127.0.0.1/tcp/{probe.getsockname()[1]}"


def make_homes(
    folder: Path, *, options: Mapping[str, Any], training: Mapping[str, Any]
) -> list[Path]:
    """The homes of all `NAMES`, each with every member in its list, and a talkative log."""
    places = [free_address() for _ in NAMES]
    members = [
        create_home(
            folder / name, name=name, consortium="bench", factory=FACTORY, listen=[at], options={}
        )
        for name, at in zip(NAMES, places, strict=True)
    ]
    for site, member in enumerate(members):
        text = node_toml(
            member,
            "bench",
            FACTORY,
            [places[site]],
            {**options, "sites": len(members), "site": site},
            members=members,
            training=training,
        )
        (folder / member.name / "node.toml").write_text(text + LOG_TABLE)
    return [folder / name for name in NAMES]


def write_payload(path: Path, size: int, seed: int = 0) -> None:
    """A safetensors file of about `size` bytes with one tensor of plausible weights."""
    count = max(1, size // 4)
    entry = {"w": {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]}}
    head = json.dumps(entry, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    values = np.random.default_rng(seed).normal(scale=0.05, size=min(count, 1 << 20))
    block = values.astype("<f4").tobytes()
    with path.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for begin in range(0, 4 * count, len(block)):
            file.write(block[: 4 * count - begin])

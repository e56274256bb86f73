"""pymerkle (GPL, so never a dependency) beside our tree, in a throw-away environment.

It runs in its own process in turns with ours, and only where pip can install it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

TURNS = 7
SCRIPT = """
import sys, time
from pymerkle import InmemoryTree, verify_inclusion
tree = InmemoryTree(algorithm="sha256")
leaves = int(sys.argv[1])
for at in range(leaves):
    tree.append_entry(str(at).encode())
root = tree.get_state(leaves)
print("ready", flush=True)
for line in sys.stdin:
    places = [at * 7919 % leaves + 1 for at in range(500)]
    began = time.process_time()
    for at in places:
        verify_inclusion(tree.get_leaf(at), root, tree.prove_inclusion(at, leaves))
    print(len(places) / (time.process_time() - began), flush=True)
"""


def turns(leaves: int, ours: Callable[[], float]) -> tuple[list[float], list[float]]:
    """Proofs a second by `ours` and by pymerkle, turn by turn; the latter empty without it."""
    with tempfile.TemporaryDirectory(prefix="konsil-pymerkle-") as name:
        install = [sys.executable, "-m", "pip", "install", "--quiet"]
        command = [*install, "--target", name, "pymerkle"]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode:
            return [ours() for _ in range(TURNS)], []
        return _beside(Path(name), leaves, ours)


def _beside(site: Path, leaves: int, ours: Callable[[], float]) -> tuple[list[float], list[float]]:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(leaves)],
        env={"PYTHONPATH": str(site)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as peer:
        if peer.stdin is None or peer.stdout is None or peer.stdout.readline() != "ready\n":
            raise SystemExit("pymerkle does not run here")
        found: tuple[list[float], list[float]] = ([], [])
        for _ in range(TURNS):
            found[0].append(ours())
            peer.stdin.write("\n")
            peer.stdin.flush()
            found[1].append(float(peer.stdout.readline()))
        peer.stdin.close()
    return found

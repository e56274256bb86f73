"""`python -m konsil.simulations`: the words of `konsil sim`, over several processes if asked to.

    torchrun --nproc-per-node 4 -m konsil.simulations run SCENARIO.toml --json

Every process takes its share of the nodes (`konsil.simulations.sim.shard`). Only the first one
prints and writes; what it says is what a single process would say.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def main(words: Sequence[str] | None = None) -> None:
    """Run one command of `konsil sim` and exit with its code."""
    from konsil.node.cli import app
    from konsil.protocol.errors import UsageError

    arguments = list(sys.argv[1:] if words is None else words)
    if arguments[:1] != ["run"] and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stderr.write("konsil: over several processes there is only `run`\n")
        sys.exit(UsageError.exit_code)
    with processes() as rank:
        if rank == 0:
            app.main(["sim", *arguments])
        else:
            _silently(["sim", *without_out(arguments)])


def _silently(words: Sequence[str]) -> None:
    """The same in a process that is not the first; why it failed is told all the same."""
    from konsil.node.cli import app

    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            app.main(words)
    except SystemExit as end:
        if end.code:
            sys.stderr.write(said.getvalue())
        raise


@contextlib.contextmanager
def processes() -> Iterator[int]:
    """The rank of this process, joined to the others where `torchrun` started several."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield 0
        return
    import torch
    import torch.distributed as dist

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend)
    try:
        yield dist.get_rank()
    finally:
        dist.destroy_process_group()


def without_out(words: Sequence[str]) -> list[str]:
    """The words of a command line without `--out DIR`: one process writes."""
    kept, skip = [], False
    for word in words:
        if not skip and word != "--out" and not word.startswith("--out="):
            kept.append(word)
        skip = word == "--out"
    return kept


if __name__ == "__main__":
    main()

"""`konsil audit prove, check, fork`: proofs that travel alone, made and verified offline."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

import typer

from konsil.node.cli import output
from konsil.node.cli.audit_arguments import REFUSED, Json, Out, answer, may_write, write
from konsil.protocol.errors import IncompleteError, UsageError, VerificationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from konsil.trust.questions.forks import ProvenFork

File = Annotated[Path, typer.Argument(help="The file to verify.", readable=False)]
Policy = Annotated[
    Path | None,
    typer.Option("--policy", help="A C2SP policy: known logs, witnesses, and the quorum."),
]
Genesis = Annotated[
    list[Path] | None,
    typer.Option(
        "--genesis",
        help="A genesis entry that makes a member known: HOME/peers/<node id>.genesis; the mirror"
        " beside it tells of its newer keys.",
    ),
]


def prove(
    home: Annotated[Path, typer.Argument(help="The home of a node.", readable=False)],
    entry: Annotated[
        str,
        typer.Argument(metavar="INDEX|DIGEST", help="The entry, or what it publishes or makes."),
    ],
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Write the proof that an entry stands in the ledger of HOME; to stdout without -o."""
    from konsil.trust.questions.proving import prove as made

    if out is not None:
        may_write(out)
    proven = made(home, entry, notice=output.talk)
    if out is not None:
        write(out, proven.data)
    data = {
        "name": proven.author.name,
        "origin": proven.author.origin,
        "index": proven.entry.n,
        "type": proven.entry.t,
        "size": proven.head.size,
        "root": proven.head.root.hex(),
        "checkpoint": proven.signed_by,
        "out": None if out is None else str(out),
        "proof": proven.data.decode(),
    }
    where = f"entry {proven.entry.n} ({proven.entry.t}) of {proven.head.size}"
    if out is None and not as_json:
        output.raw(proven.data)
        output.talk(f"{where}, under the file `{proven.signed_by}`")
        return
    answer("prove", data, [f"{out}: {where}, under the file `{proven.signed_by}`"], as_json=as_json)


def check(
    file: File, policy: Policy = None, genesis: Genesis = None, as_json: Json = False
) -> None:
    """Verify a proof, or a fork proof, from a file alone. A fork that is proven exits 3."""
    from konsil.trust.questions.checking import HeldProof
    from konsil.trust.questions.checking import check as checked
    from konsil.trust.questions.strangers import known, read_given

    data, whom = read_given(file), known(genesis or [], policy)
    with _about(file):
        found = checked(data, whom)
    if not isinstance(found, HeldProof):
        _tell_fork("check", file, found, as_json=as_json)
    else:
        first, *more = found.lines()
        answer("check", found.to_data(), [f"{file}: {first}", *more], as_json=as_json)


def fork(file: File, policy: Policy = None, genesis: Genesis = None, as_json: Json = False) -> None:
    """Verify a fork proof. A fork that is proven exits 3, and so does a proof that is none."""
    from konsil.trust.questions.forks import check_fork
    from konsil.trust.questions.strangers import known, read_given

    if not genesis and policy is None:
        raise UsageError("whose log it is must be known", hint="name --genesis or --policy")
    data, whom = read_given(file), known(genesis or [], policy)
    with _about(file):
        found = check_fork(data, whom)
    _tell_fork("fork", file, found, as_json=as_json)


@contextmanager
def _about(file: Path) -> Iterator[None]:
    """What is said of a proof names the file that it came from."""
    try:
        yield
    except (VerificationError, IncompleteError) as error:
        raise type(error)(f"{file}: {error.message}", hint=error.hint) from error


def _tell_fork(verb: str, file: Path, found: ProvenFork, *, as_json: bool) -> None:
    message = f"{file}: a fork is proven: {found.verdict}"
    problem = (REFUSED, message, "keep the file: it convinces anybody")
    answer(verb, found.to_data(), found.lines(), as_json=as_json, problem=problem)


COMMANDS: Mapping[str, Callable[..., None]] = MappingProxyType(
    {"prove": prove, "check": check, "fork": fork}
)

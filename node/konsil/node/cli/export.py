"""`konsil audit export`: what ledgers say, in the formats of other people's tools; offline."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from konsil.node.cli import output
from konsil.node.cli.audit_arguments import distinct, may_write, write
from konsil.protocol.errors import ConfigError, UsageError
from konsil.protocol.learning_bodies import ArtifactPublish

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from konsil.protocol.genesis import Author
    from konsil.trust.lineage import Lineage


Homes = Annotated[
    list[Path],
    typer.Argument(help="Homes of nodes; the first is the one in question.", readable=False),
]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


class Format(StrEnum):
    """What can be written."""

    intoto = "intoto"
    prov = "prov"
    cyclonedx = "cyclonedx"
    fhir = "fhir"
    openssf = "openssf"
    openssf_key = "openssf-key"
    tlog_proof = "tlog-proof"


class Chosen(msgspec.Struct, frozen=True):
    """What the command line names: a model, an artifact or an entry; empty means the newest."""

    model: str
    artifact: str
    index: int | None


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """What is written: its bytes, what it is about, and why it is incomplete, if it is."""

    data: bytes
    media_type: str
    subject: str
    missing: tuple[str, str] | None = None


SELECTORS: dict[Format, frozenset[str]] = {
    Format.intoto: frozenset({"artifact"}),
    Format.prov: frozenset({"model"}),
    Format.cyclonedx: frozenset({"model"}),
    Format.fhir: frozenset({"model"}),
    Format.openssf: frozenset({"model"}),
    Format.openssf_key: frozenset(),
    Format.tlog_proof: frozenset({"artifact", "index"}),
}
"""The options that each format goes by; each names the newest thing when it is left out."""


def export(
    form: Annotated[
        Format, typer.Argument(help="The format.", metavar="FORMAT", case_sensitive=False)
    ],
    homes: Homes,
    model: Annotated[
        str,
        typer.Option(
            help="Digest of a model, or its start (prov, cyclonedx, fhir, openssf); when left"
            " out, the current model of the first home."
        ),
    ] = "",
    artifact: Annotated[
        str,
        typer.Option(
            help="Digest of an artifact's payload or envelope, or its start (intoto, tlog-proof);"
            " when left out, what the first home published last."
        ),
    ] = "",
    index: Annotated[
        int | None, typer.Option(min=0, help="An entry of the first home (tlog-proof).")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file to write; else stdout.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write what the ledgers of HOMES say in a format of others: in-toto, PROV, CycloneDX, …"""
    from konsil.trust.questions.gathering import hex_start

    model, artifact = (hex_start(word) if word else "" for word in (model, artifact))
    chosen = Chosen(model, artifact, index)
    given = {name for name in ("model", "artifact") if getattr(chosen, name)}
    given |= {"index"} if index is not None else set()
    if wrong := sorted(given - SELECTORS[form]):
        raise UsageError(f"--{wrong[0]} means nothing to {form.value}")
    if len(given) > 1:
        raise UsageError("--artifact and --index name the same thing; give one of them")
    if out is not None:
        may_write(out)
    made = WRITERS[form](distinct(homes), chosen)
    if out is not None:
        _write(out, made.data)
    error = None
    if made.missing:
        message, hint = made.missing
        error = output.ErrorObject(code="incomplete", message=message, hint=hint)
    output.finish(
        "audit.export",
        _facts(form, made, out) if as_json else {},
        exit_code=4 if error else 0,
        error=error,
        as_json=as_json,
        text=lambda: _show(made, out),
    )


def _facts(form: Format, made: Document, out: Path | None) -> dict[str, object]:
    facts: dict[str, object] = {
        "format": form.value,
        "media_type": made.media_type,
        "subject": made.subject,
        "bytes": len(made.data),
        "out": None if out is None else str(out),
    }
    if out is None:
        text = made.data.decode()
        facts["document"] = json.loads(text) if "json" in made.media_type else text
    return facts


def _show(made: Document, out: Path | None) -> None:
    if out is None:
        typer.echo(made.data, nl=False)
    else:
        print(f"{out}: {made.subject}")


def _write(out: Path, data: bytes) -> None:
    write(out, data)


def _intoto(homes: Sequence[Path], chosen: Chosen) -> Document:
    from konsil.trust.exports import envelopes, intoto

    found = envelopes.find_artifact(homes, chosen.artifact)
    data = intoto.to_intoto(envelopes.read_envelope(homes, found.env))
    subject = f"artifact {found.art.hex()}"
    return Document(data=data, media_type="application/json", subject=subject)


def _tlog_proof(homes: Sequence[Path], chosen: Chosen) -> Document:
    from konsil.protocol.errors import IncompleteError
    from konsil.trust.exports import envelopes, tlog_proof

    home, index = homes[0], chosen.index
    if index is None:
        found = envelopes.find_artifact(homes, chosen.artifact)
        if not isinstance(found.entry.b, ArtifactPublish):
            raise IncompleteError(
                f"{found.home} received {found.art.hex()}, and another home published it",
                hint="name the home of the publisher too",
            )
        home, index = Path(found.home), found.entry.n
    data = tlog_proof.to_tlog_proof(home, index)
    subject = f"entry {index} of {home}"
    return Document(data=data, media_type=tlog_proof.MEDIA_TYPE, subject=subject)


def _prov(homes: Sequence[Path], chosen: Chosen) -> Document:
    from konsil.trust.exports import names, prov

    told, model = _lineage(homes, chosen)
    return Document(
        data=names.document(prov.to_prov(told, model)),
        media_type=prov.MEDIA_TYPE,
        subject=f"model {model.hex()}",
        missing=_missing(told, model),
    )


def _cyclonedx(homes: Sequence[Path], chosen: Chosen) -> Document:
    from konsil.trust.exports import cyclonedx, envelopes, names

    told, model = _lineage(homes, chosen)
    known = envelopes.manifests(homes, told.ancestors(model) | {model})
    return Document(
        data=names.document(cyclonedx.to_cyclonedx(told, model, known)),
        media_type=cyclonedx.MEDIA_TYPE,
        subject=f"model {model.hex()}",
        missing=_missing(told, model),
    )


def _fhir(homes: Sequence[Path], chosen: Chosen) -> Document:
    from konsil.trust.exports import fhir, names
    from konsil.trust.reading import read_ledger
    from konsil.trust.sources import ledger_of

    told, model = _lineage(homes, chosen)
    ledgers = [read_ledger(ledger_of(home)) for home in homes]
    return Document(
        data=names.document(fhir.to_fhir(told, model, ledgers)),
        media_type=fhir.MEDIA_TYPE,
        subject=f"model {model.hex()}",
        missing=_missing(told, model),
    )


def _openssf(homes: Sequence[Path], chosen: Chosen) -> Document:
    from konsil.node.keys import load_p256
    from konsil.node.paths import Home
    from konsil.trust.exports import openssf

    author, bound = _bound(homes[0])
    _, model = _lineage(homes, chosen)
    seed = load_p256(Home(homes[0].absolute()).keys)
    data = openssf.to_openssf(model, seed=seed, bound=bound)
    subject = f"model {model.hex()} as {openssf.FILE}, signed by {author.name}"
    return Document(data=data, media_type=openssf.MEDIA_TYPE, subject=subject)


def _openssf_key(homes: Sequence[Path], chosen: Chosen) -> Document:
    from konsil.protocol import p256

    author, bound = _bound(homes[0])
    return Document(
        data=p256.public_pem(bound),
        media_type="application/x-pem-file",
        subject=f"the P-256 key that the genesis entry of {author.name} binds",
    )


def _bound(home: Path) -> tuple[Author, bytes]:
    """Who writes a home's ledger, and the P-256 key that it binds. Raises `ConfigError`."""
    from konsil.trust.reading import read_ledger
    from konsil.trust.sources import ledger_of

    author = read_ledger(ledger_of(home)).author
    if author.p256 is None:
        raise ConfigError(
            f"{home}: its genesis entry binds no P-256 key, and OpenSSF takes no other",
            hint="a key can be bound only when a home is made: konsil init --p256",
        )
    return author, author.p256


def _lineage(homes: Sequence[Path], chosen: Chosen) -> tuple[Lineage, bytes]:
    """What the homes tell, and the model that is asked for."""
    from konsil.trust.lineage import read_lineage

    told = read_lineage(homes)
    return told, told.find(chosen.model) if chosen.model else told.current()


def _missing(told: Lineage, model: bytes) -> tuple[str, str] | None:
    from konsil.trust import lineage_views

    found = told.contributors(model)
    return lineage_views.missing(told, found) if found.missing else None


WRITERS: dict[Format, Callable[[Sequence[Path], Chosen], Document]] = {
    Format.intoto: _intoto,
    Format.prov: _prov,
    Format.cyclonedx: _cyclonedx,
    Format.fhir: _fhir,
    Format.openssf: _openssf,
    Format.openssf_key: _openssf_key,
    Format.tlog_proof: _tlog_proof,
}
"""How each format is made."""

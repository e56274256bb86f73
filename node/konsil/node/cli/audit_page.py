"""`konsil audit report`: the audit of one or several homes as one printable page."""

from __future__ import annotations

import time
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

import typer

from konsil.node.cli import output
from konsil.node.cli.audit_arguments import (
    Homes,
    Json,
    distinct,
    may_write,
    problem,
    settled,
    write,
)
from konsil.trust.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def report(
    homes: Homes,
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write.")] = Path(
        "report.html"
    ),
    model: Annotated[
        str,
        typer.Option(
            "--model", help="Whose history to draw; the current model of the first home if none."
        ),
    ] = "",
    replay: Annotated[
        bool, typer.Option("--replay", help="Compute every mix again from the stored payloads.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write one self-contained page: verdict, findings, lineage, trust, privacy.

    It exits as `konsil audit verify` does; the page is written whatever was found.
    """
    from konsil.trust.page import VERDICTS, render
    from konsil.trust.questions.dossier import dossier
    from konsil.trust.questions.gathering import hex_start

    may_write(out)
    start = hex_start(model) if model else ""
    found = settled(distinct(homes), replay=replay)
    facts = dossier(homes, found, model=start)
    page = render(facts, homes, now_ms=time.time_ns() // 1_000_000, version=version("konsil"))
    data = page.encode("utf-8", "backslashreplace")
    write(out, data)
    code = found.exit_code()
    verdict = VERDICTS[code][0]
    output.finish(
        "audit.report",
        {
            "out": str(out),
            "bytes": len(data),
            "verdict": verdict,
            "ledgers": len(found.ledgers),
            "findings": len(found.findings),
            "left_out": [printable(str(home)) for home in facts.left_out],
        },
        exit_code=code,
        error=None if code == 0 else problem(found, code),
        as_json=as_json,
        text=lambda: print(printable(f"{out}: {verdict}, {len(found.findings)} findings")),
    )


COMMANDS: Mapping[str, Callable[..., None]] = MappingProxyType({"report": report})

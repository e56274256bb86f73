"""The `konsil` command: gathers the groups and is the last boundary for every error.

Python exits 1 on an uncaught exception, which a script would read as "findings"; so `main`
maps the tree of `konsil.protocol.errors` to the documented exit codes and lets anything
else end with 70 and a request to report the bug.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

import typer

from konsil.node.cli import artifact, audit, config, data, export, init, node, output
from konsil.node.store.durable import DiskFullError, storage_error
from konsil.protocol.errors import ConfigError, KonsilError, StorageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

GROUPS = ("artifact", "audit", "config", "data", "node", "sim")
BUG = 70
_ANYTHING: Mapping[str, object] = MappingProxyType(
    {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
)
"""How a command is called that takes whatever stands behind it."""

audit.app.command(name="export")(export.export)


def build_app() -> typer.Typer:
    """The whole command tree; commands and groups of higher floors join by an entry point."""
    app = typer.Typer(
        name="konsil",
        help="Hospitals learn from each other's models and never from each other's patients.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_root)
    app.command(name="init")(init.init)
    app.add_typer(node.app, name="node", help="Run a hospital's daemon, or ask the running one.")
    app.add_typer(audit.app, name="audit", help="Verify ledgers and trace models, offline.")
    app.add_typer(artifact.app, name="artifact", help="Look at artifacts, take a model out.")
    app.add_typer(config.app, name="config", help="Check a configuration file.")
    app.add_typer(data.app, name="data", help="List, fetch and verify known data sets.")
    for point in sorted(entry_points(group="konsil.commands"), key=lambda p: p.name):
        _join(app, point)
    return app


def _join(app: typer.Typer, point: EntryPoint) -> None:
    """Adds a command or group of another package; one that cannot be loaded fails when called."""
    try:
        joining = point.load()
    except Exception as error:  # noqa: BLE001 - whatever a foreign module raises is its own affair
        app.command(name=point.name, context_settings=dict(_ANYTHING))(_broken(point, error))
        return
    if isinstance(joining, typer.Typer):
        app.add_typer(joining, name=point.name)
    else:
        app.command(name=point.name)(joining)


def _broken(point: EntryPoint, error: Exception) -> Callable[[typer.Context], None]:
    """The command that says why it is none."""
    owner = point.dist.name if point.dist is not None else point.value

    def broken(_context: typer.Context) -> None:
        raise ConfigError(
            f"the command `{point.name}` cannot be loaded: {type(error).__name__}: {error}",
            hint=f"install {owner} again, or remove it",
        )

    broken.__doc__ = f"Cannot be loaded: install {owner} again, or remove it."
    return broken


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"konsil {version('konsil')}")
        raise typer.Exit(0)


def _root(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Hospitals learn from each other's models and never from each other's patients."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command line and exit with its documented code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    sys.exit(output.settle(_run(arguments)))


def _run(arguments: list[str]) -> int:
    as_json = "--json" in arguments
    verb = _verb(arguments)
    try:
        command = typer.main.get_command(build_app())
        result = command.main(args=arguments, prog_name="konsil", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except typer.TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # typer hands it out under no name
            with contextlib.suppress(OSError):
                print(error.format_message())
            return UsageError.exit_code
        context = getattr(error, "ctx", None)
        hint = f"see: {context.command_path if context else 'konsil'} --help"
        return output.fail(verb, UsageError(error.format_message(), hint=hint), as_json=as_json)
    except (typer.Abort, KeyboardInterrupt):
        output.talk("konsil: interrupted")
        return 1
    except KonsilError as error:
        return output.fail(verb, error, as_json=as_json)
    except Exception as error:  # noqa: BLE001 - the last boundary: a bug must not look like findings
        disk = _disk(error)
        if disk is not None:
            return output.fail(verb, disk, as_json=as_json and not isinstance(disk, DiskFullError))
        traceback.print_exception(error)
        bug = KonsilError(
            f"a bug in konsil: {type(error).__name__}: {error}",
            hint="please report it with the lines above",
        )
        output.fail(verb, bug, as_json=as_json)
        return BUG


def _disk(error: Exception) -> StorageError | None:
    """A path that cannot be looked at, or the full disk to which our own output goes."""
    if not isinstance(error, OSError) or error.errno is None:
        return None
    known = storage_error(Path(error.filename or "standard output"), error)
    return known if error.filename or isinstance(known, DiskFullError) else None


def _verb(arguments: Sequence[str]) -> str:
    """The name of the command for the JSON schema: `node.status`, `audit.verify`, `demo`."""
    words = [word for word in arguments if not word.startswith("-")][:2]
    if not words:
        return "konsil"
    return ".".join(words) if words[0] in GROUPS and len(words) == 2 else words[0]


if __name__ == "__main__":
    main()

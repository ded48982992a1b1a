"""`foundry conformance`: tries a server against the protocol, and prints what came of it.

Knows: how a report reads in a terminal. Refuses to know: what conforms (`foundry_proto.conformance`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, cast

import anyio
import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from foundry_proto.conformance import (
    ALL_PROFILES,
    CASES,
    PROFILES,
    Case,
    Outcome,
    Permission,
    ProfileName,
    Report,
    Target,
    Unmet,
    Verdict,
    run_script,
    selected,
)
from foundry_runtime.conformance import BadKnownFile, Place, junit, perform, read_known
from foundry_runtime.transport import StreamTransport, Transport, connect_tcp
from foundry_serve.cli.terminal import NumberRange, fail, runtime_option

__all__ = ["conformance"]

_STYLES: Final[dict[str, str]] = {
    "passed": "green",
    "failed": "red",
    "known": "yellow",
    "unexpected pass": "red",
    "untested": "yellow",
    "not offered": "dim",
}
_PERMISSIONS: Final = ("download", "unload", "shutdown")


def _permissions(_: click.Context, __: click.Parameter, given: str) -> frozenset[Permission]:
    words = {word.strip() for word in given.split(",") if word.strip()}
    if odd := sorted(words.difference(_PERMISSIONS)):
        raise click.BadParameter(f"expected {', '.join(_PERMISSIONS)}, got {', '.join(odd)}")
    return cast("frozenset[Permission]", frozenset(words))


@click.command()
@click.argument("url")
@click.option("--model", default="", help="The model to chat with; without it the first that is listed.")
@click.option(
    "--profile",
    "profiles",
    multiple=True,
    type=click.Choice(list(PROFILES)),
    help="Whom the server serves; may be given several times. Without it all but extra.",
)
@click.option(
    "--only", multiple=True, help="Try only the cases whose ids begin so; may be given several times."
)
@click.option(
    "--junit", "junit_file", type=click.Path(dir_okay=False, path_type=Path), help="Write XML, too."
)
@click.option(
    "--known",
    "known_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file of deviations that are known.",
)
@click.option(
    "--allow",
    default="",
    callback=_permissions,
    help="What may be done that lasts: download, unload, shutdown, with commas between.",
)
@click.option("--key", help="A key to send as a bearer token.")
@click.option(
    "--patience",
    default=60.0,
    show_default=True,
    type=NumberRange(0.1),
    help="Seconds that the server may be silent.",
)
@click.option(
    "--limit",
    default=600.0,
    show_default=True,
    type=NumberRange(1),
    help="Seconds after which no further case is begun.",
)
@click.option("--list", "only_list", is_flag=True, help="List the cases, and try none.")
@click.option("--verbose", is_flag=True, help="Print the cases that passed, too.")
@runtime_option
def conformance(
    url: str,
    model: str,
    profiles: Sequence[str],
    only: Sequence[str],
    junit_file: Path | None,
    known_file: Path | None,
    allow: frozenset[Permission],
    key: str | None,
    patience: float,
    limit: float,
    only_list: bool,
    verbose: bool,
    runtime: str,
) -> None:
    """Try a server against the protocol: does it do what clients count on?

    The status is 1 if a MUST or a SHOULD is not met that is not known, or if a known deviation is gone.
    """
    wanted = cast("Sequence[ProfileName]", profiles or ALL_PROFILES)
    cases = [case for case in CASES if not only or case.id.startswith(tuple(only))]
    console = Console(highlight=False, soft_wrap=True)
    if only_list:
        _print_cases(console, selected(cases, wanted))
        return
    try:
        place = Place.of(url)
        known = read_known(known_file, {case.id for case in CASES}) if known_file else {}
    except (ValueError, BadKnownFile) as error:
        fail(str(error))
    target = Target(
        host=place.authority,
        prefix=place.prefix,
        key=key,
        model=model,
        allow=allow,
        patience=patience,
    )
    script = run_script(target, wanted, cases=cases, known=known, limit=limit)

    async def connect() -> Transport:
        if not place.tls:
            return await connect_tcp(place.host, place.port)
        stream = await anyio.connect_tcp(place.host, place.port, tls=True, tls_standard_compatible=False)
        return StreamTransport(stream)

    try:
        with console.status(f"trying {url} …"):
            report = anyio.run(perform, script, connect, backend=runtime)
    except Unmet as error:
        fail(f"{url}: {error}")
    except KeyboardInterrupt:
        fail("interrupted")
    if junit_file is not None:
        junit_file.write_bytes(junit(report))
    _print(console, report, verbose=verbose)
    if not report.conforms:
        raise click.exceptions.Exit(1)


def _print_cases(console: Console, cases: Sequence[Case]) -> None:
    for case in cases:
        console.print(Text(f"{case.level:<6} {case.id}"))
        console.print(Text(f"       {case.requirement} ({case.source})", style="dim"))


def _print(console: Console, report: Report, *, verbose: bool) -> None:
    """Print what did not pass, by outcome, and the sums."""
    for outcome in ("unexpected pass", "failed", "known", "untested", *(["passed"] if verbose else ())):
        _print_outcome(console, report, cast("Outcome", outcome))
    absent = sorted({verdict.case.group for verdict in report.verdicts if verdict.outcome == "not offered"})
    if absent:
        console.print(Text(f"\nnot offered: {', '.join(absent)}", style="dim"))
    console.print()
    console.print(_sums(report))
    model = report.target.model or "none"
    console.print(f"{len(report.verdicts)} cases in {report.seconds:.1f} s, with the model {model}")


def _print_outcome(console: Console, report: Report, outcome: Outcome) -> None:
    verdicts = [verdict for verdict in report.verdicts if verdict.outcome == outcome]
    if verdicts:
        console.print(Text(f"\n{outcome}", style=f"bold {_STYLES[outcome]}"))
    for verdict in verdicts:
        console.print(Text(f"  {verdict.case.level:<6} {verdict.case.id}", style=_STYLES[outcome]))
        for line in _lines(verdict):
            console.print(Text(f"         {line}", style="dim"))


def _lines(verdict: Verdict) -> Sequence[str]:
    if verdict.outcome == "untested":
        return [verdict.message]
    lines = [f"{verdict.case.requirement} ({verdict.case.source})"]
    if verdict.message:
        lines.append(f"{verdict.aspect}: {verdict.message}" if verdict.aspect else verdict.message)
    return [_printable(line) for line in lines]


def _printable(line: str) -> str:
    """A line without what a terminal would obey."""
    return "".join(char if char.isprintable() else "\ufffd" for char in line)


def _sums(report: Report) -> Table:
    table = Table("", *_STYLES, box=None, pad_edge=False)
    for level in ("MUST", "SHOULD", "INFO"):
        counts = [
            sum(one.outcome == outcome and one.case.level == level for one in report.verdicts)
            for outcome in _STYLES
        ]
        table.add_row(level, *map(str, counts))
    return table

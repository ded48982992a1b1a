"""Every row of the table of hostile requests: the statuses, and whether the connection goes on."""

from __future__ import annotations

import re

import anyio
import pytest

from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.server import TimeOuts
from foundry_runtime.transport import Transport, TransportBroken, TransportClosed
from foundry_serve.security import Policy, bound_names
from tests.support.hostile import GET, GROUPS, LIMITS, ROWS, Row, as_table
from tests.support.pages import ROOT
from tests.support.scripted_model import scripted_server

PROBE = b"GET /the-probe HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
IMPATIENT = TimeOuts(idle=0.03, head=0.03, body=0.03, linger=0.03)
PATIENT = TimeOuts(linger=0.03)
WELL_MEANT = Row(what="a request", data=GET, statuses=(200,), fate="goes on")
LOCAL = Policy(names=bound_names("localhost", ["127.0.0.1"]))


async def everything(transport: Transport) -> bytes:
    """All until the server closes; a reset ends it as well."""
    said = b""
    try:
        while piece := await transport.receive():
            said += piece
    except TransportBroken:
        pass
    return said


async def answers(transport: Transport, row: Row) -> bytes:
    try:
        await transport.send(row.data)
        if row.ending == "probe":
            await transport.send(PROBE)
        elif row.ending == "end":
            await transport.send_eof()
    except (TransportBroken, TransportClosed):
        pass  # it closed before it had read all
    return await everything(transport)


@pytest.mark.anyio
@pytest.mark.parametrize("silent", [False, True], ids=["waiting for answers", "silent"])
@pytest.mark.parametrize("group", GROUPS)
async def test_each_hostile_request_gets_its_status_and_its_end(
    tiny_home: ModelDirectory, group: str, silent: bool
) -> None:
    rows = [row for row in GROUPS[group] if (row.ending == "silence") is silent]
    time_outs = IMPATIENT if silent else PATIENT
    async with scripted_server(tiny_home, gate=LOCAL, limits=LIMITS, time_outs=time_outs) as (server, models):
        wrong: list[object] = []

        async def play(row: Row) -> None:
            said = await answers(await server.connect(), row)
            statuses = tuple(int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", said))
            probed = b"no such route: GET /the-probe" in said
            got = (statuses[: len(statuses) - probed], "goes on" if probed else "closes")
            if got != (row.statuses, row.fate):
                wrong.append((row.what, got, said[-300:]))

        async with anyio.create_task_group() as tasks:
            for row in rows:
                tasks.start_soon(play, row)
        assert wrong == []
        assert models.loads == 0
        # The server is none the worse for it.
        await play(WELL_MEANT)
        assert wrong == []


def test_the_page_has_the_table() -> None:
    assert len(ROWS) >= 60
    assert len({row.what for row in ROWS}) == len(ROWS)
    assert "\n".join(as_table()) in (ROOT / "docs" / "hardening.md").read_text("utf-8")

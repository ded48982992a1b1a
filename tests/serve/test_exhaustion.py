"""A server that has run out of files waits until it has some, and then goes on."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.support.command import serving

FILES = 60
"""How many the server may have open, its own included."""


@pytest.mark.skipif(os.name == "nt", reason="there are no such limits there")
@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_a_server_without_files_left_goes_on_when_it_has_some(tmp_path: Path, runtime: str) -> None:
    limited = (
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({FILES}, {FILES}))\n"
        "import foundry_serve.cli\n"
        "foundry_serve.cli.main()"
    )
    with serving(tmp_path, "--runtime", runtime, program=(sys.executable, "-c", limited)) as (server, port):
        connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(FILES + 20)]
        assert server.stderr is not None
        assert "no connection can be accepted on 127.0.0.1:" in server.stderr.readline()
        for one in connections:
            one.close()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/openai/status")
        assert connection.getresponse().status == 200
        connection.close()
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0

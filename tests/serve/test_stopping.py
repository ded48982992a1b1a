"""SIGTERM in the middle of everything: running answers get what they are promised, and nothing stays behind.

`python -m tests.support.stopping` plays all ways; these are some of them, so that each thing is among them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.stopping import Mode, stop_amid_everything

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there is no SIGTERM")


@pytest.mark.parametrize(
    "mode",
    [
        Mode(phase="loading", runtime="asyncio", tls=True),
        Mode(phase="stuck", runtime="trio"),
        Mode(phase="prefill", runtime="trio", isolate=True),
        Mode(phase="cut", runtime="asyncio", isolate=True),
        Mode(phase="cut", runtime="trio", tls=True),
        Mode(phase="finished", runtime="trio"),
    ],
    ids=str,
)
def test_a_request_to_stop_amid_everything_is_heard(tmp_path: Path, mode: Mode) -> None:
    stop_amid_everything(mode, tmp_path)

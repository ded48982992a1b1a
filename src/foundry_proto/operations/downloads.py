"""The row of downloads.

Source: the REST reference page.
"""

from __future__ import annotations

from types import NoneType
from typing import Final

from foundry_proto.messages.downloads import DownloadRequest
from foundry_proto.operations.table import Operation
from foundry_proto.progress import Progress
from foundry_proto.streams import PROGRESS

__all__ = ["DOWNLOAD_MODEL"]

DOWNLOAD_MODEL: Final[Operation[DownloadRequest, None, Progress]] = Operation(
    name="download_model",
    methods=("POST",),
    path="/openai/download",
    summary="Brings a model to this machine, and says how far it is until it is there.",
    request=DownloadRequest,
    response=NoneType,
    item=Progress,
    stream=PROGRESS,
    streams=lambda _: True,
    long=True,
    timeless=True,
    errors="compatible",
    failures=(403, 404, 409),
    heading="POST /openai/download",
)

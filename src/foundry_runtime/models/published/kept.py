"""The catalogue's list as it is kept on the disk, with its age.

Knows: how the file looks, and that one which is torn, of another version or of another catalogue says
nothing: the next answer of the catalogue takes its place.
Refuses to know: when a list is old, and how a new one is got.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import ClassVar, Final, Literal

from attrs import field, frozen

from foundry_proto.codec import ContentError, decode, encode
from foundry_proto.wire import Wire
from foundry_runtime.models.description import ModelFacts
from foundry_runtime.platform import write_whole

__all__ = ["KEPT_FILE", "KeptList", "read_kept", "write_kept"]

logger = logging.getLogger(__name__)

# Choice: Foundry Local's own name, but beside the folder of models, where that program has its own: two
# programs that write one file would each lose what the other has put there.
KEPT_FILE: Final = "foundry.modelinfo.json"
"""In the home's `cache`."""


@frozen(kw_only=True)
class KeptList:
    """What a catalogue has answered, and when it was asked."""

    WIRE: ClassVar = Wire(writes=("camel",))
    version: Literal[1] = 1
    catalog: str
    """Whose list this is."""
    saved_at: int = field(default=0, metadata={"wire": "savedAtUnix"})
    """When it answered, in seconds since 1970; 0 if it never has."""
    tried_at: int = field(default=0, metadata={"wire": "triedAtUnix"})
    """When it was last asked."""
    problem: str | None = None
    """Why it did not answer then; `None` if it did."""
    models: tuple[ModelFacts, ...] = ()


def read_kept(path: Path, catalog: str) -> KeptList | None:
    """Read the list of a catalogue.

    Args:
        path: The file.
        catalog: Whose list is wanted.

    Returns:
        The list; `None` where there is none that can be used.
    """
    try:
        kept = decode(KeptList, path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ContentError) as error:
        logger.info("%s: it is made anew, since it cannot be used: %s", path, error)
        return None
    return kept if kept.catalog == catalog else None


def write_kept(path: Path, kept: KeptList) -> None:
    """Keep a list.

    Raises:
        OSError: It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, encode(kept) + b"\n")

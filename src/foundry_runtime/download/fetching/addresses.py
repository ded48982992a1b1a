"""Where files are, and where they are when that has expired.

Knows: that addresses come together, as an edition, and grow old together; when it is of no use to ask anew.
Refuses to know: what is fetched from them (`fetch.py`), and which answers mean that one has expired.

The laws:
- However many requests meet the end of an edition at a time, new addresses are asked for once.
- If of two editions in a row no address has worked, they are not too old, but wrong: nobody asks again.
- A new edition has the same files as the one before, or the download ends.
"""

from __future__ import annotations

from collections.abc import Mapping

import anyio
from attrs import define, field

from foundry_proto.transfer import WantedFile
from foundry_runtime.download.fetching.remote import Listing, RemoteFile
from foundry_runtime.download.sources.api import DownloadFailed

__all__ = ["Addresses"]


@define(eq=False)
class Addresses:
    """The addresses of all files of a download.

    Args:
        listing: Gives new ones.
        files: Those of the first edition, by path.
    """

    _listing: Listing
    _files: Mapping[str, RemoteFile]
    edition: int = field(init=False, default=0)
    """How often new ones were asked for."""
    _proven: bool = field(init=False, default=False)
    """Whether one of this edition has worked."""
    _doubted: bool = field(init=False, default=False)
    """Whether none of the edition before has; which proves nothing of one edition alone, since an address may
    be refused before another has worked."""
    _asking: anyio.Lock = field(init=False, factory=anyio.Lock)

    def of(self, path: str) -> RemoteFile:
        """Where a file is now."""
        return self._files[path]

    def works(self, edition: int) -> None:
        """Note that an address of an edition has worked."""
        self._proven = self._proven or edition == self.edition

    async def renew(self, edition: int) -> bool:
        """Ask for new ones, unless somebody has since these were taken.

        Args:
            edition: That of the address which was refused.

        Returns:
            Whether it is of any use to fetch from the present ones.

        Raises:
            DownloadFailed: There are none, or other files.
        """
        async with self._asking:
            if edition != self.edition:
                return True
            if not self._proven and self._doubted:
                return False
            self._doubted = not self._proven
            files = {file.wanted.path: file for file in await self._listing()}
            if _wanted(files) != _wanted(self._files):
                raise DownloadFailed("the files have changed at their source in the meantime: ask again")
            self._files = files
            self.edition += 1
            self._proven = False
            return True


def _wanted(files: Mapping[str, RemoteFile]) -> Mapping[str, WantedFile]:
    return {path: file.wanted for path, file in files.items()}

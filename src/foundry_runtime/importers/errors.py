"""What an importer raises when a file is not one that it can import faithfully.

Knows: that there is one such error, for a broken file and for an unsupported one alike, because the user
can do the same about both: get another file. Refuses to know: any file format.
"""

from __future__ import annotations

__all__ = ["UnsupportedModel"]


class UnsupportedModel(ValueError):
    """The file cannot be imported; the message names the field, tensor or type that stands in the way.

    Raised before anything becomes visible at the target. A file is refused whenever the model written from
    it might compute something else than the file's own model: never guessed at.
    """

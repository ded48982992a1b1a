"""Python imports this first in each process that a test starts: what such a process leaves fails the test.

It writes into the folder that `tests/support/leaks.py` names what Python itself would only print: what was
left to the collector, which is an error here, threads that ended with an exception, and asyncio's errors.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback

_folder = os.environ.get("TESTS_TELL_WHAT_IS_LEFT")
_unraisable = sys.unraisablehook
_in_thread = threading.excepthook


def _tell(what: object, error: BaseException | None) -> None:
    lines = traceback.format_exception(error) if error is not None else []
    text = f"{' '.join(sys.orig_argv)}: {what}: {''.join(lines)}"
    # The interpreter may be on its way out, when nothing but the system's own calls is sure to work.
    file = os.open(f"{_folder}/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(file, text.encode("utf-8", "replace"))
    os.close(file)


def _tell_unraisable(args: sys.UnraisableHookArgs) -> None:
    _tell(repr(args.object), args.exc_value)
    _unraisable(args)


def _tell_of_thread(args: threading.ExceptHookArgs) -> None:
    _tell(args.thread, args.exc_value)
    _in_thread(args)


def _of_no_speed(record: logging.LogRecord) -> bool:
    """Without what asyncio's debug mode says of slow steps, which a busy machine makes of any."""
    return not record.getMessage().startswith("Executing ")


class _Logged(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _tell(record.getMessage(), None)


if _folder and os.path.isdir(_folder):  # noqa: PTH112 - it is imported for each child
    sys.unraisablehook = _tell_unraisable
    threading.excepthook = _tell_of_thread
    logging.getLogger("asyncio").addHandler(_Logged(logging.ERROR))
    logging.getLogger("asyncio").addFilter(_of_no_speed)

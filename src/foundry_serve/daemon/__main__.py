"""The service's own process: `python -m foundry_serve.daemon OPTIONS`, which `control.start` runs.

Knows: where its log goes, and that it serves only while it holds the home's claim.
Refuses to know: who has started it.
"""

from __future__ import annotations

import faulthandler
import logging
import platform
import sys
from pathlib import Path

from foundry_proto import __version__
from foundry_proto.codec import decode
from foundry_runtime.models.directory import ModelDirectory
from foundry_serve.daemon.log import LogFile
from foundry_serve.daemon.state import Published, ServiceFiles, ServiceState
from foundry_serve.serving import ServeOptions, run_server

__all__ = ["main"]

logger = logging.getLogger("foundry_serve.daemon")


def main(arguments: str) -> int:
    """Serve in the background.

    Args:
        arguments: The `ServeOptions`, as JSON.

    Returns:
        The exit status.
    """
    options = decode(ServeOptions, arguments.encode())
    directory = ModelDirectory.from_environment()
    if options.cachedir is not None:
        directory = ModelDirectory(directory.home, Path(options.cachedir))
    files = ServiceFiles(directory.home)
    logging.basicConfig(level=logging.INFO, handlers=[LogFile(files.log)])
    if options.verbose:
        for package in ("foundry_runtime", "foundry_serve"):
            logging.getLogger(package).setLevel(logging.DEBUG)
    faulthandler.enable()  # a native library that ends the process leaves a trace in the log
    claim = files.claim()
    if claim is None:
        logger.error("another process is the service of %s", files.home)
        return 1
    try:
        logger.info("version %s, Python %s, options %s", __version__, platform.python_version(), arguments)
        state = ServiceState(
            phase="starting", log=str(files.log), model_dir_path=str(directory.models), options=options
        )
        run_server(options, directory, Published(claim, state))
    except OSError as error:
        logger.error("%s", error.strerror or error)  # noqa: TRY400 - it says all there is to say
        return 1
    except Exception:
        logger.exception("the service failed")
        return 1
    finally:
        claim.release()
    logger.info("ended")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

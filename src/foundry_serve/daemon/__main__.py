"""The service's own process: `python -m foundry_serve.daemon OPTIONS`, which `control.start` runs.

Knows: where its log goes, and that it serves only while it holds the home's claim.
Refuses to know: who has started it.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import platform
import sys

from foundry_proto import __version__
from foundry_serve.config import BadConfig
from foundry_serve.config_sources import load_config
from foundry_serve.daemon.log import LogFile
from foundry_serve.daemon.state import Published, ServiceFiles, ServiceState
from foundry_serve.logs import set_up_logging
from foundry_serve.serving import run_server
from foundry_serve.words import words_of

__all__ = ["main"]

logger = logging.getLogger("foundry_serve.daemon")


def main(arguments: str) -> int:
    """Serve in the background.

    Args:
        arguments: What the command line said, as JSON: values by the setting's name.

    Returns:
        The exit status.
    """
    loaded = load_config(json.loads(arguments))
    config = loaded.config
    files = ServiceFiles(loaded.home)
    set_up_logging(config.log_format, LogFile(files.log), level=logging.INFO, verbose=config.verbose)
    faulthandler.enable()  # a native library that ends the process leaves a trace in the log
    claim = files.claim()
    if claim is None:
        logger.error("another process is the service of %s", files.home)
        return 1
    try:
        logger.info(
            "version %s, Python %s, settings: %s",
            __version__,
            platform.python_version(),
            config.differences,
        )
        state = ServiceState.starting(loaded, files.log)
        run_server(config, loaded.directory, Published(claim, state), own_key=state.key)
    except (OSError, BadConfig) as error:
        reason = words_of(error) if isinstance(error, OSError) else error
        logger.error("%s", reason)  # noqa: TRY400 - it says all there is to say
        return 1
    except Exception:  # the process's own border: nobody reads what a background process prints
        logger.exception("the service failed")
        return 1
    finally:
        claim.release()
    logger.info("ended")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

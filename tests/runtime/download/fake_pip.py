"""Stands for `python -m pip`: run as a program, it prints and writes what pip does.

`python fake_pip.py BEHAVIOUR WHEEL LOG download --dest DIR --requirement FILE ...`. Each run adds a line of
JSON to LOG. `hang` writes half of the wheel and stays, like a pip on a slow line.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TextIO


def say(line: str, where: TextIO = sys.stdout) -> None:
    where.write(f"{line}\n")
    where.flush()


def main() -> int:
    behaviour, wheel, log, *arguments = sys.argv[1:]
    destination = Path(arguments[arguments.index("--dest") + 1])
    requirements = Path(arguments[arguments.index("--requirement") + 1])
    call = {
        "pid": os.getpid(),
        "arguments": arguments,
        "requirements": requirements.read_text(),
        "environment": dict(os.environ),
    }
    with Path(log).open("a") as file:
        file.write(json.dumps(call) + "\n")
    size = Path(wheel).stat().st_size
    say("Collecting tiny==1.0")
    if behaviour in {"unreachable", "unknown"}:
        if behaviour == "unreachable":
            say("WARNING: Retrying (Retry(total=0)) after connection broken by 'refused'", sys.stderr)
        say("ERROR: Could not find a version that satisfies the requirement tiny==1.0", sys.stderr)
        say("ERROR: No matching distribution found for tiny==1.0", sys.stderr)
        return 1
    if behaviour == "missing":
        say(f"{sys.executable}: No module named pip", sys.stderr)
        return 1
    if behaviour == "old":
        say("option --progress-bar: invalid choice: 'raw' (choose from 'on', 'off')", sys.stderr)
        return 2
    if behaviour == "silent":
        say("   ")
        return 3
    for done in (0, size // 4, size // 2):
        say(f"Progress {done} of {size}")
    if behaviour == "hang":
        (Path(os.environ["TMPDIR"]) / "half").write_bytes(Path(wheel).read_bytes()[: size // 2])
        Path(f"{log}.hanging").touch()
        time.sleep(600)
    say("Progress 5 of 0")
    say(f"Progress {size} of {size}")
    destination.mkdir()
    if behaviour == "other":
        (destination / Path(wheel).name).write_bytes(b"something else")
    elif behaviour != "nothing":
        shutil.copy(wheel, destination)
    return 0


if __name__ == "__main__":
    sys.exit(main())

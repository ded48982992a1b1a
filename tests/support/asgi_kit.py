"""The conformance kit against the product under ASGI servers of others.

`python -m tests.support.asgi_kit` tries all of its cases under each of them, and prints what fails.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import anyio

from foundry_proto.conformance import CASES, PROFILES, Case, Permission, Report, Target, run_script
from foundry_runtime.asgi import ASGIApplication
from foundry_runtime.conformance import perform
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.transport import connect_tcp
from foundry_serve.app import make_application
from foundry_serve.security import Policy, bound_names
from tests.runtime.models.folders import write_folder
from tests.support.asgi_servers import LOOPS, ServerKind, served_by
from tests.support.scripted_model import ScriptedModels
from tests.support.scripted_source import ScriptedSource
from tests.support.tiny_encoder import write_encoder_folder
from tests.support.tiny_model import TinyLlama, tiny_model_folder

__all__ = ["EVERYTHING", "TEXT", "failed", "make_kit_home", "tried_under"]

TEXT: Final = "Red, ☕ blüe\nand yellow: 日本 are primary colors of the world"
"""What the scripted engine says."""

EVERYTHING: Final[frozenset[Permission]] = frozenset({"download", "unload", "shutdown"})


def make_kit_home(folder: Path, made: Path) -> ModelDirectory:
    """A chat model with room for tools, and one that gives vectors.

    Args:
        folder: Where the models go.
        made: Where the chat model is made.
    """
    directory = ModelDirectory(folder)
    chat = directory.models / "Test" / "chat"
    chat.parent.mkdir(parents=True)
    tiny_model_folder(made, TinyLlama(context_length=8192, n_layers=1)).rename(chat)
    write_encoder_folder(directory.models / "Test" / "encoder")
    return directory


async def tried_under(kind: ServerKind, home: ModelDirectory, cases: Sequence[Case] = CASES) -> Report:
    """Try cases of all profiles against the product with its usual gate and a scripted engine."""
    source = ScriptedSource(
        prefix="pkg:", make=partial(write_folder, name="smollm2-135m-instruct-generic-cpu:1")
    )
    stop = anyio.Event()
    async with anyio.create_task_group() as engines:
        application = make_application(
            home,
            ScriptedModels(engines, text=TEXT),
            sources=[source],
            stop=stop.set,
            endpoints=["http://127.0.0.1:5272"],
            gate=Policy(names=bound_names("localhost", ["127.0.0.1"])),
        )
        async with served_by(kind, ASGIApplication(application), stop=stop, grace=0.2) as port:
            target = Target(host=f"127.0.0.1:{port}", allow=EVERYTHING, patience=2)
            script = run_script(target, list(PROFILES), cases=cases)
            report = await perform(script, partial(connect_tcp, "127.0.0.1", port))
        engines.cancel_scope.cancel()
    return report


def failed(report: Report) -> dict[str, str]:
    """What did not pass, by the case's id: why."""
    return {
        verdict.case.id: f"{verdict.case.level} {verdict.outcome}: {verdict.message}"
        for verdict in report.verdicts
        if verdict.outcome not in ("passed", "not offered")
    }


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)  # What servers say of clients that break the rules.
    for one, loop in LOOPS.items():
        with tempfile.TemporaryDirectory() as folder:
            models = make_kit_home(Path(folder) / "home", Path(folder))
            found = anyio.run(tried_under, one, models, backend=loop)
        lines = [f"{one}: {found.count('passed')} of {len(found.verdicts)} passed, {found.seconds:.1f} s"]
        lines += [f"  {case}: {why[:100]}" for case, why in failed(found).items()]
        print("\n".join(lines))  # noqa: T201

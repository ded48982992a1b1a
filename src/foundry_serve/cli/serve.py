"""`foundry serve`: the server in the foreground."""

from __future__ import annotations

import gc
import logging
import signal
import sys
from collections.abc import Sequence

import anyio
import click
from anyio.abc import TaskStatus

from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.loading import ModelOpener
from foundry_runtime.platform import return_large_memory_at_once
from foundry_runtime.server import serve as serve_application
from foundry_runtime.transport import Listener, open_tcp_listeners
from foundry_runtime.wakeup import Doorbell
from foundry_serve.app import make_application
from foundry_serve.cli.terminal import NumberRange, Runtime, fail, runtime_option

__all__ = ["prepare_process", "serve"]


def prepare_process() -> None:
    """Set what belongs to a process that serves, and that a library must not touch."""
    # With the default of 5 ms a busy loop makes each of an engine's short tokens wait for the interpreter.
    sys.setswitchinterval(0.0005)
    # What was imported stays; looking it through at each full collection made the loop stand still for 60 ms.
    gc.freeze()
    return_large_memory_at_once()


@click.command()
@click.option("--host", default="localhost", show_default=True, help="The name or address to listen on.")
@click.option(
    "--port", default=5272, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one."
)
@click.option("--threads", type=click.IntRange(1), help="Threads per model; by default the usable cores.")
@click.option(
    "--drain",
    default=10.0,
    show_default=True,
    type=NumberRange(0),
    help="Seconds for running answers when stopped.",
)
@click.option("--verbose", is_flag=True, help="Log more than warnings.")
@runtime_option
def serve(host: str, port: int, threads: int | None, drain: float, verbose: bool, runtime: Runtime) -> None:
    """Serve the models on this machine until interrupted."""
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    prepare_process()
    opener = ModelOpener(threads=threads)
    try:
        anyio.run(_serve, host, port, opener, drain, backend=runtime)
    except* OSError as group:
        fail(str(group.exceptions[0]))


async def _serve(host: str, port: int, opener: ModelOpener, drain: float) -> None:
    application = make_application(ModelDirectory.from_environment(), opener)
    listeners = await open_tcp_listeners(host, port)
    stop = anyio.Event()
    async with anyio.create_task_group() as task_group:
        await task_group.start(_stop_on_signals, stop, task_group.cancel_scope)
        task_group.start_soon(_announce, listeners)
        await serve_application(application, listeners, stop=stop, drain=drain)
        task_group.cancel_scope.cancel()


async def _announce(listeners: Sequence[Listener]) -> None:
    # The IPv4 address comes first: it is the one that clients look for.
    first = min(listeners, key=lambda listener: ":" in listener.host)
    click.echo(f"Serving on http://{first.address}/ (chat at /v1/chat/completions); Ctrl-C stops.")


async def _stop_on_signals(
    stop: anyio.Event, everything: anyio.CancelScope, *, task_status: TaskStatus[None]
) -> None:
    """The first signal asks running answers to end; the second ends them."""
    # Not by `anyio.open_signal_receiver`: asyncio has no signal handlers on Windows.
    bell = Doorbell()
    before = {
        number: signal.signal(number, lambda *_: bell.ring()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        task_status.started()
        await bell.wait()
        click.echo("Stopping; again to stop at once.", err=True)
        stop.set()
        await bell.wait()
        everything.cancel()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

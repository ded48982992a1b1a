"""Connections that you accept yourself: `python own_sockets.py [PORT]`.

`serve_connection` takes any transport: of a socket that systemd handed over, of a tunnel, of memory. This one
counts its connections, and serves no more than three at the same time.
"""

from __future__ import annotations

import socket
import sys

import trio

from foundry_runtime import TimeOuts, TransportBroken, serve_connection
from foundry_runtime.transport import wrap_socket
from greeting import application

time_outs = TimeOuts(idle=20.0)
room = trio.CapacityLimiter(3)


async def talk(sock: socket.socket, number: int) -> None:
    """Serve one connection to its end."""
    async with room:
        try:
            transport = await wrap_socket(sock)  # the socket is the transport's from here on
        except TransportBroken:
            return  # the client has left
        print(f"connection {number} from {transport.peer}", file=sys.stderr)
        await serve_connection(transport, application, time_outs=time_outs)


async def main(port: int) -> None:
    """Accept until interrupted."""
    async with application.running(), trio.open_nursery() as nursery:
        with socket.create_server(("127.0.0.1", port)) as listener:
            listener.setblocking(False)
            print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
            number = 0
            while True:
                await trio.lowlevel.wait_readable(listener)
                try:
                    sock, _ = listener.accept()
                except OSError:
                    continue  # a client that has left already
                number += 1
                nursery.start_soon(talk, sock, number)


if __name__ == "__main__":
    trio.run(main, int([*sys.argv, "8000"][1]))

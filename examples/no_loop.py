"""The protocol alone over blocking sockets, without any event loop: `python no_loop.py [PORT]`."""

from __future__ import annotations

import socket
import sys
import threading
from contextlib import suppress

from foundry_proto.chat.chat_stream import Identity, answer_to
from foundry_proto.connection import Phase, ServerConnection
from foundry_proto.errors import RemoteProtocolError
from foundry_proto.events import Disconnected, Failure, Head, Request, Response
from foundry_proto.exchange import Answer
from foundry_proto.operations import CHAT_COMPLETIONS, Operations
from foundry_proto.sentinels import NEED_DATA

operations = Operations([CHAT_COMPLETIONS])


def talk(sock: socket.socket) -> None:
    """Serve one connection to its end."""
    connection = ServerConnection(operations)

    def send(*events: Answer) -> None:
        for write in connection.send(*events):
            sock.sendall(write.data)

    with sock, suppress(OSError):  # the client has left, or is silent
        sock.settimeout(60)
        while connection.phase is not Phase.CLOSING:
            try:
                event = connection.next_event()
            except RemoteProtocolError as error:
                send(*([error.failure] if error.failure else []))
                return
            match event:
                case Head():
                    sock.sendall(connection.accept_body())
                case Request(value=asked):
                    answer = answer_to(asked, Identity(id="chatcmpl-1", created=0, model=asked.model))
                    for word in ("No", "loop", "here."):
                        send(*answer.text(0, f"{word} "))
                    send(*answer.finish(0, "stop", prompt_tokens=1, completion_tokens=3))
                case Failure() | Response():
                    send(event)
                case Disconnected():
                    return
                case _ if event is NEED_DATA:
                    data = sock.recv(65536)
                    connection.receive_data(data) if data else connection.receive_eof()


with socket.create_server(("127.0.0.1", int([*sys.argv, "8000"][1]))) as listener:
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    while True:
        threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()

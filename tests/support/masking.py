"""A client's frames, written by hand: what no library would send, too."""

from __future__ import annotations

import struct

__all__ = ["BINARY", "CLOSE", "CONTINUATION", "PING", "PONG", "TEXT", "frame", "texts"]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

_MASK = b"\x01\x02\x03\x04"


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """One frame (RFC 6455, section 5.2); the mask is always the same."""
    bit = 0x80 if masked else 0
    size = len(payload)
    if size < 126:
        length = bytes([bit | size])
    elif size < 2**16:
        length = bytes([bit | 126]) + struct.pack("!H", size)
    else:
        length = bytes([bit | 127]) + struct.pack("!Q", size)
    first = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if not masked:
        return first + length + payload
    return first + length + _MASK + bytes(byte ^ _MASK[place % 4] for place, byte in enumerate(payload))


def texts(data: bytes) -> list[bytes]:
    """The payloads of a server's text frames, which are short of 64 kB and whole."""
    found = []
    while data:
        size, start = data[1], 2
        if size == 126:
            size, start = struct.unpack("!H", data[2:4])[0], 4
        if data[0] & 0xF == TEXT:
            found.append(data[start : start + size])
        data = data[start + size :]
    return found

"""What the service says about itself, in both generations, and the devices and the end of it.

Knows: the names of what is told, which differ between the generations.
Refuses to know: what stands behind the routes: an address, a folder and a process are believed.
"""

from __future__ import annotations

from typing import Any, Final

from foundry_proto.conformance.asking import ask, open_link
from foundry_proto.conformance.case import Section
from foundry_proto.conformance.expecting import equal, error, is_a, json_of, require, status, text
from foundry_proto.conformance.problems import Unmet
from foundry_proto.conformance.steps import Script, Sleep
from foundry_proto.conformance.target import Target

__all__ = ["CASES"]

_PAGE: Final = "the REST reference page, GET /openai/status"
_CLIENTS: Final = "the official clients, which read it"
_status = Section("service.status", group="service", profiles=("documented",), source=_PAGE)
_core = Section(
    "core.status", group="core-service", profiles=("core",), source="the newer service, GET /status"
)
_devices = Section(
    "devices",
    group="devices",
    profiles=("documented",),
    source="the REST reference page, GET /openai/getgpudevice",
    order="alone",
)
_shutdown = Section(
    "core.shutdown",
    group="core-service",
    profiles=("core",),
    source="the newer service, POST /shutdown",
    order="last",
)
_PATIENCE: Final = 30.0


def _json(target: Target, path: str) -> Script[Any]:
    reply = yield from ask(target, "GET", path)
    status(reply, 200)
    return json_of(reply)


@_status.case("endpoints", "Endpoints are the addresses that the server is bound to.")
def _endpoints(target: Target) -> Script[None]:
    for one in is_a((yield from _json(target, "/openai/status")), "Endpoints", list):
        require(str(one).startswith("http"), "body", f"Endpoints: expected URLs, got {one!r}")


@_status.case("directory", "ModelDirPath says where models are stored.")
def _directory(target: Target) -> Script[None]:
    text((yield from _json(target, "/openai/status")), "ModelDirPath")


@_status.case("pipe", "PipeName is the name of the server's pipe.")
def _pipe(target: Target) -> Script[None]:
    is_a((yield from _json(target, "/openai/status")), "PipeName", str)


@_status.case(
    "directory.client",
    "modelDirPath says where models are stored, in the letters that the clients read.",
    profiles=("sdk-0.5",),
    source=_CLIENTS,
)
def _client_directory(target: Target) -> Script[None]:
    text((yield from _json(target, "/openai/status")), "modelDirPath")


@_status.case(
    "both",
    "Where a property comes in both spellings, both have the same value.",
    level="SHOULD",
    profiles=("documented", "sdk-0.5"),
    source=_CLIENTS,
)
def _both(target: Target) -> Script[None]:
    body = yield from _json(target, "/openai/status")
    for camel, pascal in (("endpoints", "Endpoints"), ("modelDirPath", "ModelDirPath")):
        one = body.get(camel, body.get(pascal))
        require(
            body.get(pascal, one) == one, "body", f"{pascal}: expected what {camel} is, got another value"
        )


@_core.case("endpoints", "endpoints are the addresses that the server is bound to.")
def _core_endpoints(target: Target) -> Script[None]:
    for one in is_a((yield from _json(target, "/status")), "endpoints", list):
        require(str(one).startswith("http"), "body", f"endpoints: expected URLs, got {one!r}")


@_core.case("directory", "modelCachePath says where models are stored.")
def _core_directory(target: Target) -> Script[None]:
    text((yield from _json(target, "/status")), "modelCachePath")


@_core.case("pid", "pid is the server's process.")
def _pid(target: Target) -> Script[None]:
    pid = is_a((yield from _json(target, "/status")), "pid", int)
    require(pid > 0, "body", f"pid: expected more than 0, got {pid}")


@_devices.case("get", "The current device is an integer.")
def _get(target: Target) -> Script[None]:
    is_a((yield from _json(target, "/openai/getgpudevice")), "", int)


@_devices.case("set", "A device is set with 200 and an empty body, and is the current one then.")
def _set(target: Target) -> Script[None]:
    # The device that is set already: nothing is changed.
    device = yield from _json(target, "/openai/getgpudevice")
    reply = yield from ask(target, "GET", f"/openai/setgpudevice/{device}")
    status(reply, 200)
    require(not reply.body, "body", f"expected an empty body, got {reply.body[:80]!r}")
    equal({"device": (yield from _json(target, "/openai/getgpudevice"))}, "device", device)


@_devices.case("word", "A device that is no number is refused.", level="SHOULD")
def _word(target: Target) -> Script[None]:
    error((yield from ask(target, "GET", "/openai/setgpudevice/abc")), 400, 404, 422)


@_devices.case("negative", "A negative device is refused.", level="SHOULD")
def _negative(target: Target) -> Script[None]:
    error((yield from ask(target, "GET", "/openai/setgpudevice/-1")), 400, 404, 422)


@_shutdown.case("get", "GET ends no server.", level="SHOULD", order="alone")
def _get_no_end(target: Target) -> Script[None]:
    status((yield from ask(target, "GET", "/shutdown")), 404, 405)
    status((yield from ask(target, "GET", target.get)), 200)


@_shutdown.case("answer", "A shutdown is answered before it happens.", needs=("shutdown",))
def _answer(target: Target) -> Script[None]:
    # An idle client must not hold it up.
    yield from open_link(target)
    reply = yield from ask(target, "POST", "/shutdown", {})
    status(reply, 200)
    equal(json_of(reply), "status", "shutting_down")


@_shutdown.case("end", "A server that was shut down takes no more connections.", needs=("shutdown",))
def _end(target: Target) -> Script[None]:
    yield Sleep(1.0)
    for _ in range(int(_PATIENCE)):
        try:
            yield from ask(target, "GET", target.get)
        except Unmet:
            return
        yield Sleep(1.0)
    raise Unmet("state", f"expected the end of the server within {_PATIENCE:g} s")


CASES = (*_status.cases, *_core.cases, *_devices.cases, *_shutdown.cases)

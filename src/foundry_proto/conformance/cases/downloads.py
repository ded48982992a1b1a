"""Downloads: the progress that is told, the end that clients wait for, and what is refused.

Knows: how the official clients read an answer, each in its own way. Nothing is fetched without `--allow
download`; a model that is here already is asked for where that is enough.
Refuses to know: where a server has its models from.
"""

from __future__ import annotations

import re
from typing import Any, Final

from foundry_proto.conformance.asking import ask, open_link, progress_of, request
from foundry_proto.conformance.case import Section
from foundry_proto.conformance.expecting import equal, find, is_a, message, require, status
from foundry_proto.conformance.link import Reply
from foundry_proto.conformance.problems import Unmet
from foundry_proto.conformance.steps import Script, Together
from foundry_proto.conformance.target import Target
from foundry_proto.jsontext import ContentError, load_json

__all__ = ["CASES"]

_PATH: Final = "/openai/download"
_PAGE: Final = "the REST reference page, POST /openai/download"
_here = Section(
    "download",
    group="downloads",
    profiles=("documented", "sdk-0.5"),
    source=_PAGE,
    needs=("model", "download"),
)
_new = Section(
    "download.new",
    group="downloads",
    profiles=("documented", "sdk-0.5"),
    source=_PAGE,
    needs=("uncached", "download"),
    order="alone",
)
_refused = Section("download.refuses", group="downloads", profiles=("documented", "sdk-0.5"), source=_PAGE)
_PYTHON: Final = "the official client for Python"
_JAVASCRIPT: Final = "the official client for JavaScript"
_CSHARP: Final = "the official client for C#"
_PERCENT: Final = re.compile(r"(\d+(?:\.\d+)?)%")
_PAUSE: Final = 0.1


def _request(entry: Any) -> dict[str, object]:
    """A model of the list as the official client for Python asks for it."""
    provider = str(find(entry, "providerType"))
    return {
        "model": {
            "Name": find(entry, "name"),
            "Uri": find(entry, "uri"),
            "Publisher": find(entry, "publisher"),
            "ProviderType": f"{provider}Local" if provider == "AzureFoundry" else provider,
            "PromptTemplate": find(entry, "promptTemplate"),
        },
        "token": None,
        "IgnorePipeReport": True,
    }


def _cached_entry(target: Target) -> Script[Any]:
    """The chat model as the list shows it."""
    body = message((yield from ask(target, "GET", "/foundry/list")), object)
    entries = is_a(body, "models" if isinstance(body, dict) else "", list)
    listed = [entry for entry in entries if find(entry, "name") == target.listed]
    require(listed, "body", f"expected {target.model_id} in /foundry/list")
    return listed[0]


def _again(target: Target) -> Script[Reply]:
    """Ask for a model that is here."""
    body = _request((yield from _cached_entry(target)))
    reply = yield from ask(target, "POST", _PATH, body)
    status(reply, 200)
    return reply


def _lines(reply: Reply) -> list[str]:
    return reply.body.decode("utf-8", "replace").splitlines()


def _result(reply: Reply) -> Any:
    """The final object, as the client for Python finds it: from the first line that begins with a brace."""
    lines = _lines(reply)
    starts = [number for number, line in enumerate(lines) if line.startswith("{")]
    require(starts, "progress", "expected a line that begins with {, got none")
    text = "".join(lines[starts[0] :])
    try:
        return load_json(text.encode())
    except ContentError as error:
        raise Unmet("progress", f"expected JSON at the end, got {text[:120]!r}: {error}") from None


@_here.case("cached", "A model that is here already is downloaded at once, with success.")
def _cached(target: Target) -> Script[None]:
    _, result = progress_of((yield from _again(target)))
    require(result.success, "progress", f"expected success, got {result.error_message!r}")


@_here.case("result", "The last object has Success and ErrorMessage.", profiles=("documented",))
def _page_result(target: Target) -> Script[None]:
    result = _result((yield from _again(target)))
    equal(result, "Success", True)
    equal(result, "ErrorMessage", None)


@_here.case(
    "result.client",
    "The last object has success, as the clients read it.",
    profiles=("sdk-0.5",),
    source=_PYTHON,
)
def _client_result(target: Target) -> Script[None]:
    equal(_result((yield from _again(target))), "success", True)


@_here.case(
    "result.key",
    "The last object has errorMessage, also where it is null.",
    profiles=("sdk-0.5",),
    source=_CSHARP,
)
def _client_key(target: Target) -> Script[None]:
    equal(_result((yield from _again(target))), "errorMessage", None)


@_here.case(
    "result.flat",
    "The last object is flat, and from the last brace on there is nothing else.",
    profiles=("sdk-0.5",),
    source=_CSHARP,
)
def _flat(target: Target) -> Script[None]:
    text = (yield from _again(target)).body.decode("utf-8", "replace")
    last = text[text.rfind("{") :]
    try:
        load_json(last.encode())
    except ContentError:
        raise Unmet("progress", f"expected JSON from the last brace on, got {last[:120]!r}") from None


@_here.case("result.line", "The last object begins a line.", source=_PYTHON)
def _line(target: Target) -> Script[None]:
    text = (yield from _again(target)).body.decode("utf-8", "replace")
    start = text.find("{")
    require(start == 0 or text[start - 1 : start] == "\n", "progress", "expected { at a line's beginning")


@_here.case(
    "result.pause",
    "The last object comes in a read of its own, some time behind the progress.",
    profiles=("sdk-0.5",),
    source=_JAVASCRIPT,
)
def _pause(target: Target) -> Script[None]:
    pieces = (yield from _again(target)).pieces
    last = pieces[-1]
    require(
        last.data.startswith(b"{"),
        "progress",
        f"expected {{ at the last piece's beginning, got {last.data[:40]!r}",
    )
    gap = last.at - pieces[-2].at if len(pieces) > 1 else _PAUSE
    require(gap >= _PAUSE, "time", f"expected {_PAUSE:g} s at least before the last object, got {gap:.3f} s")


@_here.case(
    "end",
    "The progress ends with 100 percent, and a line that says so, before the last object.",
    profiles=("sdk-0.5",),
    source=_CSHARP,
)
def _end(target: Target) -> Script[None]:
    lines = _lines((yield from _again(target)))
    before = [line for line in lines if not line.startswith("{")]
    ends = [line for line in before if "[DONE]" in line or "All Completed" in line]
    require(ends, "progress", "expected a line with [DONE] or All Completed, got none")


@_here.case("end.tuple", 'The progress ends with ("", 1).', profiles=("documented",))
def _end_tuple(target: Target) -> Script[None]:
    lines = [line.replace(" ", "") for line in _lines((yield from _again(target)))]
    require('("",1)' in lines, "progress", f'expected ("", 1) as a line, got {lines[:4]}')


@_here.case(
    "end.percent",
    "The progress ends with a line that begins with Total, and says 100%.",
    profiles=("sdk-0.5",),
    source=_CSHARP,
)
def _end_percent(target: Target) -> Script[None]:
    totals = [line for line in _lines((yield from _again(target))) if line.startswith("Total")]
    require(totals, "progress", "expected a line that begins with Total, got none")
    last = totals[-1]
    right = "Downloading" in last and "100%" in last
    require(right, "progress", f"expected Total 100% Downloading …, got {last!r}")


@_here.case(
    "spelling",
    "A request's properties may be written in any letter case.",
    profiles=("sdk-0.5",),
    source=_CSHARP,
)
def _spelling(target: Target) -> Script[None]:
    body = _request((yield from _cached_entry(target)))
    model = body["model"]
    assert isinstance(model, dict)
    body = {"Model": {name.lower(): value for name, value in model.items()}, "ignorepipereport": True}
    reply = yield from ask(target, "POST", _PATH, body)
    status(reply, 200)
    require(progress_of(reply)[1].success, "progress", "expected success, got a failure")


@_here.case(
    "name",
    "A model may be asked for by its name alone, or is refused so that clients see it.",
    level="SHOULD",
    source="an older REST reference",
)
def _name_alone(target: Target) -> Script[None]:
    reply = yield from ask(target, "POST", _PATH, {"model": target.listed})
    status(reply, 200, 400)
    require(b"rror" in reply.body, "body", f"expected a result or an error, got {reply.body[:120]!r}")


def _fresh(target: Target) -> Script[Reply]:
    """Download a model that is not here; the second time it is."""
    reply = yield from ask(target, "POST", _PATH, _request(target.uncached))
    status(reply, 200)
    return reply


@_new.case("together", "Two downloads of one model at the same time both succeed.")
def _together(target: Target) -> Script[None]:
    for reply in (yield Together((_fresh(target), _fresh(target)))):
        result = progress_of(reply)[1]
        require(result.success, "progress", f"expected success, got {result.error_message!r}")


@_new.case("listed", "A model that was downloaded is among the cached ones.")
def _listed(target: Target) -> Script[None]:
    yield from _fresh(target)
    cached = message((yield from ask(target, "GET", "/openai/models")), object)
    name = find(target.uncached, "name")
    require(name in is_a(cached, "", list), "state", f"expected {name} among {cached}")


@_new.case("hang-up", "A client that goes away in the middle of a download does the server no harm.")
def _hang_up(target: Target) -> Script[None]:
    link = yield from open_link(target)
    yield from link.send(request(target, "POST", _PATH, {**_request(target.uncached), "Force": True}))
    status((yield from link.head("POST")), 200)
    yield from link.piece()
    yield from link.close()
    _, result = progress_of((yield from _fresh(target)))
    require(result.success, "progress", f"expected success, got {result.error_message!r}")


@_new.case("grammar", "Each update has a line of the page's form, or one as the clients read it.")
def _grammar(target: Target) -> Script[None]:
    body = {**_request(target.uncached), "Force": True}
    reply = yield from ask(target, "POST", _PATH, body)
    updates, _ = progress_of(reply)
    require(updates, "progress", "expected updates, got none")
    for line in _lines(reply):
        odd = line and not line.startswith(("(", "Total ", "[DONE]", "{")) and "All Completed" not in line
        require(not odd, "progress", f"expected a line of progress, got {line!r}")


@_new.case("rising", "Progress never falls back, and stays between 0 and 1.")
def _rising(target: Target) -> Script[None]:
    body = {**_request(target.uncached), "Force": True}
    updates, _ = progress_of((yield from ask(target, "POST", _PATH, body)))
    fractions = [update.fraction for update in updates]
    require(fractions == sorted(fractions), "progress", f"expected rising fractions, got {fractions}")


@_new.case(
    "percent", "Each update has a percentage that the clients find.", profiles=("sdk-0.5",), source=_PYTHON
)
def _percent(target: Target) -> Script[None]:
    body = {**_request(target.uncached), "Force": True}
    reply = yield from ask(target, "POST", _PATH, body)
    updates, _ = progress_of(reply)
    found = _PERCENT.findall(reply.body.decode("utf-8", "replace"))
    require(len(found) >= len(updates), "progress", f"expected {len(updates)} percentages, got {len(found)}")


_REFUSED: Final[tuple[tuple[str, str, object], ...]] = (
    ("empty", "A download of nothing is refused.", {}),
    ("model", "A model that is a number is refused.", {"model": 5}),
    ("nameless", "A model without a name is refused.", {"model": {"Uri": "azureml://x"}}),
    (
        "unknown",
        "A model that no catalogue has is refused.",
        {"model": {"Name": "no-such-model:1", "Uri": "nowhere://x"}},
    ),
    (
        "upwards",
        "A name that leads out of the models' directory is refused.",
        {"model": {"Name": "..:1", "Uri": "nowhere://x"}},
    ),
    (
        "publisher",
        "A publisher that leads out of the models' directory is refused.",
        {"model": {"Name": "x:1", "Uri": "nowhere://x", "Publisher": "../x"}},
    ),
)


def _add(name: str, requirement: str, body: object) -> None:
    def script(target: Target) -> Script[None]:
        reply = yield from ask(target, "POST", _PATH, body)
        if reply.status == 200:
            result = _result(reply)
            success = find(result, "success", find(result, "Success", None))
            require(success is False, "progress", f"expected success false, got {success}")
        else:
            status(reply, 400, 403, 404, 422, 500)
            require(b"rror" in reply.body, "body", f"expected an error, got {reply.body[:120]!r}")

    _refused.add(name, requirement, script)


for _row in _REFUSED:
    _add(*_row)


@_refused.case(
    "message",
    "A refusal says why in errorMessage, where the clients look for it.",
    profiles=("sdk-0.5",),
    level="SHOULD",
    source=_PYTHON,
)
def _message(target: Target) -> Script[None]:
    body = {"model": {"Name": "no-such-model:1", "Uri": "nowhere://x"}}
    result = _result((yield from ask(target, "POST", _PATH, body)))
    equal(result, "success", False)
    is_a(result, "errorMessage", str)


CASES = (*_here.cases, *_refused.cases, *_new.cases)

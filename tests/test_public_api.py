"""What is public: every module says so in `__all__`, completely, and opens by saying what it is for."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

import pytest

SOURCES: Final = Path(__file__).parent.parent / "src"
FILES: Final = tuple(sorted(SOURCES.glob("foundry_*/**/*.py")))

PACKAGES: Final[dict[str, list[str]]] = {
    "foundry_proto": [
        "ABSENT",
        "CHAT_COMPLETIONS",
        "DOCUMENTED",
        "NEED_DATA",
        "Absent",
        "ChatAssembler",
        "ClientConnection",
        "ClientExchange",
        "ContentError",
        "Disconnected",
        "Failure",
        "Head",
        "Identity",
        "Limits",
        "LocalProtocolError",
        "NeedData",
        "Operation",
        "Operations",
        "Phase",
        "ProgressDecoder",
        "ProtocolError",
        "RemoteProtocolError",
        "Request",
        "Response",
        "SSEDecoder",
        "ServerConnection",
        "ServerExchange",
        "ServerSentEvent",
        "StreamEnd",
        "StreamItem",
        "TextStream",
        "Write",
        "__version__",
        "answer_to",
        "decode",
        "encode",
        "encode_event",
        "encode_progress",
    ],
    "foundry_proto.conformance": [
        "ALL_PROFILES",
        "CASES",
        "GROUPS",
        "HAND_WRITTEN",
        "PROFILES",
        "Call",
        "Case",
        "Close",
        "Happened",
        "Level",
        "Open",
        "Outcome",
        "Permission",
        "Profile",
        "ProfileName",
        "Receive",
        "Report",
        "Script",
        "Section",
        "Send",
        "Sleep",
        "Step",
        "Target",
        "Together",
        "Unmet",
        "Untestable",
        "Verdict",
        "derive",
        "drive",
        "judge",
        "judge_all",
        "look",
        "run_script",
        "selected",
        "with_known",
    ],
    "foundry_runtime.conformance": [
        "BadKnownFile",
        "Place",
        "junit",
        "perform",
        "perform_blocking",
        "read_known",
    ],
    "foundry_proto.connection": ["ClientConnection", "Limits", "Phase", "ServerConnection", "Write"],
    "foundry_proto.operations": [
        "ALL",
        "CHAT_COMPLETIONS",
        "COMPLETIONS",
        "CORE",
        "DOCUMENTED",
        "EMBEDDINGS",
        "EXTRA",
        "MAX_REQUEST_BODY",
        "OPENAI",
        "WATCH",
        "Match",
        "Operation",
        "Operations",
        "Profile",
    ],
    "foundry_proto.conversation": [
        "MAX_CALLS",
        "MAX_ID",
        "Answered",
        "Called",
        "Cancelled",
        "ClientConversation",
        "Complained",
        "Ended",
        "Refused",
        "ServerConversation",
        "Told",
        "WatchBegun",
        "is_wanted",
        "same_json",
    ],
    "foundry_proto.exchange": [
        "MAX_QUERY_WORDS",
        "Answer",
        "Asked",
        "ClientAnswer",
        "ClientExchange",
        "Data",
        "End",
        "Gate",
        "Piece",
        "ServerExchange",
        "Start",
    ],
    "foundry_proto.transfer": [
        "Action",
        "BadPlan",
        "Ended",
        "Fetch",
        "Plan",
        "Prepare",
        "Range",
        "SaveRecord",
        "Transfer",
        "Verify",
        "Wait",
        "WantedFile",
    ],
    "foundry_runtime": [
        "Application",
        "Client",
        "Engine",
        "EngineWorker",
        "Generation",
        "Hangup",
        "InlineWorker",
        "Job",
        "Sampling",
        "Send",
        "ServerFailure",
        "Stream",
        "TimeOuts",
        "Transport",
        "TransportBroken",
        "TransportClosed",
        "Worker",
        "connect_tcp",
        "memory_transport_pair",
        "open_tcp_listeners",
        "serve",
        "serve_connection",
    ],
    "foundry_runtime.download.fetching": ["Limits", "Listing", "RemoteFile", "fetch_folder"],
    "foundry_runtime.engine.batched": ["BatchedEngine"],
    "foundry_runtime.engine.genai": ["GenaiEngine"],
    "foundry_runtime.platform": [
        "LazyMemory",
        "birth_of",
        "end_with_parent",
        "flush_file",
        "flush_folder",
        "is_link",
        "kill_process",
        "leave_signals_to_parent",
        "make_private_folder",
        "offer_memory_first",
        "port_holder",
        "request_stop",
        "reserve",
        "resident_memory",
        "return_freed_memory",
        "return_large_memory_at_once",
        "shared_library_name",
        "space_taken",
        "start_detached",
        "stop_requests",
        "take_lock",
        "try_lock",
        "unix_socket_family",
        "usable_cores",
        "usable_memory",
        "write_whole",
    ],
    "foundry_runtime.transport": [
        "Handler",
        "Listener",
        "StreamTransport",
        "Transport",
        "TransportBroken",
        "TransportBusy",
        "TransportClosed",
        "connect_tcp",
        "connect_unix",
        "memory_transport_pair",
        "open_tcp_listeners",
        "open_unix_listener",
        "wrap_socket",
    ],
    "foundry_runtime.websocket": [
        "Closed",
        "Conversation",
        "ConversationClosed",
        "Conversing",
        "Frames",
        "Patience",
        "Reply",
        "Text",
        "TextSocket",
        "WebSocket",
        "open_conversation",
        "open_websocket",
        "text_limit",
    ],
    "foundry_serve": ["make_application"],
    "foundry_serve.cli": ["main"],
    "foundry_serve.handlers": ["HANDLERS"],
}
"""What the packages themselves offer; every other package's names stand in its modules."""


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCES).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def is_type_variable(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Call) and ast.unparse(value.func) in {"TypeVar", "ParamSpec"}


def defined(tree: ast.Module) -> list[str]:
    """What a module itself defines for others: no imports, no private names, no type variables."""
    names: list[str] = []
    for node in tree.body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.append(node.name)
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if not is_type_variable(value):
                names.append(name)
            case ast.AnnAssign(target=ast.Name(id=name), value=value) if not is_type_variable(value):
                names.append(name)
    return [name for name in names if not name.startswith("_")]


def imported(tree: ast.Module) -> list[str]:
    """What a module has from others."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return [alias.asname or alias.name for node in nodes for alias in node.names]


def exported(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id="__all__")], value=value)
                | ast.AnnAssign(target=ast.Name(id="__all__"), value=ast.expr() as value)
            ):
                return list(ast.literal_eval(value))
    return None


def is_private(path: Path) -> bool:
    return path.stem.startswith("_") and path.stem != "__init__"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_module_opens_with_what_it_is_for(path: Path) -> None:
    opening = ast.get_docstring(tree_of(path)) or ""
    assert opening.splitlines()[0:1] != [], f"{name_of(path)} has no opening docstring"
    assert opening.splitlines()[0].endswith((".", ":")), "an opening line is a sentence"


@pytest.mark.parametrize("path", [path for path in FILES if not is_private(path)], ids=name_of)
def test_a_module_lists_each_public_name_that_it_defines(path: Path) -> None:
    tree = tree_of(path)
    missing = set(defined(tree)) - set(exported(tree) or [])
    # Of constants and loggers a module may keep some to itself and its neighbours.
    assert {name for name in missing if not name.isupper() and name != "logger"} == set()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_each_listed_name_is_there_once(path: Path) -> None:
    tree = tree_of(path)
    names = exported(tree) or []
    assert len(names) == len(set(names))
    # Read, not imported: what a module imports may not be installed.
    assert set(names) - set(defined(tree)) - set(imported(tree)) == set()


def test_packages_offer_what_is_listed_here() -> None:
    offered = {name_of(path): exported(tree_of(path)) for path in FILES if path.stem == "__init__"}
    assert {name: names for name, names in offered.items() if names} == PACKAGES

"""An entry of the public catalogue, as a model of ours.

Knows: where an entry says what, and what it must say to be a model that can be listed and fetched.
Refuses to know: how entries come here, and whether a model could be loaded.

An entry is a stranger's text: what would break a list, a folder's name or a terminal is refused, with a
sentence about the field; what is only decoration is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, get_args

from foundry_proto.catalog import Device, device_of
from foundry_proto.jsontext import ContentError, load_json, show
from foundry_proto.paths import is_file_name
from foundry_runtime.models.description import ModelFacts
from foundry_runtime.models.folder import DEFAULT_MAX_OUTPUT

__all__ = ["PROVIDER_TYPE", "read_entry"]

PROVIDER_TYPE: Final = "AzureFoundry"
"""What the catalogue's models are said to come from."""

_MEGABYTE: Final = 1024 * 1024
_LONGEST: Final = 300
"""Characters of a line; what is longer is no name, no address and no licence's."""
_LONGEST_TEXT: Final = 20_000
_TAGS: Final = "annotations.tags"
_SYSTEM: Final = "annotations.systemCatalogData"
_VARIANT: Final = "properties.variantInfo.variantMetadata"
_PARENT_NAME: Final = re.compile(r"/models/([^/]+)")
_DEVICES: Final[tuple[Device, ...]] = get_args(Device)
_WHOLE: Final = re.compile(r"[0-9]{1,15}")


def read_entry(entry: object) -> ModelFacts:
    """Read an entry.

    Raises:
        ContentError: It is no model that can be listed and fetched; the text names the field.
    """
    uri = _line(entry, "assetId")
    _line(entry, "entityId")
    name, version = _line(entry, "properties.name"), _version(entry)
    if not isinstance(_find(entry, "properties.variantInfo"), Mapping):
        raise _odd(entry, "properties.variantInfo", "an object")
    model_id = f"{name}:{version}"
    if not is_file_name(f"{name}-{version}") or name.startswith(".") or ":" in name:
        raise _odd(entry, "properties.name", "a name that a folder can have")
    publisher = _words(entry, f"{_SYSTEM}.publisher")
    if publisher and (not is_file_name(publisher) or publisher.startswith(".")):
        raise _odd(entry, f"{_SYSTEM}.publisher", "a name that a folder can have")
    device = _device(entry, model_id)
    parent = _parent(entry)
    return ModelFacts(
        id=model_id,
        alias=_alias(entry, parent, name),
        uri=uri,
        provider_type=PROVIDER_TYPE,
        publisher=publisher,
        model_type=_words(entry, f"{_VARIANT}.modelType") or "ONNX",
        task=_words(entry, f"{_TAGS}.task") or "chat-completion",
        license=_words(entry, f"{_TAGS}.license"),
        license_description=_text(entry, f"{_TAGS}.licenseDescription"),
        parent_uri=parent,
        file_size_mb=_whole(entry, f"{_VARIANT}.fileSizeBytes", 0) // _MEGABYTE,
        max_output_tokens=_max_output(entry),
        prompt_template=_prompt_template(entry),
        supports_tool_calling=_flag(entry, "supportsToolCalling"),
        device=device,
        execution_provider=_execution_provider(entry, device),
        created=_seconds(_find(entry, "properties.creationContext.createdTime")),
        min_fl_version=_words(entry, "properties.minFLVersion"),
        tool_call_start=_mark(entry, "toolCallStart"),
        tool_call_end=_mark(entry, "toolCallEnd"),
        supports_reasoning=_flag(entry, "supportsReasoning"),
        reasoning_start=_mark(entry, "reasoningStart"),
        reasoning_end=_mark(entry, "reasoningEnd"),
    )


def _find(entry: object, path: str) -> object:
    """Whatever stands there; `None` for nothing."""
    for name in path.split("."):
        entry = entry.get(name) if isinstance(entry, Mapping) else None
    return entry


def _odd(entry: object, path: str, expected: str) -> ContentError:
    value = _find(entry, path)
    got = "nothing" if value is None else show(value)
    return ContentError(f"expected {expected}, got {got}", tuple(path.split(".")))


def _line(entry: object, path: str) -> str:
    """A text that must be there."""
    value = _find(entry, path)
    if isinstance(value, str) and 0 < len(value) <= _LONGEST and value.isprintable() and value.strip():
        return value
    raise _odd(entry, path, f"a line of at most {_LONGEST} characters")


def _words(entry: object, path: str) -> str:
    """A text in one line, or none; what a terminal would not print as it is becomes a blank."""
    value = _find(entry, path)
    if not isinstance(value, str):
        return ""
    return " ".join("".join(c if c.isprintable() else " " for c in value[:_LONGEST]).split())


def _text(entry: object, path: str) -> str:
    """A text, perhaps of several lines."""
    value = _find(entry, path)
    if not isinstance(value, str):
        return ""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in value[:_LONGEST_TEXT]).strip()


def _whole(entry: object, path: str, default: int) -> int:
    """A whole number, also as a text."""
    value = _find(entry, path)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    return int(value) if isinstance(value, str) and _WHOLE.fullmatch(value) else default


def _flag(entry: object, tag: str) -> bool:
    value = _find(entry, f"{_TAGS}.{tag}")
    return value is True or (isinstance(value, str) and value.strip().lower() == "true")


def _mark(entry: object, tag: str) -> str:
    """What stands before or behind something in a model's own text, to the letter."""
    value = _find(entry, f"{_TAGS}.{tag}")
    return value if isinstance(value, str) and len(value) <= _LONGEST else ""


def _version(entry: object) -> int:
    """The version, as a number: clients compare them."""
    version = _whole(entry, "properties.version", -1)
    if not 0 <= version < 10**9:
        raise _odd(entry, "properties.version", "a whole number")
    return version


def _device(entry: object, model_id: str) -> Device:
    stated = _words(entry, f"{_VARIANT}.device").upper()
    for device in _DEVICES:
        if stated == device:
            return device
    if not stated and (named := device_of(model_id)) is not None:
        return named
    raise _odd(entry, f"{_VARIANT}.device", "cpu, gpu or npu")


def _execution_provider(entry: object, device: Device) -> str:
    stated = _words(entry, f"{_VARIANT}.executionProvider")
    if not stated and device != "CPU":
        raise _odd(entry, f"{_VARIANT}.executionProvider", "the name of an execution provider")
    return stated or "CPUExecutionProvider"


def _parent(entry: object) -> str:
    parents = _find(entry, "properties.variantInfo.parents")
    return _words(parents[0], "assetId") if isinstance(parents, list) and parents else ""


def _alias(entry: object, parent: str, name: str) -> str:
    if (stated := _words(entry, f"{_TAGS}.alias")) and ":" not in stated:
        return stated
    named = _PARENT_NAME.search(parent)
    return named[1] if named else name


def _max_output(entry: object) -> int:
    system = _whole(entry, f"{_SYSTEM}.maxOutputTokens", 0)
    return _whole(entry, f"{_TAGS}.maxOutputTokens", 0) or system or DEFAULT_MAX_OUTPUT


def _prompt_template(entry: object) -> Mapping[str, str] | None:
    """What the tag holds as JSON; some have no more than decoration there."""
    try:
        content = load_json(str(_find(entry, f"{_TAGS}.promptTemplate")).encode())
    except ContentError:
        return None
    if not isinstance(content, Mapping):
        return None
    texts = {role: text for role, text in content.items() if isinstance(text, str) and len(text) <= 10_000}
    return texts or None


def _seconds(stated: object) -> int:
    """A time in seconds since 1970; 0 for none."""
    try:
        time = datetime.fromisoformat(str(stated))
    except ValueError:
        return 0
    return max(0, int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()))

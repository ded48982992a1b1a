"""What a model folder says about its model: `genai_config.json` and `inference_model.json`.

Knows: which of their fields matter here, and how to say which one is wrong.
Refuses to know: weights, tokenizers, and what else onnxruntime-genai reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import EllipsisType
from typing import Final, Literal, NoReturn, TypeVar

from attrs import frozen

from foundry_runtime.engine.embed_config import gives_embeddings
from foundry_runtime.models.names import canonical_id

__all__ = [
    "CONFIG_FILE",
    "IDENTITY_FILE",
    "BadModelFolder",
    "ModelFolder",
    "SearchDefaults",
    "Task",
    "read_name",
]

CONFIG_FILE: Final = "genai_config.json"
"""onnxruntime-genai's own description of a model."""
IDENTITY_FILE: Final = "inference_model.json"
"""Which model this is: the last file that a download or an import writes."""

_UNFINISHED: Final = "download.tmp"
_DEFAULT_MAX_OUTPUT: Final = 1024

T = TypeVar("T")


Task = Literal["chat-completion", "embeddings"]
"""What a model is there for, in the catalogue's words."""


class BadModelFolder(ValueError):
    """A model folder cannot be used; the message names the file, the field and what was expected."""


@frozen(kw_only=True)
class SearchDefaults:
    """How a model's authors want tokens drawn from it; `None` where they say nothing."""

    do_sample: bool | None = None
    """Whether tokens are drawn at random; if not, the likeliest is taken."""
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None


@frozen(kw_only=True)
class ModelFolder:
    """A model on disk."""

    path: Path
    id: str
    """Name and version: `smollm2-135m-instruct-generic-cpu:1`."""
    context_length: int
    """Most tokens of prompt and output together."""
    vocab_size: int
    """How many ids the model can generate: at least as many as its tokenizer knows."""
    end_ids: tuple[int, ...]
    """The tokens that end an answer; a model for embeddings gives none, and needs none."""
    max_output_tokens: int
    """How many tokens an answer may have when its request gives no limit."""
    search: SearchDefaults
    task: Task = "chat-completion"

    @classmethod
    def read(cls, path: Path) -> ModelFolder:
        """Read a model folder's two descriptions; fields that are not known are passed over.

        Args:
            path: The folder.

        Raises:
            BadModelFolder: A file or a field is missing, or is not what it must be.
        """
        identity = _Document.read(path / IDENTITY_FILE)
        config = _Document.read(path / CONFIG_FILE)
        task = _task(path, identity, config)
        return cls(
            path=path,
            id=canonical_id(identity.text("Name")),
            context_length=config.whole("model.context_length", at_least=1),
            vocab_size=config.whole("model.vocab_size", at_least=1),
            end_ids=config.wholes("model.eos_token_id") if task == "chat-completion" else (),
            max_output_tokens=identity.whole("maxOutputTokens", at_least=1, default=_DEFAULT_MAX_OUTPUT),
            search=SearchDefaults(
                do_sample=config.flag("search.do_sample"),
                temperature=config.number("search.temperature", at_most=100),
                top_p=config.number("search.top_p", at_most=1),
                top_k=config.whole("search.top_k", default=None),
            ),
            task=task,
        )


def _task(path: Path, identity: _Document, config: _Document) -> Task:
    """What `task` says; else what the graph gives.

    Choice: a model has one task. Of a graph that gives both logits and hidden states the second counts, since
    exporters leave them out unless they are asked for; `task` overrules it.
    """
    stated = identity.find("task")
    if stated is not None:
        return "embeddings" if stated == "embeddings" else "chat-completion"
    return "embeddings" if gives_embeddings(path, config.find("model")) else "chat-completion"


def read_name(path: Path) -> str | None:
    """The id by which a folder counts as a model; `None` when it does not.

    A model is being downloaded where `download.tmp` is, and one without a name is not for this service.
    """
    if not (path / CONFIG_FILE).is_file() or (path / _UNFINISHED).exists():
        return None
    try:
        return canonical_id(_Document.read(path / IDENTITY_FILE).text("Name"))
    except BadModelFolder:
        return None


@frozen
class _Document:
    """A JSON file, whose fields are named by their path: `model.context_length`."""

    path: Path
    content: Mapping[str, object]

    @classmethod
    def read(cls, path: Path) -> _Document:
        try:
            content = json.loads(path.read_bytes())
        except OSError as error:
            raise BadModelFolder(f"{path}: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise BadModelFolder(f"{path}: expected JSON: {error}") from error
        if not isinstance(content, dict):
            raise BadModelFolder(f"{path}: expected an object, got {_shown(content)}")
        return cls(path, content)

    def text(self, field: str) -> str:
        value = self.find(field)
        return value if isinstance(value, str) and value else self._wrong(field, "a name")

    def flag(self, field: str) -> bool | None:
        value = self.find(field)
        return value if value is None or isinstance(value, bool) else self._wrong(field, "true or false")

    def number(self, field: str, *, at_most: float) -> float | None:
        value = self.find(field)
        if value is None:
            return None
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= at_most:
            return float(value)
        return self._wrong(field, f"a number from 0 to {at_most}")

    def whole(self, field: str, *, at_least: int = 0, default: T | EllipsisType = ...) -> int | T:
        """A whole number; where nothing is said, the default if there is one."""
        value = self.find(field)
        if value is None and not isinstance(default, EllipsisType):
            return default
        if isinstance(value, int) and not isinstance(value, bool) and value >= at_least:
            return value
        return self._wrong(field, f"a whole number of at least {at_least}")

    def wholes(self, field: str) -> tuple[int, ...]:
        """One or more whole numbers, a single one also without a list."""
        value = self.find(field)
        numbers = value if isinstance(value, list) else [value]
        if numbers and all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers):
            return tuple(numbers)
        return self._wrong(field, "a token id or a list of them")

    def find(self, field: str) -> object:
        """What a field holds; `None` where there is none."""
        value: object = self.content
        for name in field.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    def _wrong(self, field: str, expected: str) -> NoReturn:
        raise BadModelFolder(f"{self.path}: {field}: expected {expected}, got {_shown(self.find(field))}")


def _shown(value: object) -> str:
    """A value as JSON, cut to a readable length; nothing and null are the same to these files."""
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}…"

"""What a model folder says about its model: `genai_config.json` and `inference_model.json`.

Knows: which of their fields matter here, and how to say which one is wrong.
Refuses to know: weights, tokenizers, and what else onnxruntime-genai reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from attrs import frozen

from foundry_proto.catalog import canonical_id
from foundry_proto.chat.markup import REASONING
from foundry_runtime.engine.embed_config import gives_embeddings
from foundry_runtime.engine.provider_options import own_provider
from foundry_runtime.models.document import BadModelFolder, Document

__all__ = [
    "CONFIG_FILE",
    "DEFAULT_MAX_OUTPUT",
    "IDENTITY_FILE",
    "IDENTITY_VERSION",
    "UNFINISHED_FILE",
    "BadModelFolder",
    "ModelFolder",
    "SearchDefaults",
    "Task",
    "kept_facts",
    "read_names",
    "task_of",
]

CONFIG_FILE: Final = "genai_config.json"
"""onnxruntime-genai's own description of a model."""
IDENTITY_FILE: Final = "inference_model.json"
"""Which model this is: the last file that a download or an import writes."""
IDENTITY_VERSION: Final = 1
"""Of what this program adds to `inference_model.json`."""
UNFINISHED_FILE: Final = "download.tmp"
"""There as long as a folder is being downloaded."""

DEFAULT_MAX_OUTPUT: Final = 1024
"""Most tokens of an answer, where neither its request nor its model says anything."""

Task = Literal["chat-completion", "embeddings"]
"""What a model is there for, in the catalogue's words."""


@frozen(kw_only=True)
class SearchDefaults:
    """How a model's authors want tokens drawn from it; `None` where they say nothing."""

    do_sample: bool | None = None
    """Whether tokens are drawn at random; if not, the likeliest is taken."""
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    random_seed: int | None = None
    """Where randomness begins, if its authors want every answer to begin alike."""


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
    call_markers: tuple[str, str] | None = None
    """What stands before and behind the calls that it writes; `None` leaves it to its template and tokens."""
    reasoning_markers: tuple[str, str] | None = None
    """The same for its reasoning."""
    provider: str = "cpu"
    """The execution provider that it was made for."""

    @classmethod
    def read(cls, path: Path) -> ModelFolder:
        """Read a model folder's two descriptions; fields that are not known are passed over.

        Args:
            path: The folder.

        Raises:
            BadModelFolder: A file or a field is missing, or is not what it must be.
        """
        identity = Document.read(path / IDENTITY_FILE)
        config = Document.read(path / CONFIG_FILE)
        task = task_of(path, identity, config)
        return cls(
            path=path,
            id=canonical_id(identity.text("Name")),
            context_length=config.whole("model.context_length", at_least=1),
            vocab_size=config.whole("model.vocab_size", at_least=1),
            end_ids=config.wholes("model.eos_token_id") if task == "chat-completion" else (),
            max_output_tokens=identity.whole("maxOutputTokens", at_least=1, default=DEFAULT_MAX_OUTPUT),
            search=SearchDefaults(
                do_sample=config.flag("search.do_sample"),
                temperature=config.number("search.temperature", at_most=100),
                top_p=config.number("search.top_p", at_most=1),
                top_k=config.whole("search.top_k", default=None),
                repetition_penalty=config.number("search.repetition_penalty", at_least=0.1, at_most=10),
                random_seed=_seed(config),
            ),
            task=task,
            call_markers=_markers(identity, "toolCallStart", "toolCallEnd"),
            reasoning_markers=_reasoning(identity),
            provider=own_provider(config.find("model")),
        )


def _markers(identity: Document, start: str, end: str) -> tuple[str, str] | None:
    """A pair of markers; no text is none."""
    begins, ends = identity.line(start), identity.line(end)
    return (begins, ends or "") if begins else None


def _reasoning(identity: Document) -> tuple[str, str] | None:
    """Its markers; of a model that reasons and says no more, the most common ones."""
    named = _markers(identity, "reasoningStart", "reasoningEnd")
    if named is not None:
        return named
    return REASONING[0] if identity.flag("supportsReasoning") else None


def _seed(config: Document) -> int | None:
    """The seed; for onnxruntime-genai a negative one asks for chance."""
    seed = config.whole("search.random_seed", at_least=-(2**63), default=None)
    return None if seed is None or seed < 0 else seed


def task_of(path: Path, identity: Document, config: Document) -> Task:
    """What `task` says; else what the graph gives.

    Choice: a model has one task. Of a graph that gives both logits and hidden states the second counts, since
    exporters leave them out unless they are asked for; `task` overrules it.
    """
    stated = identity.find("task")
    if stated is not None:
        return "embeddings" if stated == "embeddings" else "chat-completion"
    return "embeddings" if gives_embeddings(path, config.find("model")) else "chat-completion"


def read_names(path: Path) -> tuple[str, str] | None:
    """The id by which a folder counts as a model, and the alias that it came with, which may be empty.

    Returns:
        The two; `None` when it does not count: without a name, for one.
    """
    if not (path / CONFIG_FILE).is_file():
        return None
    try:
        identity = Document.read(path / IDENTITY_FILE)
        name = canonical_id(identity.text("Name"))
    except BadModelFolder:
        return None
    alias = kept_facts(identity).get("alias")
    return name, alias if isinstance(alias, str) else ""


def kept_facts(identity: Document) -> Mapping[str, object]:
    """What was put beside a model's name when it came.

    Choice: what another version of this program has put there says nothing, except the fields that Foundry
    Local itself knows; a file without a version is anybody's, and is read as far as it goes.
    """
    version = identity.find("formatVersion")
    return identity.content if version in (None, IDENTITY_VERSION) else {}

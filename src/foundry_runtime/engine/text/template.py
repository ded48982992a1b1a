"""A model's chat template: messages in, the prompt's text out.

Knows: where a model folder keeps its template, the variables and functions that such templates expect, and
how much one rendering may take.
Refuses to know: tokens, and where the messages come from.

Templates come from strangers, with the model: whatever one does ends in text or in a `TemplateError` that
names the file, the line and the reason; any other exception is a bug.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import CodeType
from typing import Final, NoReturn

from attrs import frozen
from jinja2 import Template, TemplateSyntaxError

from foundry_runtime.engine.text.metering import Meter
from foundry_runtime.engine.text.parts import from_parts
from foundry_runtime.engine.text.sandbox import Sandbox, metered

__all__ = ["ChatTemplate", "ConversationRefused", "Limits", "NoTemplate", "TemplateError"]


class TemplateError(ValueError):
    """A model's chat template cannot be used, or failed; the message names the file, the line and why."""


class ConversationRefused(TemplateError):
    """The template itself refused these messages, as some do when the roles do not alternate."""


class NoTemplate(TemplateError):
    """The model has no chat template: it lets texts go on, and answers no chats."""


@frozen(kw_only=True)
class Limits:
    """What one rendering may take. What it is given counts, about, as many characters as its text has."""

    work: int = 5_000_000
    """Steps of about 50 ns, and 4 more for each character given."""
    text: int = 16 * 2**20
    """Characters made on the way, and 64 more for each character given. Bounds the memory."""
    output: int = 4 * 2**20
    """Characters of the prompt, and 4 more for each character given."""


_LARGEST_SOURCE: Final = 64 * 2**10
_LONGEST_DATE_FORMAT: Final = 256
_LONGEST_REASON: Final = 500
_TOKEN_NAMES: Final = ("bos", "eos", "unk", "pad", "sep", "cls", "mask")


class _Refusal(Exception):
    """What `raise_exception` raises inside a template."""


@frozen(kw_only=True, eq=False)
class _Compiled:
    """One template, and the name by which errors call it."""

    name: str
    code: CodeType

    @classmethod
    def make(cls, source: str, name: str) -> _Compiled:
        if len(source) > _LARGEST_SOURCE:
            raise TemplateError(f"{name}: expected at most {_LARGEST_SOURCE} characters, got {len(source)}")
        sandbox = Sandbox(Meter(work_left=0, text_left=0))  # compiling computes nothing
        try:
            return cls(name=name, code=sandbox.compile(metered(sandbox.parse(source)), filename=name))
        except TemplateSyntaxError as error:
            raise TemplateError(f"{name}, line {error.lineno}: {error.message}") from error
        # jinja2 and the compiler below it promise nothing about what a hostile source makes them raise.
        except Exception as error:
            raise TemplateError(f"{name}: cannot be compiled: {_reason(error)}") from error

    def render(self, variables: Mapping[str, object], meter: Meter, output: int) -> str:
        sandbox = Sandbox(meter)
        template = Template.from_code(sandbox, self.code, sandbox.globals)
        pieces: list[str] = []
        try:
            for piece in template.root_render_func(template.new_context(dict(variables))):
                output -= len(piece)
                if output < 0:
                    break
                pieces.append(piece)
        except _Refusal as refusal:
            raise ConversationRefused(f"{self._place(template, refusal)}: {refusal}") from refusal
        except Exception as error:  # anything that a template can cause
            raise TemplateError(f"{self._place(template, error)}: {_reason(error)}") from error
        if output < 0:
            raise TemplateError(f"{self.name}: the template makes too long a prompt")
        return "".join(pieces)

    def _place(self, template: Template, error: BaseException) -> str:
        """The innermost line of the template that was being rendered."""
        line = None
        traceback = error.__traceback__
        while traceback is not None:
            if traceback.tb_frame.f_code.co_filename == self.name:
                line = template.get_corresponding_lineno(traceback.tb_lineno)
            traceback = traceback.tb_next
        return self.name if line is None else f"{self.name}, line {line}"


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "the template is nested too deeply"
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 (an error about values that a template made up)
        text = ""
    text = text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}…"
    return text or type(error).__name__


@frozen(kw_only=True, eq=False)
class _Lacking:
    """What stands for a template where there is none."""

    message: str

    def render(self, variables: Mapping[str, object], meter: Meter, most: int) -> str:  # noqa: ARG002 - as of one that is there
        raise NoTemplate(self.message)


@frozen(kw_only=True, eq=False, repr=False)
class ChatTemplate:
    """A model's chat template, compiled once; may be used from several threads at once."""

    source: str
    """The template's own text, and that of the one for requests with tools: it tells how the model writes."""
    variables: Mapping[str, str]
    """The texts of special tokens, such as `bos_token`, which a template may name."""
    limits: Limits
    _default: _Compiled | _Lacking
    _with_tools: _Compiled | _Lacking
    """Some models have another template for requests with tools."""
    _now: Callable[[], datetime]

    @classmethod
    def from_source(
        cls,
        source: str,
        name: str,
        *,
        with_tools: tuple[str, str] | None = None,
        variables: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        now: Callable[[], datetime] | None = None,
    ) -> ChatTemplate:
        """Compile a template.

        Args:
            source: The template.
            name: What errors call it: the file that it came from.
            with_tools: Source and name of the template for requests with tools, when it is another.
            variables: The texts of special tokens.
            limits: What one rendering may take.
            now: The clock behind `strftime_now`; the local time when it is left out.

        Raises:
            TemplateError: It cannot be compiled, or uses a filter or test that is not allowed.
        """
        default = _Compiled.make(source, name)
        return cls(
            source=source if with_tools is None else f"{source}\n{with_tools[0]}",
            variables=variables or {},
            limits=limits or Limits(),
            default=default,
            with_tools=_Compiled.make(*with_tools) if with_tools else default,
            now=now or _local_time,
        )

    @classmethod
    def load(
        cls, folder: Path, *, limits: Limits | None = None, now: Callable[[], datetime] | None = None
    ) -> ChatTemplate:
        """Read a model folder's template: `chat_template.jinja`, or that of `tokenizer_config.json`.

        A folder without one is rendered by the `PromptTemplate` of its `inference_model.json`, if it has one;
        else rendering anything raises `NoTemplate`.

        Blocks for some milliseconds.

        Args:
            folder: The model folder.
            limits: What one rendering may take.
            now: The clock behind `strftime_now`; the local time when it is left out.

        Raises:
            TemplateError: It cannot be used.
        """
        path = folder / "tokenizer_config.json"
        config = _read_config(path)
        variables = {
            f"{name}_token": text
            for name in _TOKEN_NAMES
            if (text := _token_text(config.get(f"{name}_token"))) is not None
        }
        file = folder / "chat_template.jinja"
        if file.exists():
            sources = {"default": (_read_text(file), str(file))}
        else:
            sources = _named_sources(config.get("chat_template"), path)
        if "default" not in sources:
            return cls._from_parts(folder, limits or Limits())
        source, name = sources["default"]
        with_tools = sources.get("tool_use")
        return cls.from_source(
            source, name, with_tools=with_tools, variables=variables, limits=limits, now=now
        )

    @classmethod
    def _from_parts(cls, folder: Path, limits: Limits) -> ChatTemplate:
        path = folder / "inference_model.json"
        parts = _read_config(path).get("PromptTemplate")
        if parts is None:
            lacking = _Lacking(
                message=f"{folder}: expected a chat template, in chat_template.jinja, as chat_template in "
                "tokenizer_config.json, or as PromptTemplate in inference_model.json"
            )
            return cls(
                source="",
                variables={},
                limits=limits,
                default=lacking,
                with_tools=lacking,
                now=_local_time,
            )
        name = f"{path}: PromptTemplate"
        try:
            source, variables = from_parts(parts)
        except ValueError as error:
            raise TemplateError(f"{name}{error}") from None
        return cls.from_source(source, name, variables=variables, limits=limits)

    def render(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        tools: Sequence[Mapping[str, object]] | None = None,
        more: Mapping[str, object] | None = None,
        add_generation_prompt: bool = True,
    ) -> str:
        """Write the conversation as the model was taught to read it.

        Args:
            messages: Plain dicts with `role` and `content`, and what else the template knows.
            tools: The tools that the model may call, `None` without any.
            more: Further variables that some templates look at.
            add_generation_prompt: Whether the text ends where the assistant's answer begins.

        Raises:
            ConversationRefused: The template does not take these messages.
            NoTemplate: There is no template.
            TemplateError: The template failed, or took more than it may.
        """
        given = Meter(work_left=sys.maxsize, text_left=sys.maxsize).weigh((messages, tools))
        meter = Meter(
            work_left=self.limits.work + 4 * given,
            text_left=self.limits.text + 64 * given,
        )
        variables = {
            **self.variables,
            **(more or {}),
            "messages": messages,
            "tools": tools,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
            "raise_exception": _raise_exception,
            "strftime_now": self._strftime_now,
        }
        template = self._with_tools if tools else self._default
        return template.render(variables, meter, self.limits.output + 4 * given)

    def _strftime_now(self, form: str) -> str:
        if len(form) > _LONGEST_DATE_FORMAT:
            raise ValueError(
                f"strftime_now: expected at most {_LONGEST_DATE_FORMAT} characters, got {len(form)}"
            )
        return self._now().strftime(form)


def _raise_exception(message: object) -> NoReturn:
    raise _Refusal(str(message)[:_LONGEST_REASON])


def _local_time() -> datetime:
    return datetime.now().astimezone()


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode()  # its line ends are part of the prompt
    except OSError as error:
        raise TemplateError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TemplateError(
            f"{path}: expected UTF-8, got the byte 0x{error.object[error.start]:02x}"
        ) from error


def _read_config(path: Path) -> Mapping[str, object]:
    if not path.exists():
        return {}
    try:
        config = json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, TemplateError):
            raise
        raise TemplateError(f"{path}: not JSON: {error}") from error
    if not isinstance(config, dict):
        raise TemplateError(f"{path}: expected an object, got {type(config).__name__}")
    return config


def _token_text(value: object) -> str | None:
    """A token in `tokenizer_config.json`: its text, or an object that says more about it."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _named_sources(value: object, path: Path) -> dict[str, tuple[str, str]]:
    """`chat_template`: one template, or several by name; each with what errors call it."""
    name = f"{path}: chat_template"
    if value is None:
        return {}
    if isinstance(value, str):
        return {"default": (value, name)}
    sources: dict[str, tuple[str, str]] = {}
    for index, entry in enumerate(value if isinstance(value, list) else [value]):
        match entry:
            case {"name": str(key), "template": str(source)}:
                sources[key] = (source, f"{name}[{index}]")
            case _:
                raise TemplateError(f"{name}: expected a string, or a list of objects with name and template")
    return sources

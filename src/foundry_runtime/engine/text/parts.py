"""A chat template for a model that has none: made of the texts around each role's messages.

Knows: the `PromptTemplate` of `inference_model.json`, whose texts hold `{Content}` where a message goes, and
what to do where one of them is missing.
Refuses to know: files, and how templates are rendered.

Source: the REST reference page, "WorkspaceInferenceModel": `system`, `user`, `assistant`, and `prompt`, the
user's message together with the beginning of the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["from_parts"]

_PLACE: Final = "{Content}"

# A system message that has no text around it stands before the next message of the user.
_TEMPLATE: Final = """\
{%- set kept = namespace(system='') -%}
{%- for message in messages -%}
    {%- if message.role == 'system' and system_before is defined -%}
        {{- system_before ~ message.content ~ system_after -}}
    {%- elif message.role == 'system' -%}
        {%- set kept.system = kept.system ~ message.content ~ '\\n\\n' -%}
    {%- elif message.role == 'assistant' -%}
        {{- assistant_before ~ message.content ~ assistant_after -}}
    {%- else -%}
        {{- user_before ~ kept.system ~ message.content ~ user_after -}}
        {%- set kept.system = '' -%}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- answer_begins -}}{%- endif -%}
"""


def from_parts(parts: object) -> tuple[str, Mapping[str, str]]:
    """Make a chat template of a `PromptTemplate`.

    Args:
        parts: Its JSON value.

    Returns:
        The template, and the variables that it needs.

    Raises:
        ValueError: It says too little; the message goes behind the value's own name.
    """
    if not isinstance(parts, dict):
        raise ValueError(f": expected an object, got {type(parts).__name__}")  # noqa: TRY004 - content, not use
    texts = {role: _around(parts[role], role) for role in parts if role in _ROLES and parts[role] is not None}
    user, answer_begins = _user_and_answer(texts)
    # Choice: without a text for it, an answer is taken to end with its line.
    before, after = texts.get("assistant", ("", "\n"))
    variables = {
        "user_before": user[0],
        "user_after": user[1],
        "assistant_before": before or answer_begins,
        "assistant_after": after,
        "answer_begins": answer_begins,
    }
    if "system" in texts:
        variables["system_before"], variables["system_after"] = texts["system"]
    return _TEMPLATE, variables


_ROLES: Final = ("system", "user", "assistant", "prompt")

_Around = tuple[str, str]
"""What stands before and behind a message."""


def _around(text: object, role: str) -> _Around:
    if not isinstance(text, str) or _PLACE not in text:
        raise ValueError(f".{role}: expected a text with {_PLACE}")
    before, _, after = text.partition(_PLACE)
    return before, after


def _user_and_answer(texts: Mapping[str, _Around]) -> tuple[_Around, str]:
    """What stands around a user's message, and how an answer begins behind it."""
    prompt, user = texts.get("prompt"), texts.get("user")
    begins = texts.get("assistant", ("", ""))[0]
    if prompt is None:
        if user is None:
            raise ValueError(f".prompt: expected a text with {_PLACE}, since there is none for user either")
        return user, begins
    before, after = prompt
    if user is None:
        ends_so = begins != "" and after.endswith(begins)
        return ((before, after.removesuffix(begins)), begins) if ends_so else (prompt, "")
    if user[0] == before and after.startswith(user[1]):
        return user, after.removeprefix(user[1])
    return prompt, ""

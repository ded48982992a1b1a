"""Chats that are answered whole: what an answer has, and what each property of a request does to it.

Knows: no model's words. What a property does is seen by comparing answers at temperature 0, and by counts.
Refuses to know: streams (`chat_stream.py`), tools (`tools.py`), and what is refused (`chat_refused.py`).
"""

from __future__ import annotations

from typing import Any, Final

from foundry_proto.conformance.asking import CHAT, ask, chat, chat_body
from foundry_proto.conformance.case import ALL_PROFILES, Section
from foundry_proto.conformance.expecting import (
    equal,
    find,
    is_a,
    json_of,
    media_type,
    one_of,
    require,
    status,
    text,
)
from foundry_proto.conformance.link import Reply
from foundry_proto.conformance.problems import Untestable
from foundry_proto.conformance.steps import Script
from foundry_proto.conformance.target import Target
from foundry_proto.jsontext import dump_json

__all__ = ["CASES"]

_chat = Section(
    "chat",
    group="chat",
    profiles=ALL_PROFILES,
    source="the REST reference page, POST /v1/chat/completions",
    needs=("model",),
)
_OPENAI: Final = "OpenAI's API reference, Chat"
_ENDS: Final = ("stop", "length")


def _answer(target: Target, **changes: object) -> Script[Any]:
    """A whole completion as JSON."""
    reply = yield from chat(target, **changes)
    status(reply, 200)
    return json_of(reply)


def _said(target: Target, **changes: object) -> Script[str]:
    """What the model said."""
    body = yield from _answer(target, **changes)
    said: str = is_a(body, "choices[0].message.content", str)
    return said


@_chat.case("object", "An answer's object is chat.completion.")
def _object(target: Target) -> Script[None]:
    equal((yield from _answer(target)), "object", "chat.completion")


@_chat.case("media", "An answer's media type is JSON.", source=_OPENAI)
def _media(target: Target) -> Script[None]:
    media_type((yield from chat(target, max_tokens=1)), "application/json")


@_chat.case("id", "An answer has an id of its own.")
def _id(target: Target) -> Script[None]:
    first = text((yield from _answer(target, max_tokens=1)), "id")
    second = text((yield from _answer(target, max_tokens=1)), "id")
    require(first != second, "body", f"id: expected another one for each answer, got {first!r} twice")


@_chat.case("id.prefix", "An answer's id begins with chatcmpl-.", level="INFO", source=_OPENAI)
def _id_prefix(target: Target) -> Script[None]:
    name = text((yield from _answer(target, max_tokens=1)), "id")
    require(name.startswith("chatcmpl-"), "body", f"id: expected chatcmpl-…, got {name!r}")


@_chat.case("created", "An answer says when it was made, in whole seconds since 1970.")
def _created(target: Target) -> Script[None]:
    created = is_a((yield from _answer(target, max_tokens=1)), "created", int)
    require(1_600_000_000 < created < 10_000_000_000, "body", f"created: expected seconds, got {created}")


@_chat.case("model", "An answer names its model.")
def _model(target: Target) -> Script[None]:
    text((yield from _answer(target, max_tokens=1)), "model")


@_chat.case(
    "model.same",
    "An answer names its model as the request did.",
    level="SHOULD",
    source="the newer service's answers",
)
def _model_same(target: Target) -> Script[None]:
    equal((yield from _answer(target, max_tokens=1)), "model", target.model)


@_chat.case("choices", "A request for one answer gets one choice, whose index is 0.")
def _choices(target: Target) -> Script[None]:
    body = yield from _answer(target)
    choices = is_a(body, "choices", list)
    require(len(choices) == 1, "body", f"choices: expected 1, got {len(choices)}")
    equal(body, "choices[0].index", 0)


@_chat.case("message", "A choice's message is the assistant's, and its content text.")
def _message(target: Target) -> Script[None]:
    body = yield from _answer(target)
    equal(body, "choices[0].message.role", "assistant")
    is_a(body, "choices[0].message.content", str)


@_chat.case("finish", "A choice says why it ended: stop or length.")
def _finish(target: Target) -> Script[None]:
    one_of((yield from _answer(target)), "choices[0].finish_reason", _ENDS)


@_chat.case(
    "nulls",
    "What an answer has none of is null: the message's refusal, the choice's logprobs.",
    level="INFO",
    source=_OPENAI,
)
def _nulls(target: Target) -> Script[None]:
    body = yield from _answer(target, max_tokens=1)
    equal(body, "choices[0].message.refusal", None)
    equal(body, "choices[0].logprobs", None)


@_chat.case("usage", "An answer counts the tokens of its prompt and of itself, and their sum.")
def _usage(target: Target) -> Script[None]:
    body = yield from _answer(target)
    prompt, completion, total = (
        is_a(body, f"usage.{name}_tokens", int) for name in ("prompt", "completion", "total")
    )
    require(prompt > 0 and completion > 0, "body", f"usage: expected counts, got {prompt} and {completion}")
    require(total == prompt + completion, "body", f"usage.total_tokens: expected the sum, got {total}")


@_chat.case("limit", "An answer cut by max_tokens has that many tokens, and ends with length.")
def _limit(target: Target) -> Script[None]:
    body = yield from _answer(target, max_tokens=1)
    equal(body, "choices[0].finish_reason", "length")
    equal(body, "usage.completion_tokens", 1)


@_chat.case(
    "limit.newer",
    "max_completion_tokens limits an answer as max_tokens does, and counts where both are given.",
)
def _limit_newer(target: Target) -> Script[None]:
    body = yield from _answer(target, max_tokens=9, max_completion_tokens=2)
    require(find(body, "usage.completion_tokens") <= 2, "body", "expected at most 2 tokens, got more")


@_chat.case("limit.content", "A limit's longer answer begins with the shorter one's text.", level="SHOULD")
def _limit_content(target: Target) -> Script[None]:
    short = yield from _said(target, max_tokens=3)
    long = yield from _said(target, max_tokens=8)
    require(long.startswith(short), "body", f"expected {long!r} to begin with {short!r}")


@_chat.case("repeatable", "At temperature 0 equal requests get equal answers.", level="SHOULD")
def _repeatable(target: Target) -> Script[None]:
    first = yield from _said(target)
    second = yield from _said(target)
    require(first == second, "body", f"expected {first!r} twice, got {second!r}")


@_chat.case("seed", "With a seed equal requests get equal answers.", level="SHOULD", source=_OPENAI)
def _seed(target: Target) -> Script[None]:
    first = yield from _said(target, temperature=1, seed=7)
    second = yield from _said(target, temperature=1, seed=7)
    require(first == second, "body", f"expected {first!r} twice, got {second!r}")


@_chat.case(
    "random-seed", "random_seed is another name for the seed.", level="SHOULD", profiles=("documented",)
)
def _random_seed(target: Target) -> Script[None]:
    first = yield from _said(target, temperature=1, random_seed=7)
    second = yield from _said(target, temperature=1, random_seed=7)
    require(first == second, "body", f"expected {first!r} twice, got {second!r}")


@_chat.case("stop", "An answer ends before a stop text, which is no part of it, and says stop.")
def _stop(target: Target) -> Script[None]:
    whole = yield from _said(target)
    stop = _word_within(whole)
    body = yield from _answer(target, stop=stop)
    said = is_a(body, "choices[0].message.content", str)
    expected = whole[: whole.index(stop)]
    require(said == expected, "body", f"expected {expected!r}, got {said!r}")
    equal(body, "choices[0].finish_reason", "stop")


@_chat.case("stop.several", "Of several stop texts the first that comes ends the answer.")
def _stop_several(target: Target) -> Script[None]:
    whole = yield from _said(target)
    stop = _word_within(whole)
    said = yield from _said(target, stop=["\u2063\u2063", stop, "\u2062\u2062"])
    expected = whole[: whole.index(stop)]
    require(said == expected, "body", f"expected {expected!r}, got {said!r}")


def _word_within(said: str) -> str:
    """A word that is not the first."""
    words = said.split()
    if len(words) < 2:
        raise Untestable(f"the model's answer has one word: {said!r}")
    return max(words[1:], key=len)


@_chat.case("n", "A request for two answers gets two choices, with the indexes 0 and 1.", level="SHOULD")
def _two_choices(target: Target) -> Script[None]:
    body = yield from _answer(target, n=2, temperature=1, max_tokens=3)
    indexes = sorted(find(one, "index") for one in is_a(body, "choices", list))
    require(indexes == [0, 1], "body", f"choices: expected the indexes 0 and 1, got {indexes}")


@_chat.case(
    "n.usage",
    "Two answers' tokens are counted together, and their prompt once.",
    level="SHOULD",
    source=_OPENAI,
)
def _two_choices_usage(target: Target) -> Script[None]:
    one = yield from _answer(target, max_tokens=2)
    two = yield from _answer(target, n=2, max_tokens=2)
    equal(two, "usage.prompt_tokens", find(one, "usage.prompt_tokens"))
    equal(two, "usage.completion_tokens", 2 * find(one, "usage.completion_tokens"))


@_chat.case(
    "parts",
    "Content may be an array of text parts, which are joined without a separator.",
    level="SHOULD",
    source=_OPENAI,
)
def _parts(target: Target) -> Script[None]:
    pieces = [{"type": "text", "text": "Name three pri"}, {"type": "text", "text": "mary colors."}]
    whole = yield from _answer(target, max_tokens=1)
    parts = yield from _answer(target, max_tokens=1, messages=[{"role": "user", "content": pieces}])
    equal(parts, "usage.prompt_tokens", find(whole, "usage.prompt_tokens"))


_HISTORY: Final = (
    {"role": "user", "content": "What is two and two?"},
    {"role": "assistant", "content": "Four."},
    {"role": "user", "content": "And one more?"},
)


@_chat.case("history", "The whole conversation is read, not its last message alone.")
def _history(target: Target) -> Script[None]:
    alone = yield from _answer(target, max_tokens=1, messages=list(_HISTORY[-1:]))
    whole = yield from _answer(target, max_tokens=1, messages=list(_HISTORY))
    few, many = (find(one, "usage.prompt_tokens") for one in (alone, whole))
    require(many > few + 5, "body", f"expected many more prompt tokens than {few}, got {many}")


@_chat.case("system", "A system message is read.")
def _system(target: Target) -> Script[None]:
    rules = [
        {"role": "system", "content": "Answer in the words of a pirate who likes long sentences and rum."}
    ]
    other = [{"role": "system", "content": "Be brief."}]
    question = [{"role": "user", "content": "Hello"}]
    short = yield from _answer(target, max_tokens=1, messages=[*other, *question])
    long = yield from _answer(target, max_tokens=1, messages=[*rules, *question])
    few, many = (find(one, "usage.prompt_tokens") for one in (short, long))
    require(many > few, "body", f"expected more prompt tokens than {few}, got {many}")


@_chat.case("unicode", "Text of any script is read and answered.")
def _unicode(target: Target) -> Script[None]:
    asked = "Ünïcödé ☕ 日本語 🇫🇷 — repeat: \u0000 \u2028"
    said = yield from _said(target, messages=[{"role": "user", "content": asked}])
    # An answer that is cut may end within a character.
    whole = "\ufffd" not in said.rstrip("\ufffd")
    require(whole, "body", f"expected whole characters, got {said!r}")


@_chat.case(
    "logprobs",
    "An answer tells its tokens' log probabilities when it is asked.",
    level="SHOULD",
    source=_OPENAI,
)
def _logprobs(target: Target) -> Script[None]:
    body = yield from _answer(target, max_tokens=3, logprobs=True, top_logprobs=2)
    entries = is_a(body, "choices[0].logprobs.content", list)
    for number, entry in enumerate(entries):
        is_a(entry, "token", str)
        require(find(entry, "logprob") <= 0, "body", f"logprobs[{number}].logprob: expected at most 0")
        require(len(is_a(entry, "top_logprobs", list)) == 2, "body", "top_logprobs: expected 2 of them")
    equal(body, "usage.completion_tokens", len(entries))


@_chat.case("bias", "logit_bias is heeded: a token that is excluded does not come.", level="SHOULD")
def _bias(target: Target) -> Script[None]:
    # Any id will do: what matters is that the answer is one, and that a bias is no mistake.
    body = yield from _answer(target, max_tokens=2, logit_bias={"5": -100})
    one_of(body, "choices[0].finish_reason", _ENDS)


@_chat.case("json", "response_format json_schema gives JSON of that form.", level="SHOULD", source=_OPENAI)
def _json_object(target: Target) -> Script[None]:
    schema = {
        "name": "color",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"color": {"enum": ["red"]}},
            "required": ["color"],
            "additionalProperties": False,
        },
    }
    said = yield from _said(
        target, max_tokens=40, response_format={"type": "json_schema", "json_schema": schema}
    )
    require("".join(said.split()) == '{"color":"red"}', "body", f'expected {{"color": "red"}}, got {said!r}')


@_chat.case("escapes", "JSON's escapes in a request mean what they stand for.", source="RFC 8259, section 7")
def _escapes(target: Target) -> Script[None]:
    plain = yield from _counted(target, '"Gr\u00fc\u00dfe \U0001f600"'.encode())
    escaped = yield from _counted(target, b'"Gr\\u00fc\\u00DFe \\ud83d\\ude00"')
    require(plain == escaped, "body", f"expected {plain} prompt tokens with escapes, too, got {escaped}")


def _counted(target: Target, content: bytes) -> Script[int]:
    """How many tokens a prompt has whose only message's content is this JSON."""
    body = chat_body(target, max_tokens=1, messages=[{"role": "user", "content": "@"}])
    raw = dump_json(body).replace(b'"@"', content)
    reply: Reply = yield from ask(target, "POST", CHAT, raw)
    status(reply, 200)
    count: int = is_a(json_of(reply), "usage.prompt_tokens", int)
    return count


@_chat.case(
    "whitespace", "White space between a request's tokens does not matter.", source="RFC 8259, section 2"
)
def _whitespace(target: Target) -> Script[None]:
    raw = dump_json(chat_body(target, max_tokens=1)).replace(b",", b" \r\n\t,\n ").replace(b'":', b'" : ')
    status((yield from ask(target, "POST", CHAT, b"\n" + raw + b"\r\n ")), 200)


CASES = tuple(_chat.cases)

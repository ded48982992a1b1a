"""Whether a small model always gives valid JSON, for 200 schemas by lot; and 20 that cannot be enforced.

Run: `python benchmarks/json_schemas.py`. `foundry serve` answers each schema once, with at most 512 tokens.
An answer that ended must be valid for its schema, by the `jsonschema` package; one that was cut must be a
beginning that the grammar accepts; at least 190 must have ended. What is not supported must be refused with
status 400 by the name of its keyword. The exit status is 1 when any of this fails.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from time import perf_counter
from typing import Any, Final

import jsonschema
from attrs import frozen

from _common import (
    HERE,
    Connection,
    Report,
    chat_request,
    find_model,
    foundry_serve,
    model_parser,
    prompt_maker,
    user,
)
from foundry_runtime.engine.text.guidance.forms import Json
from foundry_runtime.engine.text.guidance.grammars import Guidance, GuidanceError

sys.path.insert(0, str(HERE.parent))  # the schemas are those of the tests
from tests.support.json_schemas import UNSUPPORTED, random_schema

SCHEMAS: Final = 200
LEAST: Final = 0.95
TOKENS: Final = 512
AT_ONCE: Final = 4
QUESTION: Final = "Make up an example of a record, as JSON."


@frozen
class Answer:
    seed: int
    schema: dict[str, object]
    text: str
    finish_reason: str
    tokens: int


def schema_format(schema: object) -> dict[str, object]:
    return {"type": "json_schema", "json_schema": {"name": "record", "schema": schema}}


def ask(port: int, model: str, seeds: list[int]) -> Iterator[Answer]:
    connection = Connection(port)
    for seed in seeds:
        schema = random_schema(seed)
        request = chat_request(
            model, [user(QUESTION)], response_format=schema_format(schema), max_tokens=TOKENS, seed=seed
        )
        reply = json.loads(connection.chat(request).data.partition(b"\r\n\r\n")[2])
        choice = reply["choices"][0]
        tokens = reply["usage"]["completion_tokens"]
        yield Answer(seed, schema, choice["message"]["content"], choice["finish_reason"], tokens)
    connection.close()


def is_valid(answer: Answer) -> bool:
    validator = jsonschema.Draft202012Validator
    try:
        validator(answer.schema, format_checker=validator.FORMAT_CHECKER).validate(json.loads(answer.text))
    except (ValueError, jsonschema.ValidationError) as error:
        print(f"schema {answer.seed}: {answer.text!r}: {error}", file=sys.stderr)
        return False
    return True


def is_a_beginning(answer: Answer, guidance: Guidance, ids: list[int]) -> bool:
    guide = guidance.compile(Json(answer.schema)).begin()
    try:
        for token in ids:
            guide.accept(token)
    except GuidanceError as error:
        print(f"schema {answer.seed}: {answer.text!r}: {error}", file=sys.stderr)
        return False
    return True


def is_refused(port: int, model: str, keyword: str) -> bool:
    schema, path = UNSUPPORTED[keyword]
    connection = Connection(port)
    request = chat_request(model, [user(QUESTION)], response_format=schema_format(schema), max_tokens=1)
    reply = connection.chat(request, expect=(200, 400))
    connection.close()
    body: dict[str, Any] = json.loads(reply.data.partition(b"\r\n\r\n")[2])
    return reply.status == 400 and body["error"]["param"] == f"response_format.json_schema.schema.{path}"


def main() -> int:
    made = model_parser(__doc__)
    made.add_argument("--schemas", type=int, default=SCHEMAS, help=f"how many ({SCHEMAS})")
    options = made.parse_args()
    folder = find_model(options.home, options.model)
    tokenizer = prompt_maker(folder).tokenizer
    guidance = Guidance(tokenizer, end_ids=folder.end_ids, rows=folder.vocab_size)
    report = Report(
        title="JSON for schemas made by lot",
        columns=("what", "schemas", "share", "limit"),
        notes=(f"At most {TOKENS} tokens each, at the model's own temperature, {AT_ONCE} at a time.",),
    )
    began = perf_counter()
    with foundry_serve(options.home, "asyncio") as (_, port), ThreadPoolExecutor(AT_ONCE) as threads:
        parts = [list(range(first, options.schemas, AT_ONCE)) for first in range(AT_ONCE)]
        asked = threads.map(lambda seeds: list(ask(port, options.model, seeds)), parts)
        answers = [answer for part in asked for answer in part]
        took = perf_counter() - began
        refused = [is_refused(port, options.model, keyword) for keyword in UNSUPPORTED]
    ended = [answer for answer in answers if answer.finish_reason == "stop"]
    cut = [answer for answer in answers if answer.finish_reason == "length"]

    def add(what: str, passed: int, of: int, least: float) -> None:
        share = passed / of if of else 1.0
        report.add(what, of, share, report.check(what, share, least=least))

    add("answers that ended", len(ended), len(answers), LEAST)
    add("of these, valid for the schema", sum(map(is_valid, ended)), len(ended), 1.0)
    # A character that was cut stands at the end as U+FFFD.
    said = [tokenizer.encode_pieces([answer.text.rstrip("\ufffd")])[0].tolist() for answer in cut]
    beginnings = [is_a_beginning(answer, guidance, ids) for answer, ids in zip(cut, said, strict=True)]
    add("answers that were cut, and are beginnings of valid ones", sum(beginnings), len(cut), 1.0)
    add("schemas that cannot be enforced, refused by keyword", sum(refused), len(refused), 1.0)
    tokens = [answer.tokens for answer in answers]
    report.notes = (
        *report.notes,
        f"{sum(tokens)} tokens in {took:.0f} s; median of an answer {median(tokens):.0f}.",
    )
    return report.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())

"""How far the next turn is reused: as its newly rendered prompt has the tokens that were there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from foundry_runtime.engine.api import Job, Sampling, Started, Token
from foundry_runtime.engine.batched import BatchedEngine
from foundry_runtime.engine.text.prompt import PromptMaker
from foundry_runtime.engine.text.template import ChatTemplate
from foundry_runtime.engine.text.tokenizer import Tokenizer
from tests.support.tiny_model import CHAT_TEMPLATE

BLOCK = 16
FORGETFUL = CHAT_TEMPLATE.replace(
    "message['content']", "(message['content'] if message['role'] == 'user' else 'so I said')"
)
"""A template that has other words for earlier replies, as those of reasoning models have."""
ASKED = "Name the three primary colors, and what is in the world. Hello hello hello"


class Chat:
    """A conversation with the engine, rendered anew for each turn."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = Tokenizer.load(folder)
        self.prompts = PromptMaker(self.tokenizer, ChatTemplate.load(folder))
        self.engine = BatchedEngine(folder, threads=1, kept=2048)
        self.known: list[int] = []
        """All tokens of the last turn: its prompt, and what was generated."""

    def ask(self, messages: Sequence[Mapping[str, str]], tokens: int) -> tuple[str, int, int]:
        """The reply, how many tokens were taken from what is kept, and how many begin as the last turn."""
        prompt = list(self.prompts.make(messages).ids)
        alike = next(
            (at for at, (one, other) in enumerate(zip(self.known, prompt, strict=False)) if one != other), 0
        )
        self.engine.admit(Job(prompt=prompt, max_tokens=tokens, sampling=Sampling(temperature=0.0)))
        said: list[int] = []
        cached = 0
        while events := self.engine.step():
            said += [event.id for event in events if isinstance(event, Token)]
            cached += sum(event.cached_tokens for event in events if isinstance(event, Started))
        self.known = [*prompt, *said]
        return self.tokenizer.decode(said), cached, alike


@pytest.fixture
def chat(tiny_folder: Path) -> Iterator[Chat]:
    made = Chat(tiny_folder)
    yield made
    made.engine.close()


@pytest.fixture
def forgetful(tiny_folder: Path, tmp_path: Path) -> Iterator[Chat]:
    folder = tmp_path / "forgetful"
    shutil.copytree(tiny_folder, folder)
    template = folder / "chat_template.jinja"
    assert template.read_text() == CHAT_TEMPLATE
    template.write_text(FORGETFUL)
    made = Chat(folder)
    yield made
    made.engine.close()


def test_where_the_reply_s_text_gives_other_tokens_than_were_said_reuse_ends(chat: Chat) -> None:
    asked = [{"role": "user", "content": ASKED}]
    reply, cached, _ = chat.ask(asked, 60)
    assert cached == 0
    first, before = len(chat.prompts.make(asked).ids), len(chat.known)
    _, cached, alike = chat.ask(
        [*asked, {"role": "assistant", "content": reply}, {"role": "user", "content": "and then?"}], 8
    )
    # What is said at random is seldom how a tokenizer would cut its text.
    assert first <= alike < before - BLOCK
    assert cached == alike // BLOCK * BLOCK


def test_where_the_template_changes_what_was_said_reuse_ends(forgetful: Chat) -> None:
    asked = [{"role": "user", "content": ASKED}]
    reply, _, _ = forgetful.ask(asked, 20)
    first = len(forgetful.prompts.make(asked).ids)
    _, cached, alike = forgetful.ask(
        [*asked, {"role": "assistant", "content": reply}, {"role": "user", "content": "and then?"}], 8
    )
    assert first <= alike < first + 3  # what was asked is there, and of what was said hardly anything
    assert cached == alike // BLOCK * BLOCK


def test_a_second_turn_that_is_rendered_as_it_was_is_reused_to_its_last_block(chat: Chat) -> None:
    asked = [{"role": "user", "content": ASKED}]
    reply, _, _ = chat.ask(asked, 60)
    turns = [*asked, {"role": "assistant", "content": reply}, {"role": "user", "content": "and then?"}]
    chat.ask(turns, 1)
    _, cached, _ = chat.ask([*turns[:2], {"role": "user", "content": "and why?"}], 1)
    alike = len(chat.prompts.make(turns[:2], add_generation_prompt=False).ids)
    assert alike // BLOCK * BLOCK <= cached

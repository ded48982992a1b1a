"""A model folder's descriptions: what is read, and how what is wrong is named."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from foundry_runtime.models.folder import BadModelFolder, ModelFolder, SearchDefaults
from tests.runtime.models.folders import CONFIG, write_folder


def test_what_matters_is_read_and_the_rest_passed_over(tmp_path: Path) -> None:
    config: dict[str, Any] = copy.deepcopy(CONFIG)
    config["model"]["decoder"] = {"unknown": [1, {"x": None}]}
    config["search"] |= {"past_present_share_buffer": True, "repetition_penalty": 1.1, "random_seed": 7}
    config["new in a later version"] = 1
    folder = write_folder(tmp_path, "Größe-generic-cpu:2", config, maxOutputTokens=300, more=[1])
    assert ModelFolder.read(folder) == ModelFolder(
        path=folder,
        id="Größe-generic-cpu:2",
        context_length=8192,
        vocab_size=49152,
        end_ids=(2,),
        max_output_tokens=300,
        search=SearchDefaults(
            do_sample=True, temperature=0.2, top_p=0.9, repetition_penalty=1.1, random_seed=7
        ),
    )


@pytest.mark.parametrize("search", [{}, None, {"temperature": None, "random_seed": -1}])
def test_where_the_files_are_silent_there_are_defaults(tmp_path: Path, search: object) -> None:
    read = ModelFolder.read(
        write_folder(tmp_path, "mine", {**CONFIG, "search": search}, maxOutputTokens=None)
    )
    assert read.id == "mine:0"
    assert read.max_output_tokens == 1024
    assert read.search == SearchDefaults()


def test_a_model_may_have_several_end_tokens(tmp_path: Path) -> None:
    config = {"model": {"context_length": 1, "vocab_size": 10, "eos_token_id": [2, 7]}}
    assert ModelFolder.read(write_folder(tmp_path, config=config)).end_ids == (2, 7)


ENCODER = {"model": {"context_length": 512, "vocab_size": 10, "encoder": {}}}


@pytest.mark.parametrize(
    ("config", "stated", "task"),
    [
        (CONFIG, None, "chat-completion"),
        (CONFIG, "embeddings", "embeddings"),
        (CONFIG, "chat", "chat-completion"),
        (ENCODER, None, "embeddings"),
    ],
)
def test_a_models_task_is_what_its_folder_says_else_what_its_graph_gives(
    tmp_path: Path, config: object, stated: str | None, task: str
) -> None:
    assert ModelFolder.read(write_folder(tmp_path, config=config, task=stated)).task == task


def test_a_model_for_embeddings_needs_no_end_token(tmp_path: Path) -> None:
    assert ModelFolder.read(write_folder(tmp_path, config=ENCODER)).end_ids == ()
    write_folder(tmp_path, config=ENCODER, task="chat-completion")
    with pytest.raises(BadModelFolder, match=r"model\.eos_token_id: expected a token id"):
        ModelFolder.read(tmp_path)


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("model.context_length", None, "expected a whole number of at least 1, got nothing"),
        ("model.context_length", 0, "expected a whole number of at least 1, got 0"),
        ("model.context_length", 8192.0, "expected a whole number of at least 1, got 8192.0"),
        ("model.context_length", True, "expected a whole number of at least 1, got true"),
        ("model.vocab_size", "49152", 'expected a whole number of at least 1, got "49152"'),
        ("model.eos_token_id", None, "expected a token id or a list of them, got nothing"),
        ("model.eos_token_id", [], "expected a token id or a list of them, got []"),
        ("model.eos_token_id", [2, "x"], 'expected a token id or a list of them, got [2, "x"]'),
        ("model.eos_token_id", -1, "expected a token id or a list of them, got -1"),
        ("search.do_sample", 1, "expected true or false, got 1"),
        ("search.temperature", "hot", 'expected a number from 0 to 100, got "hot"'),
        ("search.temperature", -0.5, "expected a number from 0 to 100, got -0.5"),
        ("search.temperature", float("nan"), "expected a number from 0 to 100, got NaN"),
        ("search.top_p", 1.5, "expected a number from 0 to 1, got 1.5"),
        ("search.repetition_penalty", 0, "expected a number from 0.1 to 10, got 0"),
        ("search.random_seed", 0.5, "expected a whole number of at least -9223372036854775808, got 0.5"),
        ("search.top_k", -1, "expected a whole number of at least 0, got -1"),
        ("search.top_k", ["x" * 100], f'expected a whole number of at least 0, got ["{"x" * 58}…'),
    ],
)
def test_a_wrong_field_is_named_with_its_file(tmp_path: Path, path: str, value: object, reason: str) -> None:
    config: dict[str, Any] = copy.deepcopy(CONFIG)
    group, field = path.split(".")
    config[group][field] = value
    with pytest.raises(BadModelFolder) as error:
        ModelFolder.read(write_folder(tmp_path, config=config))
    assert str(error.value) == f"{tmp_path / 'genai_config.json'}: {path}: {reason}"


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("Name", None, "expected a name, got nothing"),
        ("Name", "", 'expected a name, got ""'),
        ("Name", 5, "expected a name, got 5"),
        ("maxOutputTokens", 0, "expected a whole number of at least 1, got 0"),
        ("maxOutputTokens", "many", 'expected a whole number of at least 1, got "many"'),
    ],
)
def test_a_wrong_field_of_the_identity_is_named_too(
    tmp_path: Path, field: str, value: object, reason: str
) -> None:
    write_folder(tmp_path)
    identity = {"Name": "mine:1", field: value}
    (tmp_path / "inference_model.json").write_text(json.dumps(identity), encoding="utf-8")
    with pytest.raises(BadModelFolder) as error:
        ModelFolder.read(tmp_path)
    assert str(error.value) == f"{tmp_path / 'inference_model.json'}: {field}: {reason}"


def test_a_file_that_is_missing_or_no_object_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path)
    path = tmp_path / "genai_config.json"

    def refused() -> str:
        with pytest.raises(BadModelFolder) as error:
            ModelFolder.read(tmp_path)
        return str(error.value)

    path.write_text("[1]")
    assert refused() == f"{path}: expected an object, got [1]"
    path.write_text("{")
    assert refused().startswith(f"{path}: expected JSON: Expecting property name")
    path.write_bytes(b"\xff\xfe\xff")
    assert refused().startswith(f"{path}: expected JSON: ")
    path.write_text("[" * 100_000)
    assert refused().startswith(f"{path}: expected JSON: maximum recursion depth exceeded")
    path.unlink()
    assert refused() == f"{path}: No such file or directory"


@pytest.mark.parametrize(
    ("identity", "calls", "reasoning"),
    [
        ({}, None, None),
        ({"toolCallStart": "<tc>", "toolCallEnd": "</tc>"}, ("<tc>", "</tc>"), None),
        ({"toolCallStart": "<tc>"}, ("<tc>", ""), None),
        ({"toolCallStart": "", "toolCallEnd": ""}, None, None),
        ({"reasoningStart": "<r>", "reasoningEnd": "</r>"}, None, ("<r>", "</r>")),
        ({"supportsReasoning": True}, None, ("<think>", "</think>")),
        ({"supportsReasoning": False, "reasoningStart": None}, None, None),
    ],
)
def test_a_description_may_name_the_models_markers(
    tmp_path: Path, identity: dict[str, object], calls: object, reasoning: object
) -> None:
    read = ModelFolder.read(write_folder(tmp_path, **identity))
    assert (read.call_markers, read.reasoning_markers) == (calls, reasoning)


def test_a_marker_that_is_no_text_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadModelFolder, match=r"toolCallStart: expected a text, got 5$"):
        ModelFolder.read(write_folder(tmp_path, toolCallStart=5))

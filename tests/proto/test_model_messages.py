"""Messages about models and the service: the documented examples, and the casings that clients read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from foundry_proto.codec import ContentError, decode, encode
from foundry_proto.messages.models import (
    LoadWords,
    ModelInfo,
    ModelObject,
    ModelObjectList,
    PromptTemplate,
    RuntimeInfo,
    TokenCount,
    UnloadWords,
)
from foundry_proto.messages.service import CoreStatus, DeviceWords, ServiceStatus
from foundry_proto.sentinels import ABSENT
from foundry_proto.words import decode_words

MODEL = ModelInfo(
    name="model-1-generic-cpu:2",
    display_name="model-1-generic-cpu",
    provider_type="AzureFoundry",
    uri="azureml://registries/azureml/models/model-1-generic-cpu/versions/2",
    version="2",
    prompt_template=PromptTemplate(assistant="…", prompt="<|im_start|>user<|im_sep|>{Content}<|im_end|>"),
    publisher="Microsoft",
    runtime=RuntimeInfo(device_type="CPU", execution_provider="CPUExecutionProvider"),
    file_size_mb=10403,
    alias="model-1",
    supports_tool_calling=False,
    license="MIT",
    license_description="This model is provided under the License Terms available at …",
    parent_model_uri="azureml://registries/azureml/models/model-1/versions/2",
    max_output_tokens=1024,
)

PLAIN = {
    "name": "model-1-generic-cpu:2",
    "displayName": "model-1-generic-cpu",
    "modelType": "ONNX",
    "providerType": "AzureFoundry",
    "uri": "azureml://registries/azureml/models/model-1-generic-cpu/versions/2",
    "version": "2",
    "promptTemplate": {"assistant": "…", "prompt": "<|im_start|>user<|im_sep|>{Content}<|im_end|>"},
    "publisher": "Microsoft",
    "task": "chat-completion",
    "runtime": {"deviceType": "CPU", "executionProvider": "CPUExecutionProvider"},
    "fileSizeMb": 10403,
    "modelSettings": {"parameters": []},
    "alias": "model-1",
    "supportsToolCalling": False,
    "license": "MIT",
    "licenseDescription": "This model is provided under the License Terms available at …",
    "parentModelUri": "azureml://registries/azureml/models/model-1/versions/2",
    "maxOutputTokens": 1024,
    "minFLVersion": "",
}


def test_a_model_is_written_with_every_field_in_its_clients_spelling() -> None:
    assert list(json.loads(encode(MODEL)).items()) == list(PLAIN.items())
    assert decode(ModelInfo, encode(MODEL)) == MODEL


def test_a_model_of_a_server_that_knows_only_the_reference_page_is_read() -> None:
    plain = {name: value for name, value in PLAIN.items() if name not in ("maxOutputTokens", "minFLVersion")}
    model = decode(ModelInfo, json.dumps({**plain, "promptTemplate": None, "more": 1}).encode())
    assert (model.max_output_tokens, model.min_fl_version, model.prompt_template) == (ABSENT, ABSENT, None)


def test_a_version_that_is_a_number_is_refused_as_clients_refuse_it() -> None:
    with pytest.raises(ContentError, match=r"^version: expected a string, got 2$"):
        decode(ModelInfo, json.dumps({**PLAIN, "version": 2}).encode())


def test_the_status_is_written_in_both_casings_and_read_in_either() -> None:
    status = ServiceStatus(endpoints=("http://localhost:5272",), model_dir_path="/path/to/models")
    documented = {
        "Endpoints": ["http://localhost:5272"],
        "ModelDirPath": "/path/to/models",
        "PipeName": "inference_agent",
    }
    read_by_clients = {name[0].lower() + name[1:]: value for name, value in documented.items()}
    assert json.loads(encode(status)) == {**documented, **read_by_clients}
    for form in (documented, read_by_clients):
        assert decode(ServiceStatus, json.dumps(form).encode()) == status


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (
            CoreStatus(endpoints=("http://127.0.0.1:1",), model_cache_path="/m", pid=7),
            '{"endpoints":["http://127.0.0.1:1"],"modelCachePath":"/m","pid":7}',
        ),
        (
            ModelObjectList(data=(ModelObject(id="a:1", created=1700000000, owned_by="acme"),)),
            '{"object":"list","data":[{"id":"a:1","object":"model","created":1700000000,"owned_by":"acme"}]}',
        ),
        (ModelObject(id="m:1"), '{"id":"m:1","object":"model","created":0,"owned_by":"system"}'),
        (TokenCount(token_count=23), '{"tokenCount":23}'),
    ],
    ids=lambda value: type(value).__name__,
)
def test_small_answers_look_as_the_services_write_them(message: object, text: str) -> None:
    assert encode(message).decode() == text
    assert decode(type(message), text.encode()) == message


def words(query: str, name: str = "m") -> list[tuple[str, str]]:
    return [*(tuple(word.split("=")) for word in query.split("&") if word), ("name", name)]  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {}),
        ("ttl=600&ep=", {"ttl": 600}),
        ("ttl=3600&ep=dml", {"ttl": 3600, "ep": "dml"}),
        ("TTL=0&Unload=False", {"ttl": 0, "unload": False}),
        ("timeout=600", {"timeout": 600}),
        ("timeout=00%3A10", {"timeout": "00%3A10"}),
        ("retries=3", {}),
    ],
)
def test_the_words_of_a_load_are_those_of_its_clients(query: str, expected: dict[str, Any]) -> None:
    assert decode_words(LoadWords, words(query)) == LoadWords(name="m", **expected)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("ttl=-1", "ttl: expected an integer from 0 to 2147483647, got -1"),
        ("ttl=ten", 'ttl: expected an integer from 0 to 2147483647, got "ten"'),
        ("ttl=1.5", "ttl: expected an integer from 0 to 2147483647, got 1.5"),
        ("unload=maybe", 'unload: expected true or false, got "maybe"'),
    ],
)
def test_a_wrong_word_of_a_load_is_refused_by_name(query: str, message: str) -> None:
    with pytest.raises(ContentError) as caught:
        decode_words(LoadWords, words(query))
    assert str(caught.value) == message


def test_a_forced_unload_is_written_in_any_letter_case() -> None:
    assert decode_words(UnloadWords, words("force=True")) == UnloadWords(name="m", force=True)
    assert decode_words(UnloadWords, words("force=false")) == UnloadWords(name="m", force=False)


@pytest.mark.parametrize("word", ["abc", "-1", "1.5", "2147483648"])
def test_a_device_is_a_whole_number(word: str) -> None:
    with pytest.raises(ContentError, match=r"^deviceId: expected an integer from 0 to 2147483647, got "):
        decode_words(DeviceWords, [("deviceId", word)])
    assert decode_words(DeviceWords, [("deviceId", "1")]) == DeviceWords(device_id=1)

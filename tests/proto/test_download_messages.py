"""Requests to download and to register a model: as clients spell them, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from foundry_proto.codec import ContentError, decode, encode
from foundry_proto.messages.downloads import DownloadRequest, WorkspaceInferenceModel
from foundry_proto.messages.registration import RegisterRequest
from foundry_proto.sentinels import ABSENT

URI = "azureml://registries/azureml/models/Phi-4-mini-instruct-generic-cpu/versions/4"
NAME = "Phi-4-mini-instruct-generic-cpu:4"

EVERYTHING = DownloadRequest(
    model=WorkspaceInferenceModel(
        name=NAME,
        uri=URI,
        provider_type="HuggingFace",
        path="onnx/cpu",
        prompt_template={"user": "<|user|>{Content}<|end|>", "system": None},
        publisher="Microsoft",
    ),
    token="hf_secret",
    progress_token={"id": 7},
    custom_dir_path="/models",
    buffer_size=512,
    ignore_pipe_report=True,
    force=True,
)
DOCUMENTED = f"""{{
  "model": {{"Uri": "{URI}", "Name": "{NAME}", "ProviderType": "HuggingFace", "Path": "onnx/cpu",
            "PromptTemplate": {{"user": "<|user|>{{Content}}<|end|>", "system": null}},
            "Publisher": "Microsoft"}},
  "token": "hf_secret", "progressToken": {{"id": 7}}, "customDirPath": "/models", "bufferSize": 512,
  "ignorePipeReport": true, "force": true
}}"""


def test_every_property_is_read_and_written_as_the_reference_page_spells_it() -> None:
    assert decode(DownloadRequest, DOCUMENTED.encode()) == EVERYTHING
    assert json.loads(encode(EVERYTHING)) == json.loads(DOCUMENTED)


@pytest.mark.parametrize("spell", [str.lower, str.upper], ids=["lower", "upper"])
def test_keys_are_read_in_any_letter_case(spell: Callable[[str], str]) -> None:
    plain = json.loads(DOCUMENTED)
    plain["model"] = {spell(key): value for key, value in plain["model"].items()}
    plain = {spell(key): value for key, value in plain.items()}
    assert decode(DownloadRequest, json.dumps(plain).encode()) == EVERYTHING


def test_the_bodies_of_the_older_clients_are_read() -> None:
    python = {
        "model": {
            "Name": NAME,
            "Uri": URI,
            "Publisher": "Microsoft",
            "ProviderType": "AzureFoundryLocal",
            "PromptTemplate": None,
        },
        "token": None,
        "IgnorePipeReport": True,
    }
    request = decode(DownloadRequest, json.dumps(python).encode())
    assert request == DownloadRequest(
        model=WorkspaceInferenceModel(
            name=NAME,
            uri=URI,
            publisher="Microsoft",
            provider_type="AzureFoundryLocal",
            prompt_template=None,
        ),
        token=None,
        ignore_pipe_report=True,
    )
    assert decode(DownloadRequest, b'{"Model":{"name":"a:1"},"Force":true}').force is True


def test_a_bare_name_stands_for_a_model() -> None:
    request = decode(DownloadRequest, b'{"model":"phi-4-mini"}')
    assert (request.model, request.token, request.progress_token) == ("phi-4-mini", ABSENT, ABSENT)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "model: expected a model or a string, got nothing"),
        ({"model": 5}, "model: expected a model or a string, got 5"),
        ({"model": {"Uri": URI}}, "model.Name: expected a string, got nothing"),
        ({"model": {"Name": None}}, "model.Name: expected a string, got null"),
        (
            {"model": {"Name": NAME, "PromptTemplate": {"user": 5}}},
            "model.PromptTemplate.user: expected a string, got 5",
        ),
        ({"model": "m", "bufferSize": -1}, "bufferSize: expected an integer from 0 to 1048576, got -1"),
        ({"model": "m", "token": 5}, "token: expected a string, got 5"),
    ],
)
def test_what_is_wrong_is_named_as_the_reference_page_spells_it(body: object, message: str) -> None:
    with pytest.raises(ContentError) as caught:
        decode(DownloadRequest, json.dumps(body).encode())
    assert str(caught.value) == message


def test_a_registration_is_read_in_any_letter_case() -> None:
    body = b'{"TypeName":"deepseek","modelName":"deepseek-chat","baseuri":"https://api.deepseek.com/v1"}'
    assert decode(RegisterRequest, body) == RegisterRequest(
        type_name="deepseek", model_name="deepseek-chat", base_uri="https://api.deepseek.com/v1"
    )
    with pytest.raises(ContentError, match=r"^BaseUri: expected a string, got nothing$"):
        decode(RegisterRequest, b'{"TypeName":"deepseek","ModelName":"deepseek-chat"}')

"""Entries of the public catalogue: each becomes a model that any client can list, or is refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundry_proto.codec import encode
from foundry_proto.jsontext import ContentError
from foundry_runtime.models.description import ModelFacts
from foundry_runtime.models.published.entries import read_entry
from tests.support.fake_catalog import entry

VARIANT = "properties.variantInfo.variantMetadata"


def changed(path: str, value: object, **more: Any) -> dict[str, Any]:
    """An entry that says something else at one place; `...` says nothing there."""
    made = entry(**more)
    *outer, last = path.split(".")
    place = made
    for name in outer:
        place = place[name]
    if value is ...:
        place.pop(last, None)
    else:
        place[last] = value
    return made


def test_an_entry_says_all_that_a_client_wants_to_know() -> None:
    marks = {"toolCallStart": "<tool_call>", "toolCallEnd": "</tool_call>", "supportsReasoning": "true"}
    assert read_entry(entry(**marks, reasoningStart="<think>\n", reasoningEnd="</think>")) == ModelFacts(
        id="phi-4-mini-instruct-generic-cpu:2",
        alias="phi-4-mini",
        uri="azureml://registries/azureml/models/phi-4-mini-instruct-generic-cpu/versions/2",
        provider_type="AzureFoundry",
        publisher="Microsoft",
        license="MIT",
        license_description="This model is provided under the License Terms available at …",
        parent_uri="azureml://registries/azureml/models/Phi-4-mini/versions/1",
        file_size_mb=2861,
        max_output_tokens=2048,
        prompt_template={"user": "<|user|>{Content}<|end|>", "prompt": "<|user|>{Content}"},
        supports_tool_calling=True,
        created=1_751_371_200,
        min_fl_version="0.3.9",
        tool_call_start="<tool_call>",
        tool_call_end="</tool_call>",
        supports_reasoning=True,
        reasoning_start="<think>\n",
        reasoning_end="</think>",
    )


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("assetId", ..., "assetId: expected a line of at most 300 characters, got nothing"),
        ("assetId", "x" * 301, "assetId: expected a line of at most 300 characters, got "),
        ("entityId", None, "entityId: expected a line of at most 300 characters, got nothing"),
        ("properties.name", ..., "properties.name: expected a line of at most 300 characters, got nothing"),
        ("properties.name", "../a", 'properties.name: expected a name that a folder can have, got "../a"'),
        ("properties.name", ".a", 'properties.name: expected a name that a folder can have, got ".a"'),
        ("properties.name", "a:1", 'properties.name: expected a name that a folder can have, got "a:1"'),
        ("properties.name", "a\x1b[2J", "properties.name: expected a line of at most 300 characters, got "),
        ("properties.version", "latest", 'properties.version: expected a whole number, got "latest"'),
        ("properties.version", ..., "properties.version: expected a whole number, got nothing"),
        ("properties.version", True, "properties.version: expected a whole number, got true"),
        ("properties.version", 10**9, "properties.version: expected a whole number, got 1000000000"),
        ("properties.variantInfo", ..., "properties.variantInfo: expected an object, got nothing"),
        (
            "properties.variantInfo.variantMetadata.device",
            "tpu",
            'properties.variantInfo.variantMetadata.device: expected cpu, gpu or npu, got "tpu"',
        ),
        (
            "annotations.systemCatalogData.publisher",
            "a/b",
            "annotations.systemCatalogData.publisher: expected a name that a folder can have, got \"a/b\"",
        ),
    ],
)  # fmt: skip
def test_an_entry_that_is_no_model_is_refused_by_the_fields_name(
    path: str, value: object, message: str
) -> None:
    with pytest.raises(ContentError) as refused:
        read_entry(changed(path, value))
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    ("path", "value", "field", "read"),
    [
        ("annotations.tags.alias", ..., "alias", "Phi-4-mini"),
        ("annotations.tags.alias", "a:1", "alias", "Phi-4-mini"),
        ("annotations.tags.alias", " two\nlines ", "alias", "two lines"),
        ("annotations.tags.promptTemplate", "{", "prompt_template", None),
        ("annotations.tags.promptTemplate", "[]", "prompt_template", None),
        ("annotations.tags.promptTemplate", '{"user": 5}', "prompt_template", None),
        ("annotations.tags.licenseDescription", "a\n\x1bb", "license_description", "a\n b"),
        ("annotations.tags.license", 5, "license", ""),
        ("annotations.tags.supportsToolCalling", ..., "supports_tool_calling", False),
        ("annotations.tags.supportsToolCalling", True, "supports_tool_calling", True),
        ("annotations.tags.maxOutputTokens", "many", "max_output_tokens", 1024),
        ("annotations.tags.toolCallStart", 5, "tool_call_start", ""),
        ("annotations.systemCatalogData", {"maxOutputTokens": 77}, "max_output_tokens", 2048),
        ("annotations.systemCatalogData", ..., "publisher", ""),
        ("properties.version", 7, "id", "phi-4-mini-instruct-generic-cpu:7"),
        ("properties.version", "07", "id", "phi-4-mini-instruct-generic-cpu:7"),
        ("properties.creationContext", ..., "created", 0),
        ("properties.creationContext.createdTime", "2025-07-01T12:00:00", "created", 1_751_371_200),
        ("properties.creationContext.createdTime", "0001-01-01T00:00:00Z", "created", 0),
        ("properties.variantInfo.parents", ..., "parent_uri", ""),
        (f"{VARIANT}.fileSizeBytes", "1048577", "file_size_mb", 1),
        (f"{VARIANT}.fileSizeBytes", -1, "file_size_mb", 0),
        (f"{VARIANT}.device", ..., "device", "CPU"),
        (f"{VARIANT}.executionProvider", ..., "execution_provider", "CPUExecutionProvider"),
        (VARIANT, {}, "model_type", "ONNX"),
    ],
)  # fmt: skip
def test_what_is_missing_or_odd_is_left_out(path: str, value: object, field: str, read: object) -> None:
    assert getattr(read_entry(changed(path, value)), field) == read


def test_the_alias_is_the_names_where_nothing_else_says_it() -> None:
    made = changed("properties.variantInfo.parents", [], alias=None)
    assert read_entry(made).alias == "phi-4-mini-instruct-generic-cpu"


def test_a_device_without_a_provider_is_refused_where_it_could_be_any() -> None:
    made = entry("phi-generic-gpu", device="gpu")
    del made["properties"]["variantInfo"]["variantMetadata"]["executionProvider"]
    with pytest.raises(ContentError, match="expected the name of an execution provider"):
        read_entry(made)
    made = entry("phi-generic-gpu", device="gpu")
    assert (read_entry(made).device, read_entry(made).execution_provider) == (
        "GPU",
        "WebGpuExecutionProvider",
    )


PATHS = [
    "assetId", "annotations", "annotations.tags", "annotations.tags.alias", "annotations.tags.promptTemplate",
    "annotations.tags.task", "annotations.systemCatalogData", "properties", "properties.name",
    "properties.version", "properties.variantInfo", "properties.variantInfo.parents",
    "properties.variantInfo.variantMetadata", "properties.variantInfo.variantMetadata.device",
    "properties.variantInfo.variantMetadata.fileSizeBytes", "properties.creationContext",
]  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(path=st.sampled_from(PATHS), value=ANYTHING)
def test_whatever_stands_in_an_entry_it_is_read_or_refused(path: str, value: object) -> None:
    # As JSON has it: no lone surrogates, which the reader of pages refuses.
    made = changed(path, json.loads(json.dumps(value).encode().decode()))
    try:
        facts = read_entry(made)
    except ContentError:
        return
    assert facts.id.rpartition(":")[2].isdecimal()
    assert facts.device in {"CPU", "GPU", "NPU"}
    if "\\ud" not in json.dumps(value):
        assert encode(facts)

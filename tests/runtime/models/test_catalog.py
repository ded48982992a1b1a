"""The catalogue: models on this machine and elsewhere are one list, in which each is described truly."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from foundry_proto.catalog import resolve
from foundry_runtime.models.catalog import BuiltIn, Catalog
from foundry_runtime.models.description import CatalogModel
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.document import BadModelFolder
from foundry_runtime.models.recipes import DEFAULT_ID, DEFAULT_MODEL
from tests.runtime.models.folders import write_folder


@pytest.fixture
def directory(tmp_path: Path) -> ModelDirectory:
    return ModelDirectory(tmp_path / "home of Jürgen")


def elsewhere(model_id: str, **more: Any) -> CatalogModel:
    return CatalogModel(id=model_id, **{"alias": "phi", "uri": "there://", "provider_type": "There", **more})


@frozen
class Known:
    """A source of fixed models."""

    known: Sequence[CatalogModel]

    def models(self) -> Sequence[CatalogModel]:
        return self.known


def ids(catalog: Catalog) -> list[str]:
    return [model.id for model in catalog.models()]


def test_the_default_model_is_listed_before_it_is_here(directory: ModelDirectory) -> None:
    catalog = Catalog(directory)
    assert catalog.models() == [DEFAULT_MODEL]
    assert (DEFAULT_MODEL.cached, DEFAULT_MODEL.path) == (False, None)
    assert catalog.resolve("smollm2-135m") == DEFAULT_MODEL
    assert catalog.folder("smollm2-135m") is None


def test_a_known_model_that_is_here_is_described_by_both(directory: ModelDirectory) -> None:
    model_id = "SmolLM2-135M-Instruct-generic-CPU:1"
    folder = write_folder(directory.models / "p" / "m", model_id, maxOutputTokens=77)
    os.utime(folder / "inference_model.json", (1_700_000_000, 1_700_000_000))
    (model,) = Catalog(directory).models()
    assert (model.id, model.alias) == (model_id, "smollm2-135m")
    assert (model.uri, model.license) == (DEFAULT_MODEL.uri, "apache-2.0")
    assert (model.publisher, model.created) == ("HuggingFaceTB", 1_700_000_000)
    assert (model.max_output_tokens, model.file_size_mb) == (77, 0)
    assert (model.cached, model.path) == (True, folder)


def test_a_model_that_a_user_has_brought_is_described_by_its_folder(directory: ModelDirectory) -> None:
    folder = write_folder(
        directory.models / "Größe & Co" / "mine",
        "mine",
        {"model": {"decoder": {"session_options": {"provider_options": [{}, {"cuda": {}}]}}}},
        maxOutputTokens=5,
        PromptTemplate={"user": "<{Content}>", "prompt": "x", "stop": 1},
        task="embeddings",
    )
    (folder / "model.onnx.data").write_bytes(b"\0" * 3_000_000)
    (folder / "chat_template.jinja").write_text("{% if tools %}…{% endif %}", encoding="utf-8")
    os.utime(folder / "inference_model.json", (7, 7))
    assert Catalog(directory, ()).models() == [
        CatalogModel(
            id="mine:0",
            alias="mine",
            uri="local://mine",
            provider_type="Local",
            publisher="Größe & Co",
            task="embeddings",
            file_size_mb=2,
            max_output_tokens=5,
            prompt_template={"user": "<{Content}>", "prompt": "x"},
            supports_tool_calling=True,
            device="GPU",
            execution_provider="CUDAExecutionProvider",
            created=7,
            cached=True,
            path=folder,
        )
    ]


@pytest.mark.parametrize(
    ("model_id", "options", "device", "provider"),
    [
        ("m:1", [], "CPU", "CPUExecutionProvider"),
        ("m:1", [{"dml": {}}], "GPU", "DmlExecutionProvider"),
        ("m:1", [{"qnn": {}}], "NPU", "QNNExecutionProvider"),
        ("m-generic-cpu:1", [{"webgpu": {}}], "CPU", "WebGpuExecutionProvider"),
        ("m:1", [{"OpenVINO": {}}], "GPU", "OpenVINOExecutionProvider"),
        ("m-openvino-npu:1", [{"OpenVINO": {}}], "NPU", "OpenVINOExecutionProvider"),
        ("m:1", "no list", "CPU", "CPUExecutionProvider"),
    ],
)
def test_the_device_is_the_ids_else_that_of_the_models_own_provider(
    directory: ModelDirectory, model_id: str, options: object, device: str, provider: str
) -> None:
    config = {"model": {"decoder": {"session_options": {"provider_options": options}}}}
    write_folder(directory.models / "p" / "m", model_id, config)
    (model,) = Catalog(directory, ()).models()
    assert (model.device, model.execution_provider) == (device, provider)


@pytest.mark.parametrize("config", ["[]", "{", '{"model": 5}'])
def test_a_damaged_file_hides_no_model_and_spoils_no_list(directory: ModelDirectory, config: str) -> None:
    folder = write_folder(
        directory.models / "p" / "m", "m:1", maxOutputTokens="many", PromptTemplate=[], task=5
    )
    (folder / "genai_config.json").write_text(config, encoding="utf-8")
    (folder / "chat_template.jinja").write_bytes(b"\xff")
    if sys.platform != "win32":
        (folder / "gone").symlink_to(folder / "nowhere")
    catalog = Catalog(directory, ())
    (model,) = catalog.models()
    assert (model.max_output_tokens, model.prompt_template, model.task) == (1024, None, "chat-completion")
    assert (model.device, model.execution_provider) == ("CPU", "CPUExecutionProvider")
    assert not model.supports_tool_calling
    with pytest.raises(BadModelFolder, match=r"genai_config\.json"):
        catalog.folder("m")


def test_a_model_without_a_template_has_no_tools(directory: ModelDirectory) -> None:
    folder = write_folder(directory.models / "p" / "m", "m:1")
    assert not Catalog(directory, ()).models()[0].supports_tool_calling
    (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ tools }}"}', encoding="utf-8")
    assert Catalog(directory, ()).models()[0].supports_tool_calling


def test_the_version_and_the_name_are_the_ids_two_parts() -> None:
    assert [(m.name, m.version) for m in map(elsewhere, ("phi-cpu:3", "a:latest"))] == [
        ("phi-cpu", "3"),
        ("a", "latest"),
    ]


def test_of_two_sources_that_know_a_model_the_first_describes_it(directory: ModelDirectory) -> None:
    first, second = elsewhere("phi-cpu:1", publisher="first"), elsewhere("PHI-cpu:1", publisher="second")
    assert Catalog(directory, (Known([first]), Known([second]))).models() == [first]


def test_models_here_and_elsewhere_stand_in_one_order(directory: ModelDirectory) -> None:
    write_folder(directory.models / "p" / "a", "phi-generic-cpu:1")
    write_folder(directory.models / "p" / "b", "mine")
    known = [elsewhere(f"phi-{kind}") for kind in ("generic-cpu:1", "generic-cpu:2", "qnn-npu:1")]
    assert ids(Catalog(directory, (BuiltIn(), Known(known)))) == [
        "mine:0",
        "phi-qnn-npu:1",
        "phi-generic-cpu:2",
        "phi-generic-cpu:1",
        DEFAULT_ID,
    ]


@pytest.mark.parametrize(
    ("name", "meant", "cached"),
    [
        ("phi", "phi-generic-cpu:1", True),
        ("PHI-Generic-CPU", "phi-generic-cpu:1", True),
        ("phi-generic-cpu:2", "phi-generic-cpu:2", False),
        ("phi-qnn-npu", "phi-qnn-npu:1", False),
        ("mine", "mine:0", True),
        ("nobody", None, False),
    ],
)
def test_a_name_means_what_is_here_before_what_is_elsewhere(
    directory: ModelDirectory, name: str, meant: str | None, cached: bool
) -> None:
    write_folder(directory.models / "p" / "a", "phi-generic-cpu:1")
    write_folder(directory.models / "p" / "b", "mine")
    known = [elsewhere(f"phi-{kind}") for kind in ("generic-cpu:1", "generic-cpu:2", "qnn-npu:1")]
    catalog = Catalog(directory, (Known(known),))
    found, folder = catalog.resolve(name), catalog.folder(name)
    assert (found.id if found else None) == meant
    assert (folder.id if folder else None) == (meant if cached else None)
    assert bool(found and found.cached) is cached


def test_what_is_put_there_or_taken_away_counts_at_once(directory: ModelDirectory) -> None:
    catalog = Catalog(directory)
    folder = write_folder(directory.models / "p" / "a", DEFAULT_ID)
    found = catalog.resolve(DEFAULT_ID)
    assert found is not None
    assert found.cached
    shutil.rmtree(folder)
    assert catalog.models() == [DEFAULT_MODEL]


KEPT = {
    "alias": "phi",
    "uri": "azureml://registries/azureml/models/phi-generic-cpu/versions/1",
    "providerType": "AzureFoundry",
    "license": "MIT",
}


def test_a_model_that_came_from_a_catalogue_is_what_it_was_when_there_is_none(
    directory: ModelDirectory,
) -> None:
    write_folder(directory.models / "p" / "a", "phi-generic-cpu:1", formatVersion=1, **KEPT)
    catalog = Catalog(directory, ())
    (model,) = catalog.models()
    assert (model.alias, model.uri, model.license) == ("phi", KEPT["uri"], "MIT")
    assert catalog.resolve("PHI") == model


@pytest.mark.parametrize("version", [2, "1"])
def test_what_another_version_has_kept_says_nothing_but_the_name(
    directory: ModelDirectory, version: object
) -> None:
    write_folder(directory.models / "p" / "a", "phi-generic-cpu:1", formatVersion=version, **KEPT)
    (model,) = Catalog(directory, ()).models()
    assert (model.id, model.alias, model.provider_type) == (
        "phi-generic-cpu:1",
        "phi-generic-cpu",
        "Local",
    )


def test_an_older_version_goes_by_the_alias_of_the_one_that_is_known(directory: ModelDirectory) -> None:
    folder = write_folder(directory.models / "p" / "a", "Phi-generic-cpu:1", alias=5)
    uri = "azureml://registries/azureml/models/phi-generic-cpu/versions/"
    newer = elsewhere("phi-generic-cpu:3", uri=f"{uri}3", license="MIT", created=9, file_size_mb=77)
    catalog = Catalog(directory, (Known([newer]),))
    here = catalog.resolve("phi")
    assert here is not None
    assert (here.id, here.alias, here.path) == ("Phi-generic-cpu:1", "phi", folder)
    assert (here.uri, here.provider_type, here.license) == (f"{uri}1", "There", "MIT")
    assert here.file_size_mb == 0
    assert ids(catalog) == ["phi-generic-cpu:3", "Phi-generic-cpu:1"]
    assert catalog.newest("phi") == newer
    assert catalog.newest("phi:1") == here
    assert catalog.newest("nobody") is None
    assert catalog.newer_versions() == [("Phi-generic-cpu:1", "phi-generic-cpu:3")]
    other = Catalog(directory, (Known([elsewhere("phi-generic-cpu:3")]),)).resolve("phi")
    assert other is not None
    assert other.uri == "local://Phi-generic-cpu"


@pytest.mark.parametrize(
    "name", ["phi", "PHI:3", "phi-generic-cpu", "PHI-generic-cpu:3", "Other:9", "x", "x:1", "m3"]
)
def test_a_name_means_the_same_whoever_else_is_known(directory: ModelDirectory, name: str) -> None:
    write_folder(directory.models / "p" / "a", "phi-generic-cpu:2")
    known = [elsewhere("phi-generic-cpu:3"), elsewhere("phi-generic-gpu:3")]
    known += [elsewhere("a:1", alias="other:9"), elsewhere("odd:latest", alias="x:1")]
    known += [elsewhere(f"m{number}-cpu:1", alias=f"m{number}") for number in range(9)]
    catalog = Catalog(directory, (Known(known),))
    assert catalog.resolve(name) == resolve(catalog.models(), name)

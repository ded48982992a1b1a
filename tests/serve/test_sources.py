"""Where models come from, as a user has configured it."""

from __future__ import annotations

from typing import Any

import pytest

from foundry_runtime.download.manager import source_for
from foundry_runtime.download.sources.api import WantedModel
from foundry_runtime.download.sources.azure import REGIONS, REGISTRY, AzureFoundry
from foundry_runtime.download.sources.default_model import DEFAULT_WANTED, DefaultModel
from foundry_runtime.download.sources.hugging_face import HUB, HuggingFace
from foundry_runtime.download.sources.local_files import LocalFiles
from foundry_serve.catalog import make_sources
from foundry_serve.config import Config


def hub(config: Config | None = None, **environment: str) -> HuggingFace:
    (found,) = (one for one in make_sources(config, environment=environment) if isinstance(one, HuggingFace))
    return found


def azure(config: Config | None = None) -> AzureFoundry:
    (found,) = (one for one in make_sources(config, environment={}) if isinstance(one, AzureFoundry))
    return found


def test_without_a_word_models_come_from_the_public_places() -> None:
    assert (hub().endpoint, hub().token) == (HUB, None)
    assert (azure().registry.base, azure().registry.regions) == (REGISTRY, REGIONS)


def test_configuration_goes_before_the_hubs_own_variables() -> None:
    assert hub(HF_ENDPOINT="https://a.example/").endpoint == "https://a.example"
    config = Config(hugging_face="https://b.example/hub")
    assert hub(config, HF_ENDPOINT="https://a.example").endpoint == "https://b.example/hub"
    assert hub(HF_TOKEN=" hf_secret\n").token == "hf_secret"
    assert hub(HF_TOKEN=" ", HF_ENDPOINT="").token is None


def test_a_registry_of_ones_own_and_its_regions() -> None:
    registry = azure(Config(azure_registry="https://{region}.a.example", azure_regions=("x", "y"))).registry
    assert (registry.base, registry.regions) == ("https://{region}.a.example", ("x", "y"))


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ({"uri": "azureml://registries/azureml/models/x/versions/1"}, AzureFoundry),
        ({"uri": "azureml://x", "provider_type": "AzureFoundryLocal"}, AzureFoundry),
        ({"uri": "hf://a/b"}, HuggingFace),
        ({"uri": "a/b", "provider_type": "HuggingFaceLocal"}, HuggingFace),
        ({"uri": "/a/b", "provider_type": "HuggingFace"}, LocalFiles),
        ({"uri": "file:///a/b"}, LocalFiles),
        ({"uri": DEFAULT_WANTED.uri, "provider_type": "PackageIndexLocal"}, DefaultModel),
    ],
)
def test_provider_and_address_decide(model: dict[str, Any], kind: type) -> None:
    found = source_for(WantedModel(id="x:1", **model), make_sources(environment={}))
    assert isinstance(found, kind)

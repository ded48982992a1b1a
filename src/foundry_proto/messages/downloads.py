"""Downloads as the protocol speaks of them: which model is wanted, and from where.

Knows: the properties of a download request, in every spelling that clients use.
Refuses to know: how progress looks (`progress.py`), and where models come from.

Source: the REST reference page, "POST /openai/download".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from attrs import field, frozen

from foundry_proto.sentinels import ABSENT, Maybe
from foundry_proto.wire import Between, Wire

__all__ = ["DownloadRequest", "WorkspaceInferenceModel"]


@frozen(kw_only=True)
class WorkspaceInferenceModel:
    """A model and where it comes from."""

    WIRE: ClassVar = Wire(noun="a model", nouns="models", writes=("pascal",), any_case=True)
    name: str
    """The model's id with its version: `Phi-4-mini-instruct-generic-cpu:4`."""
    # Choice: the reference page has it as required; a model that the catalogue knows needs no more than its
    # name, and the catalogue says the rest.
    uri: Maybe[str] = ABSENT
    """Where it comes from: `azureml://…`, as the catalogue has it."""
    provider_type: Maybe[str] = ABSENT
    """What kind of place that is: `AzureFoundryLocal`, `HuggingFace`."""
    path: Maybe[str] = ABSENT
    """The folder of the model's files at that place."""
    prompt_template: Maybe[Mapping[str, str | None]] = ABSENT
    """A text for each role, in which `{Content}` stands for the message; kept beside the model."""
    publisher: Maybe[str] = ABSENT


@frozen(kw_only=True)
class DownloadRequest:
    """A request to bring a model to this machine; every property but `model` may be absent or null."""

    WIRE: ClassVar = Wire(writes=("camel",), any_case=True)
    model: WorkspaceInferenceModel | str
    """The model, or, as an older document has it, its name alone."""
    token: Maybe[str] = field(default=ABSENT, repr=False)
    """What opens a protected place."""
    progress_token: object = ABSENT
    """Any JSON value, by which who watches the service's events knows this download."""
    custom_dir_path: Maybe[str] = ABSENT
    """A directory to use in place of the service's own."""
    buffer_size: Maybe[Annotated[int, Between(0, 2**20)]] = ABSENT
    """The download buffer in units of 1024 bytes; 0 leaves it to the service."""
    ignore_pipe_report: Maybe[bool] = ABSENT
    """Whether progress comes in this answer even where it could go elsewhere; here it always does."""
    force: Maybe[bool] = ABSENT
    """Whether a model that is here already is fetched again; not on the reference page, but sent."""

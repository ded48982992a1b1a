"""Homes with tiny models, for tests that need a real tokenizer and template but no real answers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from foundry_runtime.models.directory import ModelDirectory
from tests.support.tiny_model import TinyLlama, tiny_model_folder
from tests.support.tool_templates import TEMPLATES


@pytest.fixture(scope="session")
def tiny_home(tmp_path_factory: pytest.TempPathFactory) -> ModelDirectory:
    """Its path has a blank and letters beyond ASCII."""
    directory = ModelDirectory(Path(tmp_path_factory.mktemp("Zuhause mit Ä und ☕")))
    target = directory.models / "Test"
    target.mkdir(parents=True)
    tiny_model_folder(target)
    return directory


PAGE_MODELS = (
    "Phi-4-mini-instruct-generic-cpu:4",
    "phi-3.5-mini-instruct-generic-cpu:1",
    "qwen2.5-0.5b-instruct-generic-cpu:4",
    "Phi-4-mini-instruct-cuda-gpu:5",
)
"""The models that the reference page's examples name, each with a version."""


def add_model(home: ModelDirectory, model_id: str, source: Path, **more: object) -> Path:
    """Put a copy of a model folder into a home, under another id; gives the copy."""
    folder = home.models / "Test" / model_id.replace(":", "-")
    shutil.copytree(source, folder)
    identity = folder / "inference_model.json"
    identity.write_text(json.dumps({**json.loads(identity.read_text()), "Name": model_id, **more}))
    return folder


@pytest.fixture(scope="session")
def page_home(tiny_home: ModelDirectory, tmp_path_factory: pytest.TempPathFactory) -> ModelDirectory:
    """A home with the models of the reference page, which are all the tiny one."""
    home = ModelDirectory(tmp_path_factory.mktemp("page"))
    for model_id in PAGE_MODELS:
        add_model(home, model_id, tiny_home.models / "Test" / "tiny")
    return home


@pytest.fixture(scope="session")
def families_home(tmp_path_factory: pytest.TempPathFactory) -> ModelDirectory:
    """Models that differ in how they are told of tools, and mark what they say.

    `words` knows of no tools; `qwen` and `deepseek` think and call tools in their families' ways; `marked`
    begins its calls with a special token; `parts` has no chat template.
    """
    directory = ModelDirectory(tmp_path_factory.mktemp("families"))
    made = tmp_path_factory.mktemp("tiny")
    tiny = tiny_model_folder(made, TinyLlama(context_length=8192, n_layers=1), max_output_tokens=2048)
    text = "<|im_start|>{Content}<|im_end|>"
    add_model(directory, "words:1", tiny)
    for name in ("qwen", "deepseek"):
        template = add_model(directory, f"{name}:1", tiny) / "chat_template.jinja"
        template.write_text(TEMPLATES[name], "utf-8")
    add_model(directory, "marked:1", tiny, toolCallStart="<|im_start|>")
    parts = add_model(directory, "parts:1", tiny, PromptTemplate={"user": text, "assistant": f"> {text}"})
    (parts / "chat_template.jinja").unlink()
    return directory

"""Model folders of two small files, as much as the directory reads, and what a home has beside its models."""

from __future__ import annotations

import json
from pathlib import Path

from foundry_runtime.models.directory import ModelDirectory

__all__ = ["CONFIG", "left_in", "write_folder"]

CONFIG = {
    "model": {"context_length": 8192, "eos_token_id": 2, "vocab_size": 49152, "type": "llama"},
    "search": {"do_sample": True, "temperature": 0.2, "top_p": 0.9, "max_length": 8192},
}


def write_folder(folder: Path, name: object = "mine:1", config: object = CONFIG, **identity: object) -> Path:
    """Write a model folder.

    Args:
        folder: The folder, made if need be.
        name: `Name` in `inference_model.json`.
        config: What `genai_config.json` holds.
        identity: What else `inference_model.json` holds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "genai_config.json").write_text(json.dumps(config), encoding="utf-8")
    content = {"Name": name, "PromptTemplate": None, **identity}
    (folder / "inference_model.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def left_in(directory: ModelDirectory) -> list[str]:
    """What is in the home besides locks and models."""
    models = [entry.path for entry in directory.entries()]
    return [
        str(path.relative_to(directory.home))
        for path in directory.home.rglob("*")
        if path.is_file() and path.suffix != ".lock" and path.parent not in models
    ]

"""What a program with the official Python client does; run by the tests with the unmodified client.

    python foundry_program.py

Prints one JSON object: what each call gave.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import openai
from foundry_local import FoundryLocalManager

ALIAS = "smollm2-135m"
QUESTION: Any = [{"role": "user", "content": "Name three primary colors."}]


def chat(manager: Any, model_id: str) -> dict[str, Any]:
    with openai.OpenAI(base_url=manager.endpoint, api_key=manager.api_key, max_retries=0) as client:
        whole = client.chat.completions.create(model=model_id, messages=QUESTION, temperature=0)
        stream = client.chat.completions.create(model=model_id, messages=QUESTION, temperature=0, stream=True)
        return {
            "whole": whole.choices[0].message.content,
            "streamed": "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices),
            "listed": [model.id for model in client.models.list()],
        }


def load_and_unload(manager: Any, name: str) -> list[bool]:
    """Whether the model is in memory: loaded, unloaded within its time to live, and unloaded by force."""
    model = manager.load_model(name)  # with the client's own time to live, 600 s
    states = [model in manager.list_loaded_models()]
    for force in (False, True):
        manager.unload_model(name, force=force)
        states.append(model in manager.list_loaded_models())
    return states


def main() -> None:
    try:
        manager = FoundryLocalManager(ALIAS)
    except RuntimeError as error:
        sys.stdout.write(json.dumps({"failed": str(error)}))
        return
    model = manager.get_model_info(ALIAS, raise_on_not_found=True)
    report = {
        "endpoint": manager.endpoint,
        "cache": manager.get_cache_location(),
        "catalog": [one.id for one in manager.list_catalog_models()],
        "cached": [one.id for one in manager.list_cached_models()],
        "loaded": [one.id for one in manager.list_loaded_models()],
        "chat": chat(manager, model.id),
        "states": {name: load_and_unload(manager, name) for name in (ALIAS, model.id)},
        "again": manager.download_model(ALIAS, force=True).id,
        "upgradeable": manager.is_model_upgradeable(ALIAS),
        "running": manager.is_service_running(),
        "second": FoundryLocalManager().endpoint,
    }
    try:
        manager.load_model("no-such-model")
    except ValueError as error:
        report["unknown"] = str(error)
    sys.stdout.write(json.dumps(report))


main()

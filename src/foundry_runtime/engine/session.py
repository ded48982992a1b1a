"""Opens a graph with onnxruntime, for all that drive it directly.

Knows: the session options that suit a machine whose cores are shared. Refuses to know: what a graph computes.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from foundry_runtime.engine.api import ModelLoadError

__all__ = ["open_session"]


def open_session(graph: Path, *, threads: int, arena: bool, rewritten: bytes | None = None) -> Any:
    """Load a graph for the processor.

    Args:
        graph: The ONNX file; its weights may lie beside it.
        threads: Threads that compute.
        arena: Whether memory between the graph's nodes is kept for the next run: quick where all runs are
            alike; otherwise it holds what the largest has taken for as long as the session lives.
        rewritten: What is loaded instead of the file, with weights beside that.

    Returns:
        An `onnxruntime.InferenceSession`, which is untyped.

    Raises:
        ModelLoadError: onnxruntime is not installed, or cannot load it.
    """
    # Telemetry is switched off first, unless the package was imported before.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        onnxruntime = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise ModelLoadError(
            f"onnxruntime cannot be imported (install foundry-proto[genai]): {error}"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # errors are raised; the log would only repeat them
    # Between two kernels a thread that sleeps costs a quarter of the speed; one that spins for as long as it
    # does by default burns a core for 30 ms after each run.
    options.add_session_config_entry("session.intra_op.spin_duration_us", "100")
    options.enable_cpu_mem_arena = arena
    if rewritten is not None:
        key = "session.model_external_initializers_file_folder_path"
        options.add_session_config_entry(key, str(graph.parent))
    source = str(graph) if rewritten is None else rewritten
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library's own classes have no common base
        raise ModelLoadError(f"{graph}: the model cannot be loaded: {error}") from error

"""onnxruntime driven directly: many jobs share each pass through the model, and prompts what they begin with.

`engine.py` is the step machine; the files beside it are its parts, and say what each knows.
"""

from foundry_runtime.engine.batched.engine import BatchedEngine

__all__ = ["BatchedEngine"]

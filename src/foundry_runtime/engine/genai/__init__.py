"""onnxruntime-genai as an engine.

`binding.py` calls the wheel's C library; `engine.py` is the step machine over it.
"""

from foundry_runtime.engine.genai.engine import GenaiEngine

__all__ = ["GenaiEngine"]

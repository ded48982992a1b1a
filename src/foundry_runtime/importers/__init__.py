"""Other people's model files, made into folders that the inference engine loads.

One module a format; each opens with what it reads and what it refuses. They need the `gguf` extra
(`onnx`, `gguf`, `numpy`, `tokenizers`), so nothing here is imported until a model is imported.
"""

from __future__ import annotations

__all__: list[str] = []

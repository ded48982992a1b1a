"""The models that are published in the public catalogue: asking for them, and what is kept of the answer.

`address`, `queries` and `entries` only compute; `asking` asks; `kept` is the file; `models` puts them
together, and is what others see. Refuses to know: how a model's files are fetched.
"""

__all__: list[str] = []

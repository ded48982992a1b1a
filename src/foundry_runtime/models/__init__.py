"""The models on disk and in memory."""

__all__: list[str] = []

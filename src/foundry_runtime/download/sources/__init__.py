"""Where models come from."""

__all__: list[str] = []

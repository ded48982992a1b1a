"""How models get here."""

__all__: list[str] = []

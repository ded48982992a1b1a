"""What every engine shares: from messages to token ids, and from logits to the next id."""

__all__: list[str] = []

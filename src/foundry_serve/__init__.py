"""The product: the Foundry Local server and the `foundry` command."""

__all__: list[str] = []

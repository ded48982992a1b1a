"""What binds `foundry_proto` to the world: sockets on asyncio or trio, and threads that step engines."""

__all__: list[str] = []

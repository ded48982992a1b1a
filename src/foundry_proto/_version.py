"""The one source of the version: package metadata, `foundry --version` and the `Server` header read it."""

__version__ = "0.1.0"

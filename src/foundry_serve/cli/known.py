"""Which models there are, for the commands: those here, and those of the catalogue's kept list.

Knows: when a command asks the catalogue for a new list, and how long its user waits for that.
Refuses to know: what is done with a model.
"""

from __future__ import annotations

import logging
from typing import Final

import anyio
import click
from attrs import frozen

from foundry_runtime.models.catalog import Catalog
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.published.models import PublishedModels
from foundry_serve.catalog import make_catalog, published_models
from foundry_serve.cli.terminal import configured, warn
from foundry_serve.config import Config

__all__ = ["PATIENT", "SHORT", "KnownModels", "known_models"]

SHORT: Final = 3.0
"""Seconds that a first list is waited for by who wants to see what there is."""
PATIENT: Final = 30.0
"""Seconds that a new list is waited for by who wants a model of it."""
_IN_VAIN: Final = 600.0
"""Seconds after a failure in which nobody waits again."""


@frozen(kw_only=True)
class KnownModels:
    """All models, as a command sees them."""

    config: Config
    directory: ModelDirectory
    catalog: Catalog
    published: PublishedModels | None
    """Those of the public catalogue; `None` where it is off."""

    def ask_if_never_asked(self) -> None:
        """Get a first list of the catalogue, unless that was in vain just now; it is waited for shortly."""
        published = self.published
        if published is None or published.age() is not None:
            return
        since = published.since_tried()
        if since is None or since > _IN_VAIN:
            self.ask_anew(SHORT)

    def ask_if_old(self) -> None:
        """Get a new list of the catalogue, if the kept one is no longer new."""
        if self.published is not None and not self.published.is_fresh:
            self.ask_anew(PATIENT)

    def ask_anew(self, within: float) -> None:
        """Get a new list of the catalogue; one that cannot be had is no misfortune."""
        if self.published is None:
            return
        from foundry_serve.cli.drawing import stderr  # noqa: PLC0415 - it is large, and seldom needed

        published = self.published
        # What the log would say is told in the command's own words; without a handler Python prints it, too.
        logging.getLogger("foundry_runtime").addHandler(logging.NullHandler())
        try:
            with stderr.status("asking the catalogue"):
                # Where names are resolved in vain, asyncio waits for its thread in the end; trio does not.
                anyio.run(lambda: published.refresh(within=within), backend="trio")
        except KeyboardInterrupt:
            raise click.Abort from None

    def tell_of_list(self) -> None:
        """Say in a line what there is to know about the list: that it is old, or could not be had."""
        if self.published is not None and (notice := self.published.notice()) is not None:
            again = "" if self.published.kept().problem else ": foundry model list --refresh"
            warn(f"{notice}{again}")


def known_models() -> KnownModels:
    """The models of the user's configuration."""
    loaded = configured()
    directory = loaded.directory
    published = published_models(loaded.config, directory.home)
    return KnownModels(
        config=loaded.config,
        directory=directory,
        catalog=make_catalog(directory, published=published),
        published=published,
    )

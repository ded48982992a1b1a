"""Files come over HTTP into a folder, range by range."""

from foundry_runtime.download.fetching.fetch import fetch_folder
from foundry_runtime.download.fetching.remote import Limits, Listing, RemoteFile

__all__ = ["Limits", "Listing", "RemoteFile", "fetch_folder"]

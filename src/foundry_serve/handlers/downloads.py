"""`POST /openai/download`: from a request to a model on this machine.

Knows: what a request's properties mean for a download, which requests are refused before anything is fetched,
and that paths of this machine are for clients on it.
Refuses to know: HTTP, how progress looks, and how anything is fetched.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import anyio.to_thread

from foundry_proto.catalog import versioned_id
from foundry_proto.events import Failure, Request, StreamEnd, StreamItem
from foundry_proto.messages.downloads import DownloadRequest, WorkspaceInferenceModel
from foundry_runtime.application import Send, is_local
from foundry_runtime.download.delivery import Delivery
from foundry_runtime.download.manager import Conflict, NoSource, TooMany
from foundry_runtime.download.sources.api import DownloadFailed, WantedModel
from foundry_runtime.models.description import CatalogModel
from foundry_runtime.models.directory import ModelDirectory
from foundry_serve.failures import no_such_model
from foundry_serve.leasing import Refusal
from foundry_serve.reporting import DownloadReport
from foundry_serve.services import Services

__all__ = ["download_model"]

_KILOBYTE: Final = 1024


async def download_model(services: Services, request: Request[DownloadRequest], send: Send) -> None:
    """Answer a download: updates, and then the end, or why there is none.

    A model that is here already ends at once, unless it is forced.
    """
    report = DownloadReport(services.feed, request.value)
    failure: Failure | None = Failure(status=500, message="the request for it was given up")
    try:
        await _bring(services, request, send, report)
        failure = None
    except Refusal as refusal:
        failure = refusal.failure
    except Conflict as conflict:
        failure = Failure(status=409, message=f"model: {conflict}", param="model", code="conflict")
    except TooMany as error:
        failure = Failure(
            status=503,
            message=str(error),
            type="server_error",
            code="overloaded",
            headers=((b"retry-after", b"60"),),
        )
    except DownloadFailed as error:
        services.metrics.download_requests.labels("failed").inc()
        failure = Failure(status=500, message=str(error))
    finally:
        report.ended(failure)
    await send(StreamEnd() if failure is None else failure)


async def _bring(
    services: Services, request: Request[DownloadRequest], send: Send, report: DownloadReport
) -> None:
    if (wrong := report.wrong()) is not None:
        raise _bad("progressToken", wrong)
    delivery = await anyio.to_thread.run_sync(_delivery, services, request)
    if delivery is None:
        return
    async with services.downloads.joined(delivery) as transfer:
        async for progress in transfer:
            report.progress(progress)
            await send(StreamItem(value=progress))
    services.metrics.download_requests.labels("done").inc()


def _delivery(services: Services, request: Request[DownloadRequest]) -> Delivery | None:
    """What is to be brought, and where to; `None` when it is there. Looks at the disk.

    Raises:
        Refusal: Nothing can be brought for this request.
    """
    body = request.value
    asked = body.model if isinstance(body.model, WorkspaceInferenceModel) else None
    asked = asked or WorkspaceInferenceModel(name=str(body.model))
    directory = _directory(services, request)
    known = services.catalog.resolve(asked.name)
    model = _wanted(asked, body, known)
    if directory.path_of(model.id) is not None and not body.force:
        return None
    if model.uri.lower().startswith("local://"):
        # What a user has put there comes from nowhere else.
        if known is None or known.path is None:
            raise Refusal(no_such_model(asked.name))
        return None
    if known is not None and known.cached and known.path is None and known.uri == model.uri:
        return None  # another server has it: it can be used, and there is nothing to bring
    try:
        source = services.downloads.source_of(model)
    except NoSource as error:
        raise _bad("model.ProviderType", str(error), code="unsupported_source") from error
    if source.local and not is_local(request.head.client):
        raise _not_local("model.Uri")
    try:
        return Delivery(
            model=model,
            source=source,
            directory=directory,
            prompt_template=asked.prompt_template or None,
            facts=known.facts if known is not None and known.uri == model.uri else None,
            replace=body.force is True,
        )
    except ValueError as error:
        raise _bad("model.Name", str(error)) from error


def _directory(services: Services, request: Request[DownloadRequest]) -> ModelDirectory:
    """Where the model shall be."""
    custom = request.value.custom_dir_path
    if not custom:
        return services.directory
    if not is_local(request.head.client):
        raise _not_local("customDirPath")
    if not Path(custom).is_absolute() or not custom.isprintable():
        raise _bad("customDirPath", f"expected an absolute path, got {custom[:200]!r}")
    return ModelDirectory(services.directory.home, Path(custom))


def _wanted(asked: WorkspaceInferenceModel, body: DownloadRequest, known: CatalogModel | None) -> WantedModel:
    """The model as its source is asked for it; what the request leaves out, the catalogue says."""
    uri = asked.uri or ""
    if not uri and known is None:
        raise Refusal(no_such_model(asked.name))
    if known is not None and uri.casefold() in {"", known.uri.casefold()}:
        model_id, uri, provider, publisher = known.id, known.uri, known.provider_type, known.publisher
    else:
        try:
            model_id = versioned_id(asked.name)
        except ValueError as error:
            raise _bad("model.Name", str(error)) from error
        provider, publisher = "", ""
    return WantedModel(
        id=model_id,
        uri=uri,
        provider_type=asked.provider_type or provider,
        path=asked.path or "",
        publisher=asked.publisher or publisher,
        token=body.token or None,
        buffer_size=body.buffer_size * _KILOBYTE if body.buffer_size else None,
    )


def _bad(param: str, message: str, *, code: str | None = None) -> Refusal:
    return Refusal(Failure(status=400, message=f"{param}: {message}", param=param, code=code))


def _not_local(param: str) -> Refusal:
    message = f"{param}: expected a client on the server's own machine: paths of it are for nobody else"
    return Refusal(Failure(status=403, message=message, param=param, code="forbidden"))

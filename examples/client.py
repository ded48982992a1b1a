"""A client on asyncio or trio: `python client.py [URL] [asyncio|trio]`."""

from __future__ import annotations

import sys

import anyio

from foundry_proto.messages.chat import ChatCompletionRequest, UserMessage
from foundry_proto.operations import CHAT_COMPLETIONS
from foundry_proto.operations.service import SERVICE_STATUS
from foundry_runtime import Client, ServerFailure

question = ChatCompletionRequest(model="m", messages=(UserMessage(role="user", content="Say hello."),))


async def main(url: str) -> None:
    """Ask for the status, for an answer as a whole, and for one in chunks."""
    async with Client(url) as client:
        status = await client.call(SERVICE_STATUS)  # a ServiceStatus
        print("models in", repr(status.model_dir_path))

        whole = await client.call(CHAT_COMPLETIONS, question)  # a ChatCompletion
        print(whole.choices[0].message.content)

        async with client.chat(question) as chunks:
            async for chunk in chunks:  # a ChatCompletionChunk
                print(chunk.choices[0].delta.content or "", end="|", flush=True)
        print("\n", chunks.completion.choices[0].message.content, sep="")

        try:
            await client.call(CHAT_COMPLETIONS, ChatCompletionRequest(model="m", messages=()))
        except ServerFailure as error:
            print(error.failure.status, error)


if __name__ == "__main__":
    url, backend = (*sys.argv[1:], *("http://127.0.0.1:8000", "asyncio")[len(sys.argv) - 1 :])
    anyio.run(main, url, backend=backend)

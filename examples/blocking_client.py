"""The synchronous client, which needs no event loop: `python blocking_client.py [URL]`."""

from __future__ import annotations

import sys

from foundry_proto.messages.chat import ChatCompletionRequest, UserMessage
from foundry_proto.operations import CHAT_COMPLETIONS
from foundry_runtime.blocking import BlockingClient

question = ChatCompletionRequest(model="m", messages=(UserMessage(role="user", content="Say hello."),))

with BlockingClient([*sys.argv, "http://127.0.0.1:8000"][1], timeout=60) as client:
    whole = client.call(CHAT_COMPLETIONS, question)
    print(whole.choices[0].message.content)
    with client.chat(question) as chunks:
        for chunk in chunks:
            print(chunk.choices[0].delta.content or "", end="|", flush=True)
    print("\n", chunks.completion.choices[0].message.content, sep="")

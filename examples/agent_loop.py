"""How an agent works with a session: it sends code, reads what happened, and corrects itself.

The "model" here is a list of answers, so that the program shows the loop and nothing else. What a model
needs to see after each turn is short: output, value, or the error with its line and an alternative.
"""

import asyncio
from collections.abc import Iterator

from sandboxd_client import Client, ExecutionResult, Limits

TASK = "How many words of at least five letters are in the text, and which is the longest?"
TEXT = "the quick brown fox jumps over the lazy dog"


def model() -> Iterator[str]:
    """Stands for a language model: each answer corrects the one before."""
    yield "import nltk\nwords = nltk.word_tokenize(text)"  # not an allowed module
    yield "words = text.split()\nlong = [w for w in words if len(w) >= 5]\nlen(long), max(long, key=length)"
    yield "len(long), max(long, key=len)"  # `long` is still there from the turn before


def observation(result: ExecutionResult) -> str:
    """What the model is told, in few words."""
    if result.completed:
        return f"value: {result.result!r}"
    return f"{result.status}: {result.error}"


async def main() -> None:
    limits = Limits(execution_timeout=5, memory_bytes=128 << 20)
    async with Client.connect() as client, client.create_sandbox(limits=limits) as sandbox:
        print("task:", TASK)
        for turn, code in enumerate(model(), start=1):
            result = await sandbox.execute(code, inputs={"text": TEXT})
            print(f"turn {turn}:", observation(result).splitlines()[0])
            if result.completed:
                break


asyncio.run(main())

"""Bytes of output as text, chunk by chunk."""

import codecs


class Decoders:
    """One UTF-8 decoder a stream: a character cut between two chunks comes whole with the second."""

    def __init__(self) -> None:
        self._decoders: dict[str, codecs.IncrementalDecoder] = {}

    def decode(self, stream: str, data: bytes) -> str:
        """The text that is complete with `data`."""
        decoder = self._decoders.get(stream)
        if decoder is None:
            decoder = self._decoders[stream] = codecs.getincrementaldecoder("utf-8")(errors="replace")
        return decoder.decode(data)

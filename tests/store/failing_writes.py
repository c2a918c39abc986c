"""A disk that fails every so often, as the journal meets it."""

import os


class FailingWrites:
    """Stands for os.writev of the journal: every n-th one fails, or writes only a part."""

    def __init__(self, every: int, error: int) -> None:
        self.every = every
        self.error = error
        self.count = 0
        self._writev = os.writev

    def __call__(self, descriptor: int, buffers: list[bytes]) -> int:
        self.count += 1
        if self.count % self.every:
            return self._writev(descriptor, buffers)
        if self.error == 0:
            whole = b"".join(buffers)
            return os.write(descriptor, whole[: len(whole) // 2])
        raise OSError(self.error, os.strerror(self.error))

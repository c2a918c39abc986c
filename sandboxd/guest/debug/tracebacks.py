"""Where an exception entered user code, and whether it comes out of it."""

import types
from collections.abc import Callable
from typing import Any

from sandboxd.guest.debug.plan import is_skipped


def is_origin(frame: types.FrameType, traceback: Any) -> bool:
    """Whether no inner frame of user code has already reported the exception."""
    if traceback is None or traceback.tb_frame is not frame:
        return False
    label = frame.f_code.co_filename
    inner = traceback.tb_next
    while inner is not None:
        code = inner.tb_frame.f_code
        if code.co_filename == label and not is_skipped(code):
            return False
        inner = inner.tb_next
    return True


def came_from(error: BaseException, is_user: Callable[[types.CodeType], bool]) -> bool:
    """Whether user code raised it that ran inside the tracer: a handler of a signal."""
    traceback = _traceback_of(error)
    while traceback is not None:
        if is_user(traceback.tb_frame.f_code):
            return True
        traceback = traceback.tb_next
    return False


_traceback_of: Callable[[BaseException], Any] = BaseException.__dict__["__traceback__"].__get__

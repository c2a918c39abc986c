"""Where an exception entered user code."""

import types
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

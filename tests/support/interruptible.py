"""Programs that a test interrupts: background jobs of a shell start with SIGINT ignored, and pass it on."""

import signal


def heed_sigint() -> None:
    """For `preexec_fn` of a program that is sent SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)

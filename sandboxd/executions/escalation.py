"""How a running execution is made to stop, on the host's clock: ask, ask again, kill."""

import asyncio

from sandboxd.supervisor.guest_process import GuestProcess

_SECOND_SIGNAL_SECONDS = 0.1
"""asyncio.run takes the first SIGINT as a wish to cancel its task; the second one interrupts."""
_KILL_SECONDS = 0.45
"""A C call such as json.loads of a big string sees the signal some 260 ms late; it should survive."""


class Escalation:
    """Stops what runs in one guest. Once started it goes on to the kill unless the run ends first."""

    def __init__(self, guest: GuestProcess) -> None:
        self._guest = guest
        self._timers: list[asyncio.TimerHandle] = []
        self.started = False

    def start(self, reason: str) -> None:
        """SIGINT now, again shortly after, SIGKILL last. A second start changes nothing."""
        if self.started:
            return
        self.started = True
        loop = asyncio.get_running_loop()
        self._guest.interrupt()
        self._timers = [
            loop.call_later(_SECOND_SIGNAL_SECONDS, self._guest.interrupt),
            loop.call_later(_KILL_SECONDS, self._guest.kill, reason),
        ]

    def finish(self) -> None:
        """The run is over: no further signal."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

"""The guest's loop: takes the host's messages one by one until the host hangs up.

User code runs inside `runner.run`; no exception of it and no signal ends the loop.
"""

import socket

from sandboxd.channel.debug import QueryTrace
from sandboxd.channel.framing import ChannelBroken, encode_frame
from sandboxd.channel.messages import (
    Configure,
    FailureReport,
    Finished,
    Fork,
    HostMessage,
    Inspect,
    RemoveFiles,
    Restore,
    Run,
)
from sandboxd.guest import state
from sandboxd.guest.copies import serve_fork, serve_remove_files, serve_restore
from sandboxd.guest.failures import out_of_memory, unreported
from sandboxd.guest.preload import rehearse
from sandboxd.guest.runner import Runner


def serve(runner: Runner, channel: socket.socket) -> None:
    """Serves `channel` with a prepared session; returns when the host has closed or broken it."""
    session = runner.session
    session.channel = channel
    rehearse(runner)
    while True:
        try:
            message = session.receive()
            if message is None:
                return
            _serve_message(runner, message)
        except (OSError, ChannelBroken):
            return


def _serve_message(runner: Runner, message: HostMessage) -> None:
    match message:
        case Configure():
            runner.configure(message)
        case Run():
            _serve_run(runner, message)
        case Inspect():
            runner.session.send(state.report(runner.session, message))
        case Fork():
            serve_fork(runner.session, message)
        case Restore():
            serve_restore(runner.session, message)
        case QueryTrace():
            runner.session.send(runner.traces.answer(message))
        case RemoveFiles():
            serve_remove_files(runner.session, message)


def _serve_run(runner: Runner, message: Run) -> None:
    """The host gets exactly one `Finished`, if need be a poorer one."""
    session = runner.session
    try:
        frame = encode_frame(runner.run(message))
    except MemoryError:
        session.release_reserve()
        frame = _poor_report(runner, message, out_of_memory())
    except Exception as error:  # a fault of ours, or a library's that user code has broken
        frame = _poor_report(runner, message, unreported(error))
    session.send_frame(frame)
    session.refill_reserve()


def _poor_report(runner: Runner, message: Run, failure: FailureReport) -> bytes:
    live_threads = runner.session.live_threads()
    return encode_frame(Finished(run_id=message.run_id, failure=failure, live_threads=live_threads))

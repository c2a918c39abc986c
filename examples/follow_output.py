"""Output while it appears, a look at progress, and a change of mind: cancel, and the session goes on."""

from sandboxd_client import Finished, Logged, Stdout
from sandboxd_client.sync import Client

CODE = """
import time
for number in range(100):
    print("chunk", number, flush=True)
    debug(f"{number + 1} % done", "INFO")
    time.sleep(0.05)
"""

with Client.connect() as client, client.create_sandbox(enable_debugging=True) as sandbox:
    cancelled = False
    for event in sandbox.stream(CODE):
        if isinstance(event, Stdout):
            print("output:", event.text.strip())
        elif isinstance(event, Logged):
            print("log:   ", event.entry.message)
            if event.entry.message.startswith("3 ") and not cancelled:
                cancelled = True
                client.cancel(event.execution_id)
        elif isinstance(event, Finished):
            print("ended: ", event.result.status)
    print("number is", sandbox.execute("number").result)

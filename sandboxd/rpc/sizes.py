"""How large messages may be on the wire."""

from sandboxd.limits import MIB

MAX_REQUEST_BYTES = 4 * MIB
"""Source and inputs of one call; counted after decompression."""
MAX_RESPONSE_BYTES = 64 * MIB
"""The largest result, output and log a sandbox may be allowed; default limits stay below 5 MiB."""

"""`python -m sandboxd.cli.healthy`: exit code 0 when the server of this machine can make guests.

For a container's health check: it needs no token, since health is open.
"""

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sandboxd_client.credentials import find_address

_SECONDS = 3.0


def main() -> int:
    """Asks grpc.health.v1 at SANDBOXD_ADDRESS, else at the default address."""
    address = find_address()
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=_SECONDS)
        except grpc.RpcError as error:
            sys.stderr.write(f"no answer from {address}: {error.code().name}\n")
            return 1
    serving = answer.status == health_pb2.HealthCheckResponse.SERVING
    return 0 if serving else 1


if __name__ == "__main__":
    sys.exit(main())

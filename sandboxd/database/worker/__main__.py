"""Entry of a database worker: `python -I -m sandboxd.database.worker <descriptor>`."""

import socket
import sys

from sandboxd.database.worker.service import WorkerService

if __name__ == "__main__":
    WorkerService(socket.socket(fileno=int(sys.argv[1]))).serve()

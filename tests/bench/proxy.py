"""Network latency: `proxy.py TARGET_PORT SECONDS` prints its port, and ends with its input.

What it forwards arrives half a round trip later, in both directions, in order, at any rate. Threads
that sleep are more exact than an event loop, whose waits are rounded to milliseconds.
"""

import queue
import socket
import sys
import threading
import time


class Direction:
    """One direction of a connection: a thread that reads, and one that writes when it is time."""

    def __init__(self, source, target, delay):
        self._source, self._target, self._delay = source, target, delay
        self._chunks = queue.SimpleQueue()
        for run in (self._read, self._write):
            threading.Thread(target=run, daemon=True).start()

    def _read(self):
        chunk = None
        while chunk != b"":
            try:
                chunk = self._source.recv(65536)
            except OSError:
                chunk = b""
            self._chunks.put((time.perf_counter() + self._delay, chunk))

    def _write(self):
        chunk = None
        while chunk != b"":
            due, chunk = self._chunks.get()
            time.sleep(max(0, due - time.perf_counter()))
            try:
                if chunk:
                    self._target.sendall(chunk)
                else:
                    self._target.shutdown(socket.SHUT_WR)
            except OSError:
                break


def connect(client, target_port, delay):
    # Connecting takes a round trip, too.
    time.sleep(2 * delay)
    server = socket.create_connection(("127.0.0.1", target_port))
    for line in (client, server):
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    Direction(client, server, delay)
    Direction(server, client, delay)


def serve(listener, target_port, delay):
    while True:
        client, _address = listener.accept()
        arguments = (client, target_port, delay)
        threading.Thread(target=connect, args=arguments, daemon=True).start()


if __name__ == "__main__":
    sys.setswitchinterval(0.0001)
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    arguments = (listener, int(sys.argv[1]), float(sys.argv[2]) / 2)
    threading.Thread(target=serve, args=arguments, daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    sys.stdin.read()

"""A light HTTP client in a process of its own: keep-alive connections, each with one request at a
time. It takes orders, one a line: {"port", "path", "clients", "seconds"}."""

import json
import selectors
import socket
import sys
import time

PATIENCE = 20
#: Seconds at the beginning of a slice that do not count.
WARM_UP = 0.05


class Line:
    """A connection and the answer that is coming in on it."""

    def __init__(self, port, request):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = request
        self._received = b""

    def ask(self):
        self._received = b""
        self.socket.sendall(self._request)

    def read(self):
        """Read what has come. Return whether the answer is complete."""
        chunk = self.socket.recv(65536)
        if not chunk:
            raise ConnectionError("the server closed a connection")
        self._received += chunk
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return False
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise RuntimeError(f"the server answered {head.splitlines()[0].decode()}")
        length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
        return len(body) >= int(length)


def run(port, path, clients, seconds):
    """Return the requests per second, and the number of all that were answered."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    lines = [Line(port, request) for _number in range(clients)]
    with selectors.DefaultSelector() as selector:
        for line in lines:
            selector.register(line.socket, selectors.EVENT_READ, line)
            line.ask()
        try:
            warm_up, _rate = answer(selector, WARM_UP, clients)
            count, rate = answer(selector, seconds, 3)
            return {"rate": rate, "requests": warm_up + count}
        finally:
            for line in lines:
                line.socket.close()


def answer(selector, seconds, at_least):
    """Ask again at each answer. Return the number of answers, and how many a second."""
    count, begin = 0, time.perf_counter()
    now = begin
    while now - begin < seconds or count < at_least:
        ready = selector.select(PATIENCE)
        if not ready:
            raise TimeoutError(f"no answer in {PATIENCE} seconds")
        for key, _events in ready:
            if key.data.read():
                count += 1
                key.data.ask()
        now = time.perf_counter()
    return count, count / (now - begin)


if __name__ == "__main__":
    for order in sys.stdin:
        try:
            result = {"value": run(**json.loads(order))}
        except Exception as error:
            result = {"error": f"{error.__class__.__name__}: {error}"}
        print(json.dumps(result), flush=True)

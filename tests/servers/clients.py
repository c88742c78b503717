"""Clients that ask for pages at random, and hang up at random moments."""

from __future__ import absolute_import

import collections
import json
import random
import signal
import socket
import struct
import threading
import time

from processes import PATIENCE

CLIENTS = 16

#: The rows of the storm's table.
NUMBERS = range(120)


class Client(threading.Thread):
    """Asks for one page after the other, and hangs up on some of them.

    The clients share nothing but the number of requests left to make, so they do not run in step.
    """

    def __init__(self, storm, seed):
        threading.Thread.__init__(self)
        self.daemon = True
        self._storm = storm
        self._random = random.Random(seed)

    def run(self):
        while self._storm.one_more():
            path = self._random.choice(self._storm.paths)
            hangs_up = self._random.random() < self._storm.hang_ups
            try:
                (self._hang_up if hangs_up else self._read)(path)
            except Exception as error:
                self._storm.failed(path, error)
            time.sleep(self._random.choice([0, 0, 0.01, 0.05]) * self._random.random())

    def _read(self, path):
        tag = self._tag()
        with self._line() as line:
            line.sendall(self._request(path, tag))
            with line.makefile("rb") as stream:
                text = stream.read()
        assert text, "no answer"
        head, _, body = text.partition(b"\r\n\r\n")
        status, body = int(head.split()[1]), unchunked(body)
        if "raises" in path:
            assert status == 404, text
        elif "streams" in path:
            assert (status, body.split()) == (200, [b"%d" % number for number in NUMBERS])
        else:
            assert status == 200, text
            read = NUMBERS[:21] if "stops" in path or "leaves" in path else NUMBERS
            assert json.loads(body.decode()) == {"tag": tag, "total": sum(read)}
        self._storm.answered()

    def _hang_up(self, path):
        """Close the line at a random moment: after half a request, or later up to its answer."""
        request, moment = self._request(path, self._tag()), self._random.random()
        if self._random.random() < self._storm.bodies:
            # There is no answer to wait for.
            request, moment = with_half_a_body(request), 0.8 * moment
        with self._line() as line:
            if moment < 0.1:
                request = request[: len(request) // 2]
            line.sendall(request)
            if moment > 0.8:
                line.recv(1)
            elif moment > 0.2:
                time.sleep(self._storm.within * self._random.random())
            if self._random.random() < 0.5:
                # The server gets a reset instead of an end.
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _tag(self):
        return "%030x" % self._random.getrandbits(120)

    def _line(self):
        return socket.create_connection(("127.0.0.1", self._storm.port), timeout=PATIENCE)

    def _request(self, path, tag):
        query = "tag=%s%s" % (tag, "&cancel" if self._storm.cancels else "")
        text = "GET %s%s/?%s HTTP/1.1\r\nHost: testserver\r\nConnection: close\r\n\r\n"
        return (text % (self._storm.root, path, query)).encode()


def with_half_a_body(request):
    length = b"\r\nContent-Length: 200000\r\n\r\n"
    return request.replace(b"GET", b"POST").replace(b"\r\n\r\n", length) + b"x" * 100000


def unchunked(body):
    """The content of a body in chunked encoding, as uvicorn sends those of unknown length."""
    content = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        content, body = content + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return content


class Storm(object):
    """Sends one server ``requests`` requests from several clients.

    ``hang_ups`` is the share of the requests on which the client hangs up; ``cancels`` says whether
    the server then cancels the application. ``root`` lists the views. A client hangs up ``within``
    so many seconds, and in the middle of its request's body on the share ``bodies`` of them.
    """

    def __init__(self, server, requests, hang_ups, cancels, root="/storm/", within=0.04, bodies=0):
        self.port, self.hang_ups, self.cancels = server.port, hang_ups, cancels
        self.root, self.within, self.bodies = root, within, bodies
        self.paths = server.get(root)
        self.requests, self.answers = requests, 0
        #: (path, error): how many requests for the path failed with this error.
        self.failures = collections.Counter()
        #: Why the storm ended early: the server hangs or has died.
        self.end = None
        self._server, self._left, self._lock = server, requests, threading.Lock()
        seed = random.randrange(10**6)
        self._clients = [Client(self, seed + number) for number in range(CLIENTS)]
        self._report = "Storm of %%d requests (seed %d)" % seed

    def __str__(self):
        return self._report % self.requests

    def one_more(self):
        with self._lock:
            self._left -= 1
            return self._left >= 0 and self.end is None

    def answered(self):
        with self._lock:
            self.answers += 1

    def failed(self, path, error):
        code = self._server.exit_code()
        with self._lock:
            self.failures[path, repr(error)[:300]] += 1
            if self.end is not None:
                return
            if code is not None:
                self.end = "The server ended with code %d." % code
            elif isinstance(error, socket.timeout):
                self.end = "The server hangs."
                self._server.signal(signal.SIGUSR1)

    def run(self):
        ends = time.time() + PATIENCE + self.requests / 5
        for client in self._clients:
            client.start()
        for client in self._clients:
            client.join(max(0, ends - time.time()))
            if client.is_alive():
                self.failed("all", socket.timeout("the storm takes too long"))

"""A real WSGI server in a thread, and HTTP clients that keep their connections to it alive."""

import logging
import threading
from collections import namedtuple
from timeit import default_timer

from django.core.handlers.wsgi import WSGIHandler
from waitress import create_server, wasyncore

try:
    from http.client import HTTPConnection, HTTPException
except ImportError:  # Python 2
    from httplib import HTTPConnection, HTTPException

# More clients than threads are no news here.
logging.getLogger("waitress.queue").setLevel(logging.ERROR)

Request = namedtuple("Request", "method path status text")
Answer = namedtuple("Answer", "request status text seconds")


def product(n):
    return Request("GET", "/product/{}".format(n % 1000), 200, "product {}".format(n % 1000))


def order(token):
    return Request("POST", "/order/{}".format(token), 200, "paid {}".format(token))


def refused(token):
    return Request("POST", "/refused/refused-{}".format(token), 500, "PaymentRefused")


def mixture(name, count):
    """Mostly reads, one request in ten writes, one in fifty raises."""
    for n in range(count):
        token = "{}-{}".format(name, n)
        yield order(token) if n % 10 == 3 else refused(token) if n % 50 == 7 else product(n)


def is_expected(answer):
    return (answer.status, answer.text) == (answer.request.status, answer.request.text)


class Server(object):
    def __init__(self, threads):
        self._sockets = {}
        self._server = create_server(
            WSGIHandler(), map=self._sockets, host="127.0.0.1", port=0, threads=threads
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.daemon = True
        self.port = int(self._server.effective_port)

    def _serve(self):
        while not self._stopping.is_set():
            wasyncore.loop(timeout=0.1, map=self._sockets, count=1)
        self._server.task_dispatcher.shutdown()
        wasyncore.close_all(self._sockets)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._stopping.set()
        self._thread.join(10)


def send(port, requests, clients, progress):
    """The answers, in the order they came in."""
    requests, answers, stopping = list(requests), [], threading.Event()
    threads = [
        threading.Thread(target=_client, args=(port, requests[first::clients], answers, stopping))
        for first in range(clients)
    ]
    try:
        for thread in threads:
            thread.daemon = True
            thread.start()
        for thread in threads:
            # Python 2 is deaf to Ctrl-C in a join without a timeout.
            while thread.is_alive():
                thread.join(0.1)
                progress(len(answers))
    finally:
        stopping.set()
        for thread in threads:
            thread.join(10)
    return answers


def _client(port, requests, answers, stopping):
    http = HTTPConnection("127.0.0.1", port, timeout=30)
    for request in requests:
        if stopping.is_set():
            break
        start = default_timer()
        status, text = _ask(http, request)
        answers.append(Answer(request, status, text, default_timer() - start))
    http.close()


def _ask(http, request):
    try:
        http.request(request.method, request.path)
        response = http.getresponse()
        return response.status, response.read().decode("utf-8", "replace")
    except (HTTPException, EnvironmentError) as error:
        http.close()
        return None, "{}: {}".format(type(error).__name__, error)

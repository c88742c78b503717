"""Requests without a server: whole requests, or only what they do with connections."""

from __future__ import absolute_import

import io
import sys
import time

timer = getattr(time, "perf_counter", time.time)

#: Cursors and connection cycles take microseconds: reading the clock for each one would count.
BATCH = 20


def environ(path):
    return {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }


class Requests(object):
    """Makes requests to an application, as a WSGI server does."""

    def __init__(self, application):
        self._application = application

    def get(self, path):
        statuses = []
        response = self._application(environ(path), lambda status, headers: statuses.append(status))
        try:
            body = b"".join(response)
        finally:
            response.close()
        if not statuses[0].startswith("200"):
            raise RuntimeError("%s answered %s" % (path, statuses[0]))
        return body


class Connections(object):
    """Does with the connection what a request does, but for the query."""

    def __init__(self, application):
        import django
        from django.core import signals
        from django.db import connection

        self._connection = connection
        self._finished = signals.request_finished
        self._started = signals.request_started
        self._sender = application.__class__
        # As Django's handler sends the signal: before 1.8 without the environ.
        self._more = {"environ": environ("/one/")} if django.VERSION >= (1, 8) else {}

    def started(self):
        self._started.send(sender=self._sender, **self._more)

    def finished(self):
        self._finished.send(sender=self._sender)

    def cycle(self):
        self._started.send(sender=self._sender, **self._more)
        self._connection.cursor()
        self._finished.send(sender=self._sender)

    def cursor(self):
        self._connection.cursor()


def seconds_each(action, seconds, batch=1):
    """The mean time of an action, done for so many seconds and at least three times."""
    action()  # warm up again after an idle time
    count, begin = 0, timer()
    now = begin
    while now - begin < seconds or count < 3:
        for _turn in range(batch):
            action()
        count += batch
        now = timer()
    return (now - begin) / count

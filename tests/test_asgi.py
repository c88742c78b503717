"""Under ASGI, where each request runs in a thread that may never come again."""

from __future__ import absolute_import

import django
import pytest
import support
from django.db import connections
from support import backends, end_of_work, pid, wait_until

pytestmark = pytest.mark.skipif(django.VERSION < (3, 1), reason="Django has it since 3.1")

SCOPE = {
    "type": "http",
    "asgi": {"version": "3.0"},
    "http_version": "1.1",
    "method": "GET",
    "query_string": b"",
    "headers": [(b"host", b"testserver")],
}


@pytest.fixture
def get():
    """One request through Django's ASGI handler; returns the body. All share one event loop.

    Without the words async and await, which Python 2 cannot read.
    """
    import asyncio

    from django.core.handlers.asgi import ASGIHandler

    loop, handler = asyncio.new_event_loop(), ASGIHandler()

    def done(result):
        future = loop.create_future()
        future.set_result(result)
        return future

    def get(path):
        requests, sent = [{"type": "http.request", "body": b""}], []
        application = handler(
            dict(SCOPE, path=path),
            lambda: done(requests.pop()) if requests else loop.create_future(),
            lambda message: done(sent.append(message)),
        )
        loop.run_until_complete(application)
        return b"".join(message.get("body", b"") for message in sent).decode("utf-8")

    yield get
    loop.run_until_complete(loop.shutdown_asyncgens())
    if hasattr(loop, "shutdown_default_executor"):
        loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def test_forty_requests_in_turn_use_one_backend(get):
    assert len(set(get("/pid/") for request in range(40))) == 1
    assert len(backends()) == 1


def test_off_each_has_its_own_and_none_is_left(get):
    import persistconn

    persistconn.disable()
    assert len(set(get("/pid/") for request in range(5))) == 5
    assert wait_until(lambda: backends() == [])
    persistconn.enable()


def test_the_request_after_a_kill_is_served(get):
    before = get("/pid/")
    support.kill_backends()
    assert get("/pid/") not in ("", before)


def test_an_open_connection_is_refused_inside_an_event_loop_as_stock_does():
    import asyncio

    from django.core.exceptions import SynchronousOnlyOperation

    pid()
    wrapper, loop, refused = connections["default"], asyncio.new_event_loop(), []

    def ask():
        try:
            wrapper.ensure_connection()
        except SynchronousOnlyOperation as error:
            refused.append(error)
        loop.stop()

    loop.call_soon(ask)
    loop.run_forever()
    loop.close()
    end_of_work()
    assert refused

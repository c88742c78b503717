"""Requests under ASGI, where the thread of a request may never serve another one."""

from __future__ import absolute_import

import threading
import time

import django
import pytest
import support
from django.db import connections, transaction
from support import backends, end_of_work, pid, unit_of_work, wait_until

import persistconn

try:
    from django.core.exceptions import SynchronousOnlyOperation
except ImportError:
    pass  # Django before 3.0, where this file is skipped

pytestmark = pytest.mark.skipif(django.VERSION < (3, 1), reason="Django has it since 3.1")


@pytest.fixture
def loop():
    import asyncio

    loop = asyncio.new_event_loop()
    yield loop
    loop.run_until_complete(loop.shutdown_asyncgens())
    if hasattr(loop, "shutdown_default_executor"):
        loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@pytest.fixture
def call(loop):
    """A function that returns a request's coroutine, and the list of messages that it will send.

    All requests share one event loop. The words async and await are avoided, since Python 2 cannot
    read them.
    """
    from django.core.handlers.asgi import ASGIHandler

    handler = ASGIHandler()

    def done(result):
        future = loop.create_future()
        future.set_result(result)
        return future

    def call(path):
        requests, sent = [{"type": "http.request", "body": b""}], []
        application = handler(
            dict(support.SCOPE, path=path),
            lambda: done(requests.pop()) if requests else loop.create_future(),
            lambda message: done(sent.append(message)),
        )
        return application, sent

    return call


@pytest.fixture
def get(loop, call):
    """A function that makes a request through Django's ASGI handler and returns the body."""

    def get(path):
        application, sent = call(path)
        loop.run_until_complete(application)
        return b"".join(message.get("body", b"") for message in sent).decode("utf-8")

    return get


def test_forty_requests_in_turn_use_one_backend(get):
    assert len(set(get("/pid/") for request in range(40))) == 1
    assert len(backends()) == 1


def test_while_disabled_each_request_has_its_own_backend_and_none_stays(get):
    persistconn.disable()
    assert len(set(get("/pid/") for request in range(5))) == 5
    assert wait_until(lambda: backends() == [])
    persistconn.enable()


def test_the_request_after_a_kill_is_served(get):
    before = get("/pid/")
    support.kill_backends()
    assert get("/pid/") not in ("", before)


def test_a_request_that_is_cancelled_in_its_view_gives_back_what_a_cursor_keeps_open(
    loop, call, monkeypatch
):
    import asyncio

    kept, proceed = [], threading.Event()

    def leave_a_cursor_open():
        kept.append(connections["default"].chunked_cursor())
        kept[0].execute("SELECT 1")
        return proceed.wait(10)

    monkeypatch.setattr(support, "pid", leave_a_cursor_open)
    task = loop.create_task(call("/pid/")[0])

    def is_met(condition):
        loop.run_until_complete(asyncio.sleep(0.001))
        return condition()

    assert wait_until(lambda: is_met(lambda: kept))
    task.cancel()
    # Some asgirefs block the event loop until the view has returned.
    with support.later(0.2, proceed.set):
        assert wait_until(lambda: is_met(task.done))
    assert wait_until(lambda: is_met(lambda: persistconn.stats()["default"]["in_use"] == 0))


def test_an_open_connection_is_refused_inside_an_event_loop_as_in_stock_django():
    import asyncio

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


def in_a_loop(work):
    """Run work inside this thread's event loop, as a coroutine without sync_to_async does."""
    import asyncio

    loop, outcome = asyncio.new_event_loop(), []

    def run():
        try:
            outcome.append(work())
        except Exception as error:
            outcome.append(error)
        loop.stop()

    loop.call_soon(run)
    loop.run_forever()
    loop.close()
    return outcome[0]


def atomic():
    with transaction.atomic():
        pass


def cursor():
    connections["default"].cursor()


def connect():
    connections["default"].connect()


def ensure_connection():
    connections["default"].ensure_connection()


def orm():
    support.orm_pid()


forgetful = pytest.mark.parametrize(
    "use", [atomic, cursor, connect, ensure_connection, orm], ids=lambda use: use.__name__
)


def stats():
    return persistconn.stats()["default"]


@forgetful
@pytest.mark.parametrize("is_kept", [False, True], ids=["none kept", "one kept"])
def test_database_use_inside_an_event_loop_is_refused_without_a_checkout(use, is_kept):
    unit_of_work()
    if not is_kept:
        persistconn.drain()
    before = stats()
    assert isinstance(in_a_loop(use), SynchronousOnlyOperation)
    assert connections["default"].connection is None
    assert stats() == before
    assert wait_until(lambda: len(backends()) == is_kept)


@forgetful
def test_database_use_inside_an_event_loop_is_refused_at_once_when_all_slots_are_taken(use):
    taken, ended = threading.Event(), threading.Event()

    def work():
        pid()
        taken.set()
        ended.wait()
        end_of_work()

    thread = threading.Thread(target=work)
    thread.start()
    taken.wait()
    try:
        with support.settings_as(PERSISTCONN_MAX_CONNS=1, PERSISTCONN_TIMEOUT=5):
            began = time.time()
            refusal = in_a_loop(use)
            assert time.time() - began < 2.5
        assert isinstance(refusal, SynchronousOnlyOperation)
        assert (stats()["in_use"], stats()["waiting"]) == (1, 0)
    finally:
        ended.set()
        thread.join()


@forgetful
def test_a_thread_refused_inside_an_event_loop_is_served_outside_the_loop(use):
    with support.settings_as(PERSISTCONN_MAX_CONNS=1, PERSISTCONN_TIMEOUT=0):
        in_a_loop(use)
        assert unit_of_work() == support.in_thread(unit_of_work)


def test_django_allow_async_unsafe_is_heeded(monkeypatch):
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    assert in_a_loop(pid) in backends()
    end_of_work()

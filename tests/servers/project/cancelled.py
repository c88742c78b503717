"""Views that take a while, so that clients go away in the middle of them, and which of them run."""

from __future__ import absolute_import

import contextlib
import functools
import random
import time
from asyncio import iscoroutinefunction

import django
from django.db import connection, transaction
from django.http import Http404, HttpResponse, StreamingHttpResponse

from project import sessions, storm
from project.storm import CHUNK, rows, total

VIEWS = {}

#: One item for each view and each stream that runs now.
running = []


def view(function):
    VIEWS[function.__name__] = function
    return function


@contextlib.contextmanager
def under_way():
    running.append(None)
    try:
        yield
    finally:
        running.pop()


def counted(function):
    """The view, counted while it runs. A stream counts itself."""
    if iscoroutinefunction(function):
        from project.async_cancelled import counted

        return counted(function)

    @functools.wraps(function)
    def counting(request):
        with under_way():
            return function(request)

    return counting


def moment():
    return random.choice([0.001, 0.01, 0.05])


def sleep_in_query():
    return sessions.ask(seconds=moment())


@view
def sleeps(request):
    sleep_in_query()
    time.sleep(moment())
    return storm.reads(request)


@view
def sleeps_in_atomic(request):
    with transaction.atomic():
        storm.note(request)
        sleep_in_query()
        raise Http404("nothing")


@view
def sleeps_in_a_transaction_of_its_own(request):
    transaction.set_autocommit(False)
    storm.note(request)
    time.sleep(moment())
    transaction.rollback()
    transaction.set_autocommit(True)
    return HttpResponse("done")


@view
def sleeps_in_an_iteration(request):
    value = 0
    for row in rows():
        value += row.number
        if row.number % CHUNK == 0:
            time.sleep(moment() / 5)
    return storm.tagged(request, value)


@view
def leaves_a_cursor_open(request):
    cursor = connection.cursor()
    cursor.execute("SELECT number FROM storm_row")
    request.kept = [request, cursor]
    time.sleep(moment())
    return storm.tagged(request, total(rows()))


if django.VERSION >= (4, 2):

    @view
    def streams_slowly(request):
        def body():
            with under_way():
                for _number in range(3):
                    yield b"%d\n" % sleep_in_query()["backend"]

        return StreamingHttpResponse(body())

"""Async views that take a while. Python 2 cannot read this file."""

from __future__ import absolute_import

import asyncio
import functools
import logging
import random
import threading

import django
from asgiref.sync import sync_to_async
from django.db import transaction
from django.http import Http404, HttpResponse, StreamingHttpResponse

from project import async_storm, cancelled, sessions, storm, views
from project.cancelled import sleep_in_query, under_way
from project.storm import CHUNK, rows

VIEWS = {}

#: How many sessions ``at_once`` needs at the same time.
SLOTS = 4


def view(function):
    VIEWS["async_" + function.__name__] = function
    return function


def counted(function):
    @functools.wraps(function)
    async def counting(request):
        with under_way():
            return await function(request)

    return counting


ask = sync_to_async(sleep_in_query)


async def wait(request):
    """Wait longer than daphne lets a request go on whose client is gone, if the client asks so."""
    longest = [3] if random.random() < 0.03 else [0, 0.01, 0.05, 0.2]
    await asyncio.sleep(random.choice(longest))


@view
async def sleeps(request):
    await ask()
    return await async_storm.reads(request)


@view
async def waits_between_two_calls(request):
    await ask()
    await wait(request)
    return await async_storm.reads(request)


@view
async def waits_after_its_last_call(request):
    await ask()
    await wait(request)
    return HttpResponse("done")


@view
async def sleeps_in_two_calls_at_once(request):
    await asyncio.gather(ask(), ask())
    return HttpResponse("done")


@view
async def shields_its_call(request):
    await wait(request)
    await asyncio.shield(ask())
    return HttpResponse("done")


@view
async def waits_with_an_open_cursor(request):
    some = await sync_to_async(rows)()
    await sync_to_async(next)(iter(some))
    await wait(request)
    return HttpResponse("done")


@view
async def limits_its_time(request):
    try:
        await asyncio.wait_for(sleeps(request), 0.01)
    except asyncio.TimeoutError:
        pass
    return HttpResponse("done")


@view
async def works_in_an_executor(request):
    def work():
        try:
            return sleep_in_query()
        finally:
            sessions.end_of_work()

    await sync_to_async(work, thread_sensitive=False)()
    return HttpResponse("done")


@view
async def sleeps_in_atomic(request):
    await sync_to_async(cancelled.sleeps_in_atomic)(request)


def begin(request):
    transaction.set_autocommit(False)
    storm.note(request)


if django.VERSION >= (4, 0):

    @view
    async def waits_in_a_transaction(request):
        """Before 4.0 all requests share a thread and its transaction."""
        await sync_to_async(begin)(request)
        await wait(request)
        await sync_to_async(transaction.rollback)()
        await sync_to_async(transaction.set_autocommit)(True)
        return HttpResponse("done")


if django.VERSION >= (4, 1):

    @view
    async def waits_in_an_iteration(request):
        async for row in async_storm.arows():
            if row.number % CHUNK == 0:
                await wait(request)
        return HttpResponse("done")


if django.VERSION >= (4, 2):

    @view
    async def streams_slowly(request):
        async def body():
            with under_way():
                for _number in range(3):
                    yield b"%d\n" % (await ask())["backend"]
                    await wait(request)

        return StreamingHttpResponse(body())

    @view
    async def streams_an_iteration(request):
        async def body():
            with under_way():
                async for row in async_storm.arows():
                    yield b"%d\n" % row.number
                    if row.number % CHUNK == 0:
                        await wait(request)

        return StreamingHttpResponse(body())


class AskingHandler(logging.Handler):
    """A log that uses the database."""

    def emit(self, record):
        if "asks" in record.request.GET:
            sessions.ask()


async def missing(request):
    raise Http404("nothing")


async def refused(request):
    return HttpResponse("no", status=409)


async def holds_a_transaction(request):
    await sync_to_async(begin)(request)
    await asyncio.sleep(60)


async def holds_a_cursor(request):
    async for _row in async_storm.arows():
        await asyncio.sleep(60)


#: What the view below has read.
totals = []


async def reads_on(request):
    """Read one chunk, wait for the client to go, and read the rest."""
    value = 0
    async for row in async_storm.arows():
        value += row.number
        if row.number == CHUNK:
            await asyncio.sleep(1)
    totals.append(value)
    return HttpResponse("done")


if django.VERSION >= (4, 0):
    meeting = threading.Barrier(SLOTS)

    def at_once(request):
        """Hold a session until as many requests hold one."""
        values = sessions.ask()
        meeting.wait(10)
        return views.answer([values["backend"]])

else:

    async def at_once(request):
        """The same in as many threads, as all requests share one."""
        meeting = threading.Barrier(SLOTS)

        def work():
            try:
                values = sessions.ask()
                meeting.wait(10)
                return values["backend"]
            finally:
                sessions.end_of_work()

        work = sync_to_async(work, thread_sensitive=False)
        return views.answer(await asyncio.gather(*[work() for _number in range(SLOTS)]))

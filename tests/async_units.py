"""Coroutines with units of work, for tests/test_units.py. Python 2 cannot read this file."""

from __future__ import absolute_import

import asyncio
import time

import support

import persistconn

try:
    from asgiref.sync import sync_to_async
except ImportError:  # before Django 3.0, coroutines call the ORM directly

    def sync_to_async(function, thread_sensitive):
        async def call():
            return function()

        return call


pid = sync_to_async(support.pid, thread_sensitive=True)
in_use = sync_to_async(lambda: len(support.open_wrappers()), thread_sensitive=True)


async def in_a_context():
    async with persistconn.unit_of_work():
        first, second = await pid(), await pid()
    return first == second, await in_use()


@persistconn.unit_of_work()
async def decorated(before=None):
    await pid()
    if before is not None:
        raise before
    return await in_use()


async def after(function, *args):
    """Call a coroutine function. Return its result or its error, and how many are open then."""
    try:
        result = await function(*args)
    except Exception as error:
        result = error
    return result, await in_use()


@persistconn.unit_of_work()
async def nested():
    first = await pid()
    await decorated()
    return await in_use(), first == await pid()


@persistconn.unit_of_work()
async def with_a_sync_one_inside():
    await sync_to_async(persistconn.unit_of_work()(support.pid), thread_sensitive=True)()
    return await in_use()


async def at_once(number):
    """Units of work of one thread at the same time: each has the session until the last ends."""
    await asyncio.gather(*[decorated() for _ in range(number)])
    return await in_use()


async def outlived():
    """A task that its unit of work has started ends its own, later."""

    async def later():
        await asyncio.sleep(0.05)
        await decorated()

    async with persistconn.unit_of_work():
        await pid()
        task = asyncio.ensure_future(later())
    await task
    return await in_use()


async def cancelled():
    task = asyncio.ensure_future(after_a_query())
    await asyncio.sleep(0.2)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass
    return await in_use()


@persistconn.unit_of_work()
async def after_a_query():
    await pid()
    await asyncio.sleep(60)


async def cancelled_at_the_start():
    """A coroutine that is cancelled while its unit of work begins, and goes on with another."""

    async def goes_on():
        try:
            async with persistconn.unit_of_work():
                await pid()
        except asyncio.CancelledError:
            pass
        await decorated()
        return await in_use()

    task = asyncio.ensure_future(goes_on())
    await asyncio.sleep(0)
    task.cancel()
    return await task


async def in_an_executor():
    """A unit of another thread, within a coroutine's, ends by itself."""
    seen = []

    def work():
        persistconn.unit_of_work()(support.pid)()
        seen.append(len(support.open_wrappers()))

    async with persistconn.unit_of_work():
        if hasattr(asyncio, "to_thread"):
            await asyncio.to_thread(work)
        else:
            await asyncio.get_event_loop().run_in_executor(None, work)
    return seen[0]


async def cancelled_at_the_end():
    """A coroutine that is cancelled while the end of its unit waits for the thread."""

    async def work():
        async with persistconn.unit_of_work():
            await pid()

    async def busy():
        await sync_to_async(time.sleep, thread_sensitive=True)(0.3)

    working = asyncio.ensure_future(work())
    while not await in_use():
        pass
    others = asyncio.ensure_future(busy())
    await asyncio.sleep(0.1)
    working.cancel()
    await asyncio.gather(working, others, return_exceptions=True)
    return await in_use()


async def in_another_transaction():
    """The unit of one coroutine ends while another one is in an atomic block of the same thread."""
    from django.db import transaction

    block, insert = transaction.atomic(), sync_to_async(put_item, thread_sensitive=True)
    enter = sync_to_async(block.__enter__, thread_sensitive=True)
    leave = sync_to_async(block.__exit__, thread_sensitive=True)
    begun, ended = asyncio.Event(), asyncio.Event()

    async def first():
        async with persistconn.unit_of_work():
            await begun.wait()
        ended.set()

    async def second():
        async with persistconn.unit_of_work():
            await enter()
            await insert("one")
            begun.set()
            await ended.wait()
            await insert("two")
            await leave(ValueError, ValueError(), None)
            return True

    done = await asyncio.gather(first(), second())
    return [done[1], await in_use()]


def put_item(name):
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO item VALUES (%s)", [name])


async def cancels_its_tasks():
    async with persistconn.unit_of_work():
        tasks = [asyncio.ensure_future(after_a_query()) for _ in range(5)]
        await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await pid()
    return await in_use()

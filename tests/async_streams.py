"""Views and requests of ASGI for test_streams.py. Python 2 cannot read this file."""

import asyncio
import inspect
import time

import support
from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.http import StreamingHttpResponse

PATIENCE = 10


is_async = inspect.iscoroutinefunction


def in_thread(work):
    return sync_to_async(work, thread_sensitive=True)()


def calling(find):
    """An asynchronous view that calls the one that a function returns."""

    async def current_view(request):
        return await find(request)

    return current_view


def view_of(parts, before=None):
    """A view that streams the parts that a function yields. ``before`` is what it does before."""

    async def view(request):
        if before is not None:
            await in_thread(before)
        return StreamingHttpResponse(parts())

    return view


def calls(*works):
    """An asynchronous generator function that yields the results of works in the other thread."""

    async def parts():
        for work in works:
            yield str(await in_thread(work))

    return parts


def request(path, on_part, hangs_up=None):
    """Make a request. Call ``on_part(text)`` when a part is sent.

    The client goes away, and the request is cancelled, once ``hangs_up()`` is true, or after
    PATIENCE seconds.
    """

    async def send(message):
        if message.get("body"):
            on_part(message["body"].decode())
        await asyncio.sleep(0)

    messages = [{"type": "http.request", "body": b""}]

    async def receive():
        if messages:
            return messages.pop()
        await asyncio.Future()

    async def run():
        task = asyncio.ensure_future(ASGIHandler()(dict(support.SCOPE, path=path), receive, send))
        ends = time.time() + PATIENCE
        while hangs_up is not None and not task.done():
            await asyncio.sleep(0.005)
            if hangs_up() or time.time() > ends:
                task.cancel()
                break
        try:
            await task
        except asyncio.CancelledError:
            pass

    asyncio.run(run())


def waits_for_ever(log, work):
    async def parts():
        try:
            yield str(await in_thread(work))
            await asyncio.Future()
        except asyncio.CancelledError:
            log.append("cancelled")
            raise
        finally:
            log.append("closed")

    return parts


def goes_on_after_an_error(log):
    """Parts whose awaited call fails, and which catch the error."""

    async def parts():
        try:
            await in_thread(lambda: 1 // 0)
        except ZeroDivisionError:
            yield "caught"

    return parts


def fails(work):
    async def parts():
        yield str(await in_thread(work))
        raise ZeroDivisionError

    return parts


class Plain(object):
    """An asynchronous iterator whose awaitables are the simplest that Python allows."""

    def __init__(self, number):
        self.left = number

    def __aiter__(self):
        return self

    def __anext__(self):
        self.left -= 1
        if self.left < 0:
            raise StopAsyncIteration
        return Ready(self.left)


class Ready(object):
    def __init__(self, value):
        self.value = value

    def __await__(self):
        return iter_returning(str(self.value))


class iter_returning(object):
    """An iterator without send(), throw() and close(), which waits for one turn of the loop."""

    def __init__(self, value):
        self.value, self.turns = value, 1

    def __iter__(self):
        return self

    def __next__(self):
        if self.turns:
            self.turns -= 1
            return None
        raise StopIteration(self.value)


def close_early(response):
    """Read one part of a response, and then close its asynchronous iterator."""

    async def run():
        parts = response.__aiter__()
        first = await parts.__anext__()
        await parts.aclose()
        return first

    return asyncio.run(run())


def read(response):
    async def run():
        return [part async for part in response]

    return asyncio.run(run())


# Steps beside a coroutine.

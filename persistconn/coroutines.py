"""Coroutines. Some are written as text, because Python 2 cannot read their syntax."""

from persistconn import compat

try:
    from asgiref.sync import sync_to_async
except ImportError:  # it comes with Django 3.0, before which coroutines call the ORM directly
    sync_to_async = None


def in_thread_of_orm(function):
    """Return an awaitable: it calls a function in the thread that runs the ORM for this coroutine."""
    if sync_to_async is None:
        return _Called(function)
    return sync_to_async(function, thread_sensitive=True)()  # before 3.3 asgiref must be told


class _Called(object):
    """An awaitable that has called a function at once."""

    def __init__(self, function):
        function()

    def __await__(self):
        return iter(())


CODE = '''
import asyncio


async def awaited(awaitable, failed):
    """Await something, and call failed() if that raises."""
    try:
        await awaitable
    except BaseException:
        failed()
        raise


async def shielded(awaitable):
    """Await something that goes on if this coroutine is cancelled."""
    await asyncio.shield(asyncio.ensure_future(awaitable))


async def in_turn(first, then):
    """Await the results of two functions. Return what the second one's gives."""
    await first()
    return await then()


async def next_part(parts, release):
    """Return the next part of a stream. Await release() before the first part, and after each that
    follows while it returns something true.
    """
    if parts.in_use is None:
        parts.in_use = await release()
    part = await parts.inner.__anext__()
    if parts.in_use:
        parts.in_use = await release()
    return part


def in_async_with(new, function):
    """Return a coroutine function that calls another one within ``async with new():``."""

    async def decorated(*args, **kwargs):
        async with new():
            return await function(*args, **kwargs)

    return decorated
'''

if compat.HAS_COROUTINES:
    exec(CODE)

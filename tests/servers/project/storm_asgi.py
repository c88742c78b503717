"""project.asgi behind a server that can cancel it. Python 2 cannot read this file."""

from __future__ import absolute_import

import asyncio
import faulthandler
import signal
import sys

from project.asgi import application as django_application

# A test that finds the server hanging has the stacks of all its threads written to the log.
faulthandler.register(signal.SIGUSR1, all_threads=True)


def on_error_in_destructor(unraisable):
    """Ignore those of abandoned iterations, which stock Django has as well.

    It may close a connection in one thread while another, the event loop's, closes a cursor on it.
    """
    if getattr(unraisable.object, "__name__", None) != "cursor_iter":
        sys.__unraisablehook__(unraisable)


sys.unraisablehook = on_error_in_destructor


async def application(scope, receive, send):
    """Run Django. If the query says so, cancel it when the client hangs up.

    uvicorn only sends the application a message. Other servers cancel it, and so do time-outs.
    """
    if b"cancel" not in scope.get("query_string", b""):
        await django_application(scope, receive, send)
        return
    messages = asyncio.Queue()
    messages.put_nowait(await receive())
    is_complete = []

    async def watched_send(message):
        await send(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            is_complete.append(True)

    answer = asyncio.ensure_future(django_application(scope, messages.get, watched_send))
    gone = asyncio.ensure_future(receive())
    await asyncio.wait([answer, gone], return_when=asyncio.FIRST_COMPLETED)
    # uvicorn says "disconnect" at the end of a response as well.
    if not is_complete:
        answer.cancel()
    gone.cancel()
    await asyncio.wait([answer, gone])
    if not answer.cancelled():
        answer.result()

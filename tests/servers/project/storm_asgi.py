"""project.asgi, run as by a server that can cancel requests. Python 2 cannot read this file."""

from __future__ import absolute_import

import asyncio
import faulthandler
import signal
import sys

from project.asgi import application as django_application

# Tests send this signal to a server that hangs, to have the stacks of its threads in the log.
faulthandler.register(signal.SIGUSR1, all_threads=True)


def on_error_in_destructor(unraisable):
    """Ignore errors of abandoned iterations, which stock Django has as well.

    Django may close a connection in one thread while the event loop's thread closes a cursor on it.
    """
    if getattr(unraisable.object, "__name__", None) != "cursor_iter":
        sys.__unraisablehook__(unraisable)


sys.unraisablehook = on_error_in_destructor


async def application(scope, receive, send):
    """Run Django. If the query string says so, cancel the request when its client hangs up.

    uvicorn only sends the application a message. Other servers cancel the application, and so do
    time-outs.
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

"""project.asgi, run as by a server that can cancel requests. Python 2 cannot read this file."""

from __future__ import absolute_import

import asyncio
import collections
import faulthandler
import json
import signal
import sys

import persistconn
from project.asgi import application as project_application

# Tests send this signal to a server that hangs, to have the stacks of its threads in the log.
faulthandler.register(signal.SIGUSR1, all_threads=True)


def on_error_in_destructor(unraisable):
    """Ignore errors of abandoned iterations, which stock Django has as well.

    Django may close a connection in one thread while the event loop's thread closes a cursor on it.
    """
    if getattr(unraisable.object, "__name__", None) != "cursor_iter":
        sys.__unraisablehook__(unraisable)


sys.unraisablehook = on_error_in_destructor


#: How the requests ended, as the server saw it.
ends = collections.Counter()


async def django_application(scope, receive, send):
    """Run Django, and count how it ends."""
    is_complete = []

    async def watched_send(message):
        await send(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            is_complete.append(True)

    end = "cancelled"
    try:
        await project_application(scope, receive, watched_send)
        end = "answered" if is_complete else "left"
    except Exception:
        end = "failed"
        raise
    finally:
        ends[end] += 1


async def tell(send):
    """Answer without Django, which would end the work that is left open in a thread of Django."""
    from project import async_cancelled, cancelled

    counts = persistconn.stats().get("default") if persistconn.is_enabled() else None
    told = {"stats": counts, "running": len(cancelled.running), "ends": ends}
    told["totals"] = async_cancelled.totals
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})


async def application(scope, receive, send):
    """Run Django. If the query string says so, cancel the request when its client hangs up.

    uvicorn only sends the application a message. Other servers cancel the application, and so do
    time-outs.
    """
    if scope.get("path") == "/told/":
        await tell(send)
        return
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

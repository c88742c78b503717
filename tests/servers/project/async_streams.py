"""Asynchronous streams of server-sent events. Python 2 cannot read this file."""

from __future__ import absolute_import

import asyncio

from asgiref.sync import sync_to_async
from django.http import StreamingHttpResponse

from project.streams import END, EVENTS, POLL, allowed, event

event = sync_to_async(event, thread_sensitive=True)


async def events():
    for number in range(EVENTS + 1):
        while allowed[0] <= number:
            await asyncio.sleep(POLL)
        yield await event() if number < EVENTS else END


async def stream(request):
    await event()
    return StreamingHttpResponse(events(), content_type="text/event-stream")

"""Async views, imported where Django has them. Python 2 cannot read this file."""

from __future__ import absolute_import

import asyncio
import time

from asgiref.sync import sync_to_async
from django.http import StreamingHttpResponse

from project import sessions, views

ask = sync_to_async(sessions.ask, thread_sensitive=True)


async def who(request):
    return views.answer(await ask(request.GET.get("tag", ""), request.GET.get("seconds", 0)))


async def stats(request):
    return views.stats(request)


async def slow(request):
    values = await ask()
    await asyncio.sleep(float(request.GET["seconds"]))
    return views.answer(values)


async def nap(request):
    await asyncio.sleep(0.01)
    return views.answer({})


async def parts(count):
    for _number in range(count):
        yield b"%d\n" % (await ask())["backend"]
        await asyncio.sleep(0.05)


def sync_parts(count):
    for _number in range(count):
        yield b"%d\n" % sessions.backend()
        time.sleep(0.05)


def sync_stream(request):
    return StreamingHttpResponse(sync_parts(int(request.GET["count"])))


async def stream(request):
    return StreamingHttpResponse(parts(int(request.GET["count"])))

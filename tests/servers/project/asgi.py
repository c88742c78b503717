"""Django under ASGI, with the lifespan events that Django itself does not handle."""

from __future__ import absolute_import

import os

from asgiref.sync import sync_to_async
from django.core.asgi import get_asgi_application

import persistconn
from project import sessions

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

django_application = get_asgi_application()


async def application(scope, receive, send):
    if scope["type"] != "lifespan":
        await django_application(scope, receive, send)
        return
    for moment in ("startup", "shutdown"):
        await receive()
        await sync_to_async(sessions.unit_of_work, thread_sensitive=True)()
        if moment == "shutdown":
            # uvicorn ends by the signal itself, so that no atexit function runs.
            persistconn.drain()
        await send({"type": "lifespan.%s.complete" % moment})

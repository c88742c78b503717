"""Streams of server-sent events: each event is a query of the ORM, and then silence.

Each stream has three of them. A request allows the second, the third, and then the end.
"""

from __future__ import absolute_import

import logging
import os
import time

from django.db import models
from django.http import StreamingHttpResponse

from project.views import answer

#: How many events the streams may send by now; with one more they may end.
allowed = [1]

EVENTS, POLL, END = 3, 0.1, "data: end\n\n"

if "SERVERS_WARN_AFTER" in os.environ:
    from persistconn import streams

    streams.WARN_AFTER = float(os.environ["SERVERS_WARN_AFTER"])
    logging.getLogger("persistconn").addHandler(logging.StreamHandler())


class Session(models.Model):
    pid = models.IntegerField(primary_key=True)

    class Meta:
        db_table = "stream_session"
        managed = False
        app_label = "project"


def event():
    return "data: %d\n\n" % Session.objects.get().pid


def allow(request):
    allowed[0] += 1
    return answer({})


def events():
    for number in range(EVENTS + 1):
        while allowed[0] <= number:
            time.sleep(POLL)
        yield event() if number < EVENTS else END


def stream(request):
    event()
    return StreamingHttpResponse(events(), content_type="text/event-stream")


def file(request):
    """A file that is larger than the buffers of the network."""
    from django.http import FileResponse

    event()
    return FileResponse(open(request.GET["path"], "rb"))

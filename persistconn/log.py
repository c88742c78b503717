"""What keeps a logging handler that uses the database from being called by what it causes."""

from __future__ import absolute_import

import logging
import sys


class NotWithinItself(object):
    """A filter that drops what is logged while this thread's handlers are at work on another line.

    Opening and closing connections is logged, and a handler may open one to write to. It looks at
    the stack, as no note of who is in a handler survives an exception at any point.
    """

    def filter(self, record):
        frame = sys._getframe(1)
        while frame is not None:
            if frame.f_code is _calling_handlers:
                if frame.f_locals["record"].name == record.name:
                    return False
            frame = frame.f_back
        return True


_calling_handlers = logging.Logger.callHandlers.__code__

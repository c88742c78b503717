"""A filter for logging handlers that use a database, so that they do not call themselves."""

import logging
import sys


class NotWithinItself(object):
    """Drops a record that this thread logs while handlers are at work on one of the same logger.

    persistconn logs that it opened or closed a connection, and a handler may open one to write to.
    The filter reads the stack, because an exception at any point can make a flag wrong.
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

"""Work that is done some seconds later, while a test waits for something else."""

from __future__ import absolute_import

import contextlib
import threading


@contextlib.contextmanager
def later(seconds, work):
    timer = threading.Timer(seconds, work)
    timer.start()
    try:
        yield
    finally:
        timer.join()

"""Ends the work of ASGI requests that are cancelled, or raise, on their way through Django.

Django then sends no request_finished. The thread of the request's synchronous code ends, but open
cursors in reference cycles keep its connections in use until the garbage collector runs, and so
their slots of MAX_CONNS. Before Django 4.0 that thread belongs to all requests, and does not end.
"""

import wrapt

from persistconn import coroutines, lifecycle
from persistconn.compat import ContextVar

_request = ContextVar("persistconn_request")


class Watched(wrapt.ObjectProxy):
    """A coroutine that calls ``at_end(error)`` when it has returned, or raised the error.

    Without ``async def``, which Python 2 cannot read.
    """

    def __init__(self, coroutine, at_end):
        wrapt.ObjectProxy.__init__(self, coroutine)
        self._self_at_end = at_end

    def __await__(self):
        return self

    __iter__ = __await__

    def __next__(self):
        return self._step(self.__wrapped__.send, None)

    def send(self, value):
        return self._step(self.__wrapped__.send, value)

    def throw(self, *exception):
        return self._step(self.__wrapped__.throw, *exception)

    def close(self):
        self._step(self.__wrapped__.close)
        self._self_at_end(GeneratorExit())

    def _step(self, go_on, *args):
        try:
            return go_on(*args)
        except StopIteration:
            self._self_at_end(None)
            raise
        except BaseException as error:
            self._self_at_end(error)
            raise


class Request(object):
    """A request, and from Django 5.0 to 6.0 the task of its own that its view runs in.

    If such a request is cancelled, its view goes on, with new threads for its synchronous code. It
    may go on reading from its open cursors, and its work ends with it.
    """

    def __init__(self):
        _request.set(self)
        self._was_cancelled = self._has_task = False
        self._left = []  # at most one list of wrappers, which the first thread has set aside

    def ended(self, error):
        if error is None:
            return
        self._was_cancelled = True
        in_the_requests_thread(self._set_aside if self._has_task else lifecycle.request_finished)

    def task_began(self):
        self._has_task = True

    def task_raised(self, error):
        if error is not None:
            self.task_ended(error)

    def task_ended(self, error):
        self._has_task = False
        if self._was_cancelled:
            in_the_requests_thread(self._end_in_last_thread)

    def _end_in_last_thread(self):
        self._end_left()
        lifecycle.request_finished()

    def _set_aside(self):
        self._left.append(lifecycle.set_aside())
        # The task has ended meanwhile, and may have found nothing.
        if not self._has_task:
            self._end_left()

    def _end_left(self):
        while self._left:
            lifecycle.end_set_aside(self._left.pop())


def watch_request(coroutine):
    return Watched(coroutine, Request().ended)


def watch_view(coroutine):
    request = _request.get(None)  # None in a handler with a handle() of its own
    if request is None:
        return coroutine
    request.task_began()
    return Watched(coroutine, request.task_raised)


def watch_response(coroutine):
    request = _request.get(None)
    return coroutine if request is None else Watched(coroutine, request.task_ended)


def in_the_requests_thread(function):
    """Have the thread of this request's synchronous code call a function, and do not wait for it.

    The call comes after those that this thread has begun or queued. To wait for it would allow the
    request to be cancelled once more.
    """
    call = coroutines.in_thread_of_orm(function)
    try:
        call.send(None)  # puts the call into the thread's queue
    except RuntimeError:
        pass  # the event loop, or the thread, is ending
    finally:
        call.close()

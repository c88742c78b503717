"""Streams: a response that takes long to send does not hold a connection that it does not need.

With RELEASE_BEFORE_STREAMING, the connections of the thread are given back before the first part
of the response, and after each part that used them. The next use takes one again, as always.

Without it, a stream may hold a connection until its end. The housekeeper looks for streams that do
so for long, and names their views in a warning, each once.
"""

import functools
import logging
import os
import weakref

from persistconn import compat, conf, coroutines, lease, lifecycle
from persistconn.lease import OPEN
from persistconn.lifecycle import works
from persistconn.pool import housekeeper

logger = logging.getLogger("persistconn")

#: Seconds for which a stream may hold a connection before a warning names its view.
WARN_AFTER = 30


def begin(response, switch):
    """Prepare a response that will be iterated over now."""
    parts = getattr(response, "_iterator", None)
    if parts is not None and _is_on() and not isinstance(parts, (Parts, AsyncParts)):
        kind = AsyncParts if getattr(response, "is_async", False) else Parts
        # Inside the response, so that all that Django does with its parts stays as it is.
        response._iterator = kind(parts, switch)
    _watch(response)


def begin_file(response):
    """Prepare a response with a file, which the server may send without iterating over it."""
    if compat.running_loop() is None:
        if _is_on():
            _release()
        _watch(response)


def send(sending, response):
    """Return an awaitable that releases and then awaits ``sending()``, which sends a response."""
    if not (response.streaming and _is_on()):
        return sending()
    return coroutines.in_turn(_release_in_its_thread, sending)


def _release():
    return lifecycle.release_unused(lambda values: values.release_before_streaming)


def _is_on():
    return conf.is_on_for_any("RELEASE_BEFORE_STREAMING")


# The parts of a response.

END = object()


class Parts(object):
    """An iterator over the parts of a response."""

    def __init__(self, parts, switch):
        self.inner, self._switch = parts, switch

    def __iter__(self):
        return self

    def __next__(self):
        self._release()
        part = next(self.inner, END)
        self._release()
        if part is END:
            raise StopIteration
        return part

    next = __next__  # Python 2

    def _release(self):
        if works.mine.wrappers and self._switch.is_on:
            _release()


class AsyncParts(object):
    """An asynchronous iterator over the parts of a response.

    The connections are in another thread. The work goes there only if a connection is in use.
    """

    def __init__(self, parts, switch):
        self.inner, self._switch = parts, switch
        #: The wrappers in the unit of work of that thread; None: not known yet.
        self.in_use = None

    def __aiter__(self):
        return self

    def __anext__(self):
        if not self._switch.is_on:
            return self.inner.__anext__()
        return coroutines.next_part(self, _release_in_its_thread)


def _release_in_its_thread():
    """Return an awaitable for release_unused() in the thread that runs this task's sync code."""
    return coroutines.in_thread_of_orm(_release)


# The warning about streams that hold a connection for long.

_watched = {}  # by the id of the response
_named = set()  # the views that a warning has named


class Stream(object):
    """A response that is being sent, and the thread whose connections it may hold."""

    def __init__(self, response, work):
        self.response = weakref.ref(response, functools.partial(_watched.pop, id(response)))
        # Weak, because the connections of a thread that ends must go with it.
        self._work = weakref.ref(work)
        self._outer, self._pid = work.outer, os.getpid()
        self._began = compat.monotonic()

    def has_ended(self):
        work = self._work()
        if self.response() is None or work is None or self._pid != os.getpid():
            return True
        return work.outer is not self._outer  # it is another object in each request

    def find_held(self, now):
        """Return the alias of a connection that the stream has held for too long, or None."""
        work = self._work()
        for alias, taken_at in _checkouts(work) if work is not None else ():
            if now - max(taken_at, self._began) >= WARN_AFTER:
                return alias


def _checkouts(work):
    """Yield (alias, time) for each checkout of a thread, if the setting is off for its database."""
    for ref in list(work.wrappers.values()):
        wrapper = ref()
        if wrapper is not None:
            held = lease.of(wrapper)
            state, entry = held.snapshot(getattr(wrapper, "connection", None))
            if state == OPEN and not held.database.values.release_before_streaming:
                yield wrapper.alias, entry.slot.taken_at or compat.monotonic()


def _watch(response):
    work = _work_in_charge()
    if work is not None and id(response) not in _watched:
        _watched[id(response)] = Stream(response, work)
        lifecycle.pools.start_housekeeper()


def _work_in_charge():
    """Return the Work of the thread that runs this task's sync code, or None if it is not known."""
    if compat.running_loop() is None:
        return works.mine
    from asgiref.sync import SyncToAsync

    try:
        # asgiref tells it only to code that goes to that thread, which takes too long for a look.
        context = SyncToAsync.thread_sensitive_context.get(None)
        if context is None:
            executor = SyncToAsync.single_thread_executor
        else:
            executor = SyncToAsync.context_to_thread_executor[context]
        (thread,) = executor._threads
        return works.of_thread(thread.ident)
    except (AttributeError, KeyError, ValueError):
        return None  # another asgiref, or no sync code has run yet


def warn():
    """Warn about streams that hold a connection for long. Return whether a stream is left."""
    now = compat.monotonic()
    for key, stream in list(_watched.items()):
        response, alias = stream.response(), stream.find_held(now)
        if stream.has_ended():
            _watched.pop(key, None)
        elif alias is not None:
            _watched.pop(key, None)
            _warn_once(name_of(response), alias)
    return bool(_watched)


def _warn_once(name, alias):
    if name not in _named:
        _named.add(name)
        logger.warning(
            "%s has streamed for more than %g seconds with a connection of %r in use."
            " PERSISTCONN_RELEASE_BEFORE_STREAMING gives it back while the stream does not need it.",
            name,
            WARN_AFTER,
            alias,
        )


def name_of(response):
    """Return the path of the view that made a response, else of the generator of its parts.

    Before 1.7 a response does not know its request.
    """
    closers = getattr(response, "_resource_closers", getattr(response, "_closable_objects", ()))
    for closer in list(closers):
        match = getattr(getattr(closer, "__self__", closer), "resolver_match", None)
        if match is not None:
            return _path(match.func)
    parts = getattr(response, "_iterator", None)
    parts = getattr(parts, "inner", parts)
    frame = getattr(parts, "gi_frame", None) or getattr(parts, "ag_frame", None)
    if frame is not None:
        name = getattr(parts, "__qualname__", frame.f_code.co_name)
        return "%s.%s" % (frame.f_globals.get("__name__"), name)
    return _path(type(response))


def _path(view):
    while isinstance(view, functools.partial):
        view = view.func
    # Class-based views of Django, and of Django REST framework.
    view = getattr(view, "view_class", None) or getattr(view, "cls", None) or view
    if not hasattr(view, "__name__"):
        view = type(view)
    return "%s.%s" % (view.__module__, getattr(view, "__qualname__", view.__name__))


housekeeper.chores.append(warn)

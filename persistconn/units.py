"""unit_of_work(): the public name for work on the database that is no request."""

import functools
import threading
import weakref

from persistconn import compat, control, coroutines, lifecycle
from persistconn.django_versions import dialect
from persistconn.work import works

try:
    from asgiref.local import Local
except ImportError:  # it comes with Django 3.0
    Local = threading.local

# innermost: a weak reference to the unit that this thread, or this chain of coroutines, is in. Weak,
# so that it goes with the unit, also where an exception has interrupted the unit's beginning.
_here = Local()


def unit_of_work(name=None):
    """Return a context manager and decorator: its end gives back the connections used inside.

    However the code inside ends, the thread's open transactions are rolled back, and its
    connections go back to the pool, as at the end of a request. A block that was open before, as
    that of a TestCase, is left alone with its connection. A nested unit does nothing: everything
    ends with the outermost, which may be a request. While persistconn is off, or not installed, the
    end is that of ``close_old_connections()`` (``close_connection()`` before Django 1.6).

    ``with`` and functions end the work of their own thread. ``async with`` and async functions end
    the work of the thread in which asgiref's ``sync_to_async()`` runs the ORM for them.

    ``name`` says whose work it is, for messages such as a PoolTimeout's. A decorated function has
    its own name by default. ``@unit_of_work`` works without parentheses, too.
    """
    if callable(name):
        return UnitOfWork()(name)
    return UnitOfWork(name)


class UnitOfWork(object):
    """What unit_of_work() returns. Each ``with`` needs an object of its own."""

    def __init__(self, name=None):
        self.name = name
        self._free = [True]
        self._ident = None  # the thread whose work this unit ends, once that is known

    def __call__(self, function):
        name = self.name or compat.qualified_name(function)
        new = functools.partial(UnitOfWork, name)
        if compat.is_coroutine_function(function):
            decorated = coroutines.in_async_with(new, function)
        else:
            decorated = _in_with(new, function)
        return functools.wraps(function)(decorated)

    def __enter__(self):
        self._enter()
        self._begin()

    def __exit__(self, *error):
        self._exit()
        self._end()

    def __aenter__(self):
        self._enter()
        return coroutines.awaited(coroutines.in_thread_of_orm(self._begin), self._exit)

    def __aexit__(self, *error):
        self._exit()
        return coroutines.in_thread_of_orm(self._end)

    def _enter(self):
        try:
            self._free.pop()
        except IndexError:
            raise RuntimeError("This unit of work has begun already: call unit_of_work() again.")
        self._outer = getattr(_here, "innermost", None)
        _here.innermost = weakref.ref(self)

    def _exit(self):
        _here.innermost = self._outer

    def _begin(self):
        work = works.mine
        self._around = set(id(w) for w in dialect.initialised() if dialect.is_in_a_block(w))
        self._former, work.unit = work.unit, weakref.ref(self)
        self._ident = work.ident

    def _end(self):
        work, ident, self._ident = works.mine, self._ident, None
        work.unit = self._former
        is_outermost = not (work.is_in_request() or self._is_within(ident))
        self._free.append(True)
        if not is_outermost:
            return
        if control.is_enabled():
            lifecycle.end_of_work(self._is_left_alone)
            return
        for wrapper in dialect.initialised():
            if not self._is_left_alone(wrapper):
                dialect.end_stock(wrapper)

    def _is_left_alone(self, wrapper):
        return id(wrapper) in self._around and dialect.is_in_a_block(wrapper)

    def _is_within(self, ident):
        """Whether a unit around this one ends the work of the same thread."""
        outer = self._outer and self._outer()
        return outer is not None and (outer._ident == ident or outer._is_within(ident))


def _in_with(new, function):
    def decorated(*args, **kwargs):
        with new():
            return function(*args, **kwargs)

    return decorated

"""unit_of_work(): the public name for work on the database that is no request."""

import functools
import os
import weakref

from persistconn import compat, control, coroutines, lifecycle
from persistconn.django_versions import dialect
from persistconn.work import works

# A weak reference to the unit that this thread, or this task of an event loop, is in. Weak, so that
# it goes with the unit, also where an exception has interrupted the unit's beginning.
_innermost = compat.ContextVar("persistconn_unit")


def unit_of_work(name=None):
    """Return a context manager and decorator: its end gives back the connections used inside.

    However the code inside ends, the thread's open transactions are rolled back, and its
    connections go back to the pool, as at the end of a request. A block that was open before, as
    that of a TestCase, is left alone with its connection. A nested unit does nothing: everything
    ends with the outermost, which may be a request. While persistconn is off, or not installed, the
    end is that of ``close_old_connections()`` (``close_connection()`` before Django 1.6).

    ``with`` and functions end the work of their own thread. ``async with`` and async functions end
    the work of the thread in which asgiref's ``sync_to_async()`` runs the ORM for them. While other
    coroutines are in units of that thread, a connection in which they may have something to lose
    stays until the last of them ends: it is in a transaction, or was used without the ORM.

    ``name`` says whose work it is, for messages such as a PoolTimeout's. A decorated function has
    its own name by default. ``@unit_of_work`` works without parentheses, too.
    """
    if callable(name):
        return UnitOfWork()(name)
    if name is not None and not isinstance(name, (str, compat.Text)):
        raise TypeError("unit_of_work() takes a name or a function, not %r." % (name,))
    return UnitOfWork(name)


class UnitOfWork(object):
    """The object that unit_of_work() returns. Each ``with`` needs an object of its own."""

    def __init__(self, name=None):
        self.name = name
        self._free = [True]
        self._place = None  # while it runs: the process and the thread whose work it ends
        self._is_cancelled = False

    def __call__(self, function):
        new = functools.partial(UnitOfWork, self.name or compat.qualified_name(function))
        if compat.is_coroutine_function(function):
            decorated = coroutines.in_async_with(new, function)
        else:
            decorated = _in_with(new, function)
        # Not every callable has every attribute, which Python 2 requires.
        attributes = [name for name in functools.WRAPPER_ASSIGNMENTS if hasattr(function, name)]
        return functools.wraps(function, attributes, ())(decorated)

    def __enter__(self):
        self._enter()
        self._begin()

    def __exit__(self, *error):
        _innermost.set(self._outer)
        self._end()

    def __aenter__(self):
        self._enter()
        return coroutines.awaited(coroutines.in_thread_of_orm(self._begin), self._cancel)

    def __aexit__(self, *error):
        _innermost.set(self._outer)
        return coroutines.shielded(coroutines.in_thread_of_orm(self._end))

    def is_running(self):
        """Whether it has begun, in this process, and not ended."""
        place = self._place
        return place is not None and place[0] == os.getpid()

    def _enter(self):
        try:
            self._free.pop()
        except IndexError:
            raise RuntimeError("This unit of work has begun already: call unit_of_work() again.")
        self._outer = _innermost.get(None)
        _innermost.set(weakref.ref(self))

    def _cancel(self):
        self._is_cancelled, self._place = True, None
        _innermost.set(self._outer)

    def _begin(self):
        work = works.mine
        self._around = set(id(w) for w in dialect.initialised() if dialect.is_in_a_block(w))
        self._place = os.getpid(), work.ident
        # With those that run, so that the list does not grow.
        work.units = [weakref.ref(unit) for unit in work.running_units() + [self]]
        if self._is_cancelled:
            self._place = None  # an error of the coroutine keeps this object

    def _end(self):
        work, place, self._place = works.mine, self._place, None
        try:
            # A generator may be closed in another thread. Neither work is this thread's to end.
            if place == (os.getpid(), work.ident):
                self._end_work(work, place)
        finally:
            self._free.append(True)

    def _end_work(self, work, place):
        if work.is_in_request() or self._is_within(place):
            return
        if not control.is_enabled():
            for wrapper in dialect.initialised():
                if not self._is_left_alone(wrapper):
                    dialect.end_stock(wrapper)
        elif work.running_units():
            # Another coroutine in this thread, which may be in the middle of a transaction.
            lifecycle.release_unused(lambda values: True)
        else:
            lifecycle.end_of_work(self._is_left_alone)

    def _is_left_alone(self, wrapper):
        return id(wrapper) in self._around and dialect.is_in_a_block(wrapper)

    def _is_within(self, place):
        """Whether a unit around this one ends the work of the same thread."""
        outer = self._outer and self._outer()
        return outer is not None and (outer._place == place or outer._is_within(place))


def _in_with(new, function):
    def decorated(*args, **kwargs):
        with new():
            return function(*args, **kwargs)

    return decorated

"""Hooks into a wrapper's opening of its raw connection.

Inside ``with by_method(wrapper, hook):``, ``hook(connect, params)`` opens the wrapper's next
connection: it calls ``connect(params)`` and returns the connection. The settings do not change,
and no other wrapper or thread is affected.
"""

import contextlib
from functools import partial

import wrapt

from persistconn import compat

METHOD = "get_new_connection"


class _Replacement(object):
    """Replaces a wrapper's method for one call."""

    def __init__(self, wrapper, hook):
        self._wrapper, self._hook = wrapper, hook
        self._own = wrapper.__dict__.get(METHOD)
        if isinstance(self._own, _Replacement):
            # Another thread, which shares the wrapper, has set it.
            self._own = self._own._own

    def __call__(self, params):
        self.undo()
        return self._hook(getattr(self._wrapper, METHOD), params)

    def undo(self):
        if self._own is None:
            self._wrapper.__dict__.pop(METHOD, None)
        else:
            self._wrapper.__dict__[METHOD] = self._own


@contextlib.contextmanager
def by_method(wrapper, hook):
    """Django 1.6 and later: a wrapper opens its connection by get_new_connection()."""
    replacement = _Replacement(wrapper, hook)
    try:
        wrapper.__dict__[METHOD] = replacement
        yield
    finally:
        replacement.undo()


@contextlib.contextmanager
def by_module(wrapper, hook):
    """Before 1.6: cursor() calls ``Database.connect()``. ``Database`` must be a HookedModule."""
    ident = compat.get_ident()
    outer = _hooks.get(ident)
    try:
        _hooks[ident] = hook
        yield
    finally:
        if outer is None:
            _hooks.pop(ident, None)
        else:
            _hooks[ident] = outer


_hooks = {}  # by thread


class HookedModule(wrapt.ObjectProxy):
    """A driver's module as a backend sees it; for everybody else the module is unchanged."""

    def connect(self, *args, **kwargs):
        hook = _hooks.pop(compat.get_ident(), None)
        if hook is None:
            return self.__wrapped__.connect(*args, **kwargs)
        return hook(partial(_connect, self.__wrapped__, args), kwargs)


def _connect(module, args, params):
    return module.connect(*args, **params)

"""How to be asked when a wrapper opens its raw connection, with the parameters it does that by.

``with by_method(wrapper, hook):`` the wrapper's next connection is what ``hook(connect, params)``
returns, which calls ``connect(params)``. The settings stay what and where they are, and no other
wrapper or thread is concerned.
"""

from __future__ import absolute_import

import contextlib
from functools import partial

import wrapt

from persistconn import compat

METHOD = "get_new_connection"


class _Replacement(object):
    """Takes the place of a wrapper's method, for one call."""

    def __init__(self, wrapper, hook):
        self._wrapper, self._hook = wrapper, hook
        self._own = wrapper.__dict__.get(METHOD)
        if isinstance(self._own, _Replacement):
            # From another thread that shares the wrapper.
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
    """1.6 and later: a wrapper has a method for it."""
    replacement = _Replacement(wrapper, hook)
    try:
        wrapper.__dict__[METHOD] = replacement
        yield
    finally:
        replacement.undo()


@contextlib.contextmanager
def by_module(wrapper, hook):
    """Before: cursor() calls ``Database.connect()``. Needs a HookedModule there."""
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

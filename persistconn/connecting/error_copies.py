"""One error for several threads: each raises a copy of its own, which refers to no other's frames."""

from __future__ import absolute_import

import types


def copy_of(error):
    """Return an error of the same class with the same attributes and causes, but no traceback.

    The class itself is not called: ``args`` need not be what its constructor takes.
    """
    return _copy(error, [])


def _copy(error, seen):
    seen.append(error)
    copy = _new(error.__class__, error.args)
    BaseException.__init__(copy, *error.args)
    try:
        copy.__setstate__(_members(error))
    except Exception:
        pass  # attributes that this class lets nobody set
    copy.__dict__.update(_attributes(error))
    cause = getattr(error, "__cause__", None)
    if cause is not None and not any(cause is other for other in seen):
        copy.__cause__ = _copy(cause, seen)
    return copy


def _new(cls, args):
    for base in cls.__mro__:
        new = vars(base).get("__new__")
        # A static method is written in Python, and takes what it likes.
        if new is not None and not isinstance(new, staticmethod):
            return new(cls, *args)


def _members(error):
    """The attributes that are not in its __dict__: slots, and those of classes written in C."""
    members = {}
    for base in error.__class__.__mro__:
        for name, member in vars(base).items():
            if isinstance(member, types.MemberDescriptorType) and not name.startswith("__"):
                members[name] = getattr(error, name, None)
    return members


def _attributes(error):
    # On Python 2 Django sets these two; a copy has causes of its own.
    attributes = dict(error.__dict__)
    for name in ("__traceback__", "__cause__"):
        attributes.pop(name, None)
    if "__notes__" in attributes:
        attributes["__notes__"] = list(attributes["__notes__"])
    return attributes


def causes(error):
    """Yield an error and the errors that are its causes."""
    seen = []
    while error is not None and not any(error is other for other in seen):
        yield error
        seen.append(error)
        error = getattr(error, "__cause__", None)

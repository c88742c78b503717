"""Copies of one error for several threads, none of which refers to another thread's frames."""

import types


def copy_of(error):
    """Return an error of the same class with the same attributes and causes, but no traceback.

    The class is not called, because its constructor may take other arguments than ``args``.
    """
    return _copy(error, [])


def _copy(error, seen):
    seen.append(error)
    copy = _new(error.__class__, error.args)
    BaseException.__init__(copy, *error.args)
    try:
        copy.__setstate__(_members(error))
    except Exception:
        pass  # this class does not let its attributes be set
    copy.__dict__.update(_attributes(error))
    cause = getattr(error, "__cause__", None)
    if cause is not None and not any(cause is other for other in seen):
        copy.__cause__ = _copy(cause, seen)
    return copy


def _new(cls, args):
    for base in cls.__mro__:
        new = vars(base).get("__new__")
        # A __new__ written in Python is a static method, and may take other arguments.
        if new is not None and not isinstance(new, staticmethod):
            return new(cls, *args)


def _members(error):
    """Return the attributes outside __dict__: slots, and members of classes written in C."""
    members = {}
    for base in error.__class__.__mro__:
        for name, member in vars(base).items():
            if isinstance(member, types.MemberDescriptorType) and not name.startswith("__"):
                members[name] = getattr(error, name, None)
    return members


def _attributes(error):
    # On Python 2, Django puts these two into __dict__. The copy must not share them.
    attributes = dict(error.__dict__)
    for name in ("__traceback__", "__cause__"):
        attributes.pop(name, None)
    if "__notes__" in attributes:
        attributes["__notes__"] = list(attributes["__notes__"])
    return attributes


def causes(error):
    """Yield an error, its cause, the cause's cause, and so on."""
    seen = []
    while error is not None and not any(error is other for other in seen):
        yield error
        seen.append(error)
        error = getattr(error, "__cause__", None)

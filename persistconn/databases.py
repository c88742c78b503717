"""The database behind a wrapper's current settings: its pool, and whether connections are kept."""

import hashlib
import hmac
import os
import weakref

from persistconn import compat, conf, drivers
from persistconn.django_versions import dialect
from persistconn.pool.pools import Pools

pools = Pools()
compat.after_fork_in_child(pools.begin)
compat.around_fork_in_parent(pools.pause, pools.resume)

#: Database settings that do not affect the session. TEST and TEST_* do not affect it either.
NOT_OF_THE_SESSION = ("ATOMIC_REQUESTS", "CONN_HEALTH_CHECKS", "CONN_MAX_AGE", conf.PER_DATABASE)


class Database(object):
    """The database that the settings of one wrapper describe.

    If ``is_kept`` is true, idle connections are in ``pool``; else Django closes all connections.
    """

    __slots__ = (
        "values driver pool is_kept pid settings holder _given _size _read _project _wrapper"
        " __weakref__"
    ).split()

    def __init__(self, wrapper):
        self.pid = os.getpid()
        self.holder = conf.holder()
        self._given = given = self.holder.__dict__
        self._size, self._read = len(given), conf.reader(given)
        self._project = self._read(given)
        self._wrapper = weakref.ref(wrapper)
        self.settings = _copied(wrapper.settings_dict)
        self.values = conf.of(wrapper.settings_dict)
        self.driver = drivers.of_module(dialect.database_module(wrapper))
        self.is_kept = self._may_be_kept(wrapper)
        self.pool = pools.use(_key(wrapper), wrapper.alias, self) if self.is_kept else None

    def _may_be_kept(self, wrapper):
        if self.values.max_age == 0 or wrapper.settings_dict["OPTIONS"].get("pool"):
            return False
        return wrapper.alias != dialect.maintenance and self.driver is not None

    def is_current(self):
        """Whether the wrapper is alive and still has the settings that made this object."""
        wrapper = self._wrapper()
        return wrapper is not None and self.is_of(wrapper.settings_dict)

    def wrapper(self):
        """Return the wrapper, or None if it is gone or has other settings by now."""
        wrapper = self._wrapper()
        return wrapper if self.is_current() else None

    def is_of(self, settings):
        """Whether this object was made from these settings and the project's, in this process."""
        given = self._given
        try:
            return (
                self.settings == settings
                and self.holder is conf.holder()
                # The size changes when somebody adds a setting.
                and len(given) == self._size
                and self._read(given) == self._project
                and self.pid == os.getpid()
            )
        except KeyError:
            return False

    def expire(self):
        """Match no settings from now on, as the pool is gone. Leases then make a new Database."""
        self.settings = None


def of(wrapper, before):
    """Return a new Database from the current settings of a wrapper and of the project.

    ``before``: the wrapper's last Database, or None. Drains its pool if nobody else uses that.
    """
    database = Database(wrapper)
    if before is not None and before.pool not in (None, database.pool):
        pools.left(before.pool)
    return database


def _copied(settings):
    # Test runners and multi-tenant apps change settings at this depth. TEST does not matter here.
    return dict(
        (name, dict(value) if isinstance(value, dict) and name != "TEST" else value)
        for name, value in settings.items()
    )


def _key(wrapper):
    """Return the key of a wrapper's pool. Wrappers with the same key can share their sessions.

    Passwords and tokens are in it only as a digest with a secret key of this process.
    """
    settings, project, others = wrapper.settings_dict, conf.holder(), []
    given = [
        (name, value)
        for name, value in settings.items()
        if name not in NOT_OF_THE_SESSION and not name.startswith("TEST")
    ]
    spelt = _spell(dict(given), others)
    if type(settings) is not dict:
        others.append(settings)  # it may compute its values at each access
    digest = hmac.new(_secret, spelt.encode("utf-8", "backslashreplace"), hashlib.sha256)
    return (
        wrapper.alias,
        wrapper.__class__,
        project.TIME_ZONE,
        getattr(project, "USE_TZ", False),
        digest.hexdigest(),
        tuple(_Same(other) for other in others),
    )


_secret = os.urandom(32)

_PLAIN = (type(None), bool, int, float, type(b""), type(b"".decode()), type(2**64))


def _spell(value, others):
    """Return a setting as text. Append values that are of no built-in type to ``others``."""
    kind = type(value)
    if kind in _PLAIN:
        return "%s %r" % (kind.__name__, value)
    if kind is dict:
        items = sorted((_spell(key, others), value[key]) for key in value)
        return "{%s}" % ", ".join("%s: %s" % (key, _spell(item, others)) for key, item in items)
    if kind in (list, tuple):
        return "%s(%s)" % (kind.__name__, ", ".join(_spell(item, others) for item in value))
    others.append(value)
    return "other %d" % len(others)


class _Same(object):
    """Compares objects by identity, whatever their own ``__eq__()`` says."""

    __slots__ = ("_object",)

    def __init__(self, about):
        self._object = about

    def __eq__(self, other):
        return isinstance(other, _Same) and self._object is other._object

    def __ne__(self, other):
        return not self == other

    def __hash__(self):
        return id(self._object)

"""1.8 and later: autocommit and atomic blocks, and nothing else."""

from __future__ import absolute_import

import operator

from persistconn import conf, drivers
from persistconn.django_versions import connecting

_connected_to = operator.itemgetter("NAME", "HOST", "PORT", "USER")

# Methods that were looked at together, and are all Django's own or what we have put in their place.
_djangos = set()


def are_djangos(*methods):
    if methods not in _djangos:
        if not all(_module(method) in ("django", "persistconn") for method in methods):
            return False
        _djangos.add(methods)
    return True


def _module(method):
    function = getattr(method, "__func__", method)  # Python 2 has unbound methods
    return getattr(function, "__globals__", {}).get("__name__", "").partition(".")[0]


#: What connect() and what it calls set, and an adopting wrapper cannot know: Django's own age, too.
CARRIED = ("close_at", "health_check_enabled", "isolation_level", "autocommit")


class Django18(object):
    """1.8 and later."""

    backends = "django.db.backends.base.base"
    creation = "django.db.backends.base.creation"
    end_of_work = "close_old_connections"
    end_of_work_signals = ("request_started", "request_finished")
    #: The alias of connections that make and drop databases, of which Django closes not every one.
    maintenance = "__no_db__"
    #: Whether there are managed blocks. Somebody can forget to leave one, without a connection too.
    has_managed_blocks = False
    #: ``with dialect.connecting(wrapper, hook):`` the hook opens the raw connection.
    connecting = staticmethod(connecting.by_method)

    def identity(self, wrapper):
        """What a connection opened by this wrapper now would be connected to, and set up as."""
        database = wrapper.settings_dict
        project = conf.holder()
        return (
            wrapper.__class__,
            _connected_to(database),
            repr(database["OPTIONS"]),
            database.get("AUTOCOMMIT"),
            database.get("TIME_ZONE"),
            project.TIME_ZONE,
            getattr(project, "USE_TZ", False),
        )

    def database_module(self, wrapper):
        """The driver's module, which a wrapper connects by."""
        return getattr(wrapper, "Database", None)

    def initialised(self):
        """The wrappers of this thread, without making any."""
        from django.db import connections

        mine = connections._connections
        return [getattr(mine, alias) for alias in connections if hasattr(mine, alias)]

    def adopt(self, wrapper, entry):
        """Give a closed wrapper a kept connection: what connect() does, but for opening one.

        Attributes that this Django does not know yet are set all the same, and do no harm.
        """
        wrapper.connection = entry.raw
        self.leave_blocks(wrapper)
        wrapper.__dict__.update(entry.carried)

    def carried(self, wrapper):
        """What opening the connection noted on the wrapper, for the next one that adopts it."""
        noted = wrapper.__dict__
        carried = dict((name, noted[name]) for name in CARRIED if name in noted)
        return dict(carried, errors_occurred=False, health_check_done=True)

    def is_under_way(self, wrapper):
        """Whether the wrapper's connection is not as connect() leaves one, and is again later."""
        return wrapper.in_atomic_block or wrapper.autocommit != wrapper.settings_dict["AUTOCOMMIT"]

    def settle(self, wrapper, entry):
        """Finish what Django did to open a connection, before it is first used."""

    def may_reconnect(self, wrapper, status):
        """Whether nothing is lost if the wrapper's connection is replaced by another now.

        ``status``: what the driver says of the transaction.
        """
        if wrapper.in_atomic_block:
            return False
        autocommit = wrapper.autocommit
        if autocommit != wrapper.settings_dict["AUTOCOMMIT"]:
            return False
        return status in drivers.NOTHING_OPEN or (status is None and autocommit)

    def is_in_a_block(self, wrapper):
        """Whether a block that began before this unit of work, a TestCase's, is still open."""
        return wrapper.in_atomic_block

    def leave_blocks(self, wrapper):
        """Let the wrapper be outside all blocks: a forked child is in none of its parent's."""
        wrapper.in_atomic_block = wrapper.needs_rollback = wrapper.closed_in_transaction = False
        wrapper.savepoint_ids, wrapper.atomic_blocks, wrapper.run_on_commit = [], [], []

    def has_own_close(self, wrapper):
        """Whether a backend, or whoever patched it, does more at close() than Django.

        Multi-tenant backends forget there what they cached about the session, its search_path.
        """
        cls, own = wrapper.__class__, wrapper.__dict__
        if "close" in own or "_close" in own:
            return True
        return not are_djangos(cls.close, cls._close)

    def belongs_to(self, wrapper, ident):
        """Whether nobody but the thread of this ident uses the wrapper."""
        return wrapper._thread_ident == ident and not wrapper.allow_thread_sharing

    def end_blocks(self, wrapper):
        """Leave the managed blocks that somebody entered and forgot. Raises where Django does."""

    def forget_transactions(self, wrapper):
        """Reset a wrapper to what it is outside all blocks."""

    def restore(self, wrapper, entry):
        """Reset an idle session to what the settings say of its transactions."""
        autocommit = wrapper.settings_dict["AUTOCOMMIT"]
        if wrapper.autocommit != autocommit:
            wrapper._set_autocommit(autocommit)
            wrapper.autocommit = autocommit
        # psycopg2's set_isolation_level() switches autocommit off, and the wrapper does not know.
        if entry.driver.flags(entry.raw) != entry.flags:
            entry.driver.restore(entry.raw, entry.flags, entry.values.check_timeout)

    def end_stock(self, wrapper):
        """End a unit of work as Django does by itself."""
        wrapper.close_if_unusable_or_obsolete()

"""The contenders: persistconn, Django as it comes, or Django with its own pool."""

from __future__ import absolute_import

import logging

import django
import support
from cluster import Cluster
from django.conf import settings

PERSISTCONN, STOCK, POOL = "persistconn", "stock", "pool"
ALL = [PERSISTCONN, STOCK, POOL]

#: Aliases of one database that share no connection, as many as the clients of a scenario.
APART = ["apart-%d" % n for n in range(4)]

chosen = None


class NotOnThisDjango(Exception):
    """A contender that this Django, or this driver, does not have."""


def is_ours():
    return chosen == PERSISTCONN


def set_up_django(cluster, contender):
    global chosen
    chosen = contender
    support.server = cluster
    settings.configure(
        DATABASES=dict((alias, database(cluster, alias)) for alias in ["default"] + APART),
        INSTALLED_APPS=["persistconn"] if is_ours() else [],
        LOGGING_CONFIG=None,
        **support.PROJECT
    )
    if hasattr(django, "setup"):
        django.setup()
    if is_ours():
        import persistconn

        persistconn.install()
    for name in ("django", "persistconn", "psycopg"):
        logging.getLogger(name).addHandler(logging.NullHandler())
        logging.getLogger(name).propagate = False


def database(cluster, alias):
    more = {}
    if chosen == STOCK:
        if django.VERSION < (4, 1):
            raise NotOnThisDjango(
                "Django keeps no connection before 1.6, and checks none before 4.1"
            )
        more = {"CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True}
    elif chosen == POOL:
        if django.VERSION < (5, 1) or support.driver.__name__ != "psycopg":
            raise NotOnThisDjango("Django's own pool needs Django 5.1 and psycopg 3")
        more = {"CONN_HEALTH_CHECKS": True}
    own = {} if alias == "default" else apart(alias)
    return support.database_settings(cluster.database, OPTIONS=options(**own), **more)


def apart(alias):
    """OPTIONS by which an alias differs from the others, and that change nothing else."""
    own = Cluster.own_option(APART.index(alias))
    return dict(own, pool={"min_size": 1, "max_size": 1}) if chosen == POOL else own


def options(**more):
    """DATABASES' OPTIONS for the clients."""
    own = {"pool": {"max_size": 40}} if chosen == POOL else {}
    return dict(Cluster.options, **dict(own, **more))


def end_of_thread():
    """Close the connections of a thread that ends, for contenders that would keep them open."""
    from django.db import connections

    if not is_ours():
        for alias in connections:
            connections[alias].close()


def counts():
    """Return the counts of the usual alias; nothing for contenders that count nothing."""
    if not is_ours():
        return {}
    import persistconn

    return persistconn.stats()["default"]


def close_all():
    if is_ours():
        import persistconn

        persistconn.drain()
    elif chosen == POOL:
        from django.db import connections

        for alias in connections:
            connections[alias].close_pool()

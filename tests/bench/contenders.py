"""The table of contenders: who is measured, in which environment, with which settings."""

import dataclasses

#: Each is a Python environment of its own: Django prefers psycopg 3 where it is installed, and
#: PyMySQL takes the place of MySQLdb.
PSYCOPG3, PSYCOPG2, OLD = "Django 6.1, psycopg 3", "Django 6.1, psycopg2", "Django 1.5, psycopg2"
MYSQLCLIENT, PYMYSQL = "Django 6.1, mysqlclient", "Django 6.1, PyMySQL"
NEW, MARIADB = (PSYCOPG3, PSYCOPG2), (MYSQLCLIENT, PYMYSQL)
#: "all" is PostgreSQL only, for which the time is long enough.
GROUPS = {"new": NEW, "old": (OLD,), "all": (*NEW, OLD), "mariadb": MARIADB}

PYTHONS = {PSYCOPG3: "3.13", PSYCOPG2: "3.13", OLD: "2.7", MYSQLCLIENT: "3.13", PYMYSQL: "3.13"}
REQUIREMENTS = {
    PSYCOPG3: ["Django==6.1.*", "psycopg[binary]", "psycopg2-binary", "gunicorn", "wrapt"],
    PSYCOPG2: ["Django==6.1.*", "psycopg2-binary", "gunicorn", "wrapt"],
    OLD: ["Django==1.5.*", "psycopg2-binary<2.9", "gunicorn", "futures", "wrapt<1.16"],
    MYSQLCLIENT: ["Django==6.1.*", "mysqlclient", "gunicorn", "wrapt"],
    PYMYSQL: ["Django==6.1.*", "PyMySQL", "gunicorn", "wrapt"],
}
#: The pools that are measured alone, in each environment: name, requirement.
BARE_POOLS = {
    PSYCOPG3: {
        "persistconn.pool.Pool": None,
        "psycopg2 ThreadedConnectionPool": None,
        "psycopg_pool ConnectionPool": "psycopg-pool",
        "SQLAlchemy QueuePool": "sqlalchemy",
    },
    OLD: {
        "persistconn.pool.Pool": None,
        "psycopg2 ThreadedConnectionPool": None,
        "SQLAlchemy QueuePool": "sqlalchemy<1.4",
    },
}

#: What tells the sessions of a thousand threads from others, by the name of the server.
CROWD_MARKS = {
    "PostgreSQL": {"OPTIONS": {"application_name": "crowd"}},
    "MariaDB": {"USER": "crowd"},
}

#: At least as many as there are threads, so that no contender opens more than it keeps.
SIZE = 20


# Contenders are equal by identity, so that they can be keys.
@dataclasses.dataclass(frozen=True, eq=False)
class Contender:
    name: str
    environments: tuple
    database: dict = dataclasses.field(default_factory=dict)
    settings: dict = dataclasses.field(default_factory=dict)
    apps: tuple = ()
    middleware: tuple = ()
    hand_patch: bool = False
    through_pgbouncer: bool = False
    #: gunicorn's worker class. Contenders made for gevent have no locks that threads could wait
    #: for.
    worker: str = "gthread"
    requires: tuple = ()

    def environment(self, address):
        """The settings that the measured process reads, for a database at this address."""
        database = {**address, **self.database}
        database["OPTIONS"] = {**address["OPTIONS"], **self.database.get("OPTIONS", {})}
        return {
            "database": database,
            "settings": self.settings,
            "apps": self.apps,
            "middleware": self.middleware,
            "hand_patch": self.hand_patch,
        }


def persistconn(name, environments, **settings):
    settings = {"PERSISTCONN_" + key: value for key, value in settings.items()}
    middleware = ("persistconn.middleware.Install",) if environments == (OLD,) else ()
    return Contender(name, environments, {}, settings, ("persistconn",), middleware)


STOCK, HAND, MAX_AGE, CHECKS = "stock", "hand patch", "CONN_MAX_AGE", "CONN_MAX_AGE + health checks"
POOL, POOL_CHECKS = "Django's pool", "Django's pool + health checks"
PERSISTCONN = "persistconn"
CROWD = "persistconn, MAX_CONNS 8"
DJORM, DJORM_PESSIMISTIC = "djorm-ext-pool", "djorm-ext-pool, pessimistic"
DB_POOL, DB_POOL_TEST = "django-db-pool", "django-db-pool, TEST_ON_BORROW"

# On 1.2 to 1.5, where each request else has a BEGIN and a ROLLBACK.
AUTOCOMMIT = {"OPTIONS": {"autocommit": True}}
HAND_AUTOCOMMIT, PERSISTCONN_AUTOCOMMIT = "hand patch, autocommit", "persistconn, autocommit"

EVERYWHERE = [
    Contender(STOCK, (*NEW, *MARIADB, OLD)),
    Contender(HAND, (*NEW, *MARIADB, OLD), hand_patch=True),
    *(persistconn(PERSISTCONN, each, MAX_AGE=600) for each in ((*NEW, *MARIADB), (OLD,))),
]

POOLED = {"pool": {"min_size": 4, "max_size": SIZE}}
ON_NEW = [
    Contender(MAX_AGE, (*NEW, *MARIADB), {"CONN_MAX_AGE": 600}),
    Contender(CHECKS, (*NEW, *MARIADB), {"CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True}),
    Contender(POOL, (PSYCOPG3,), {"OPTIONS": POOLED}, requires=("psycopg-pool",)),
    Contender(
        POOL_CHECKS,
        (PSYCOPG3,),
        {"OPTIONS": POOLED, "CONN_HEALTH_CHECKS": True},
        requires=("psycopg-pool",),
    ),
    *(
        Contender(
            "django-db-connection-pool",
            environments,
            {"ENGINE": "dj_db_conn_pool.backends." + backend, "POOL_OPTIONS": {"POOL_SIZE": SIZE}},
            requires=("django-db-connection-pool",),
        )
        for environments, backend in ((NEW, "postgresql"), (MARIADB, "mysql"))
    ),
    *(
        Contender(
            "django-db-geventpool",
            (environment,),
            {
                "ENGINE": "django_db_geventpool.backends.postgresql_" + driver,
                "OPTIONS": {"MAX_CONNS": SIZE},
            },
            worker="gevent",
            requires=("django-db-geventpool", "gevent", "psycogreen", "packaging"),
        )
        for environment, driver in ((PSYCOPG3, "psycopg3"), (PSYCOPG2, "psycopg2"))
    ),
    # It reopens dead connections, and keeps none open itself.
    Contender(
        "django-dbconn-retry on CONN_MAX_AGE",
        NEW,
        {"CONN_MAX_AGE": 600},
        apps=("django_dbconn_retry",),
        requires=("django-dbconn-retry",),
    ),
    Contender(
        "stock through PgBouncer",
        NEW,
        {"DISABLE_SERVER_SIDE_CURSORS": True},
        through_pgbouncer=True,
    ),
    persistconn("persistconn, MAX_CONNS", (*NEW, *MARIADB), MAX_AGE=600, MAX_CONNS=SIZE),
    persistconn("persistconn off", (*NEW, *MARIADB), MAX_AGE=0),
]

OLD_POOL = "dbpool.db.backends.postgresql_psycopg2"
ON_OLD = [
    *(
        Contender(
            name,
            (OLD,),
            settings={"DJORM_POOL_OPTIONS": {"pool_size": SIZE}, "DJORM_POOL_PESSIMISTIC": checks},
            apps=("djorm_pool",),
            requires=("djorm-ext-pool", "sqlalchemy<1.4"),
        )
        for name, checks in ((DJORM, False), (DJORM_PESSIMISTIC, True))
    ),
    *(
        Contender(
            name,
            (OLD,),
            {"ENGINE": OLD_POOL, "OPTIONS": {"MAX_CONNS": SIZE, "TEST_ON_BORROW": checks}},
            requires=("django-db-pool",),
        )
        for name, checks in ((DB_POOL, False), (DB_POOL_TEST, True))
    ),
    Contender("thread-local, SELECT 1", (OLD,), {"ENGINE": "measured.select_1"}),
    Contender(HAND_AUTOCOMMIT, (OLD,), AUTOCOMMIT, hand_patch=True),
    dataclasses.replace(
        persistconn(PERSISTCONN_AUTOCOMMIT, (OLD,), MAX_AGE=600), database=AUTOCOMMIT
    ),
]

ALL = EVERYWHERE + ON_NEW + ON_OLD


def server(environment):
    """The name of the server that an environment connects to."""
    return "MariaDB" if environment in MARIADB else "PostgreSQL"


def of(environment):
    return [contender for contender in ALL if environment in contender.environments]


def crowd(environment):
    """The contender that a thousand threads use."""
    row = persistconn(CROWD, (environment,), MAX_AGE=600, MAX_CONNS=8, TIMEOUT=120)
    return dataclasses.replace(row, database=CROWD_MARKS[server(environment)])


def bare_pool(environment, name, requirement):
    """The contender in whose process a pool is measured alone; it needs only an address."""
    return Contender(name, (environment,), requires=(requirement,) if requirement else ())


def stock(environment):
    return next(row for row in of(environment) if row.name == STOCK)

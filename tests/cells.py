"""The cells of a matrix: a Django by its version, and behind a "+" its driver, if not psycopg2."""

from __future__ import absolute_import

#: What pip installs for a driver, by its name in a cell.
_DRIVERS = {
    "psycopg3": "psycopg[binary,pool]",
    "mysqlclient": "mysqlclient",
    "pymysql": "PyMySQL",
}
_MARIADB = ("mysqlclient", "pymysql")


def version(cell):
    """(5, 2) for 5.2, 5.2.19 and 5.2+psycopg3."""
    return tuple(map(int, cell.partition("+")[0].split(".")[:2]))


def driver(cell):
    """What follows the plus sign, or "" for psycopg2."""
    return cell.partition("+")[2]


def database(cell):
    """The database that a cell is run on: "postgresql" or "mariadb"."""
    return "mariadb" if driver(cell) in _MARIADB else "postgresql"


def requirements(cell):
    """A cell's Django and its driver, for pip."""
    if driver(cell):
        wanted = _DRIVERS[driver(cell)]
    else:
        # Django before 3.1 compares time zones in a way that psycopg2 2.9 breaks.
        wanted = "psycopg2-binary<2.9" if version(cell) < (3, 1) else "psycopg2-binary"
    return ["Django==%d.%d.*" % version(cell), wanted]

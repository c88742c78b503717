"""A private, throw-away MariaDB."""

import os

from demo_project.private import NoServer, PrivateServer

USUAL = ["/usr/sbin", "/usr/local/sbin", "/usr/libexec", "/usr/bin"]


class NoMariaDB(NoServer):
    """No MariaDB is installed, or it does not start."""


class NoDriver(Exception):
    """Neither of Django's drivers is installed."""


def use_driver():
    """Let Django's backend find mysqlclient where it is installed, else PyMySQL in its place."""
    try:
        import MySQLdb  # noqa: F401
    except ImportError:
        try:
            import pymysql
        except ImportError:
            raise NoDriver('no driver for MariaDB: pip install "PyMySQL[rsa]"')
        # The version that Django 6.1 asks for.
        pymysql.version_info = (2, 2, 8, "final", 0)
        pymysql.install_as_MySQLdb()


class PrivateMariaDB(PrivateServer):
    """Settings given by name go onto the command line of mariadbd."""

    name, NoServer, scheme = "MariaDB", NoMariaDB, "mysql"
    user, database = "root", "demo"
    life = {
        # An empty folder is an empty database. Servers that share a folder for temporary files remove
        # those of others. Debian has the program beside other programs than an archive has.
        "make": 'mkdir -p "$folder/data/demo" &&'
        ' TMPDIR="$folder" PATH="$bin:$bin/../bin:$bin/../scripts:$PATH"'
        ' mariadb-install-db --no-defaults --datadir="$folder/data" --skip-test-db'
        " --auth-root-authentication-method=normal",
        "serve": '"$bin/mariadbd" --no-defaults --datadir="$folder/data" --port="$port" $settings',
        "is_ready": "grep -qs 'ready for connections' \"$folder/log\"",
        # Nothing of its data is wanted any more.
        "signal": "KILL",
        "complaints": "ERROR",
    }

    def __init__(self, **settings):
        # The server must not wait for disks.
        usual = {"innodb_flush_log_at_trx_commit": 0, "innodb_buffer_pool_size": "32M"}
        PrivateServer.__init__(self, **dict(dict(usual, max_connections=300), **settings))

    @property
    def options(self):
        # At each opening PyMySQL reads all certificates of the system, though this server has no TLS.
        import MySQLdb

        can_read = MySQLdb.__name__ == "pymysql" and MySQLdb.VERSION >= (1,)
        return {"ssl_disabled": True} if can_read else {}

    @property
    def parameters(self):
        return {"host": self.host, "port": self.port, "user": self.user}

    def find_binaries(self):
        chosen = os.environ.get("PERSISTCONN_MARIADB_BIN")
        folders = [chosen] if chosen else os.environ.get("PATH", "").split(os.pathsep) + USUAL
        for folder in folders:
            if os.access(os.path.join(folder, "mariadbd"), os.X_OK):
                return os.path.realpath(folder)
        raise NoMariaDB(
            "no MariaDB server: install Debian's mariadb-server, or set PERSISTCONN_MARIADB_BIN to"
            " the folder that holds mariadbd"
        )

    def configuration(self, folder):
        where = {
            "bind_address": self.host,
            "socket": os.path.join(folder, "socket"),
            "pid_file": os.path.join(folder, "pid"),
            "tmpdir": folder,
        }
        given = dict(where, **self._settings)
        return " ".join("--{}={}".format(name, given[name]) for name in sorted(given))

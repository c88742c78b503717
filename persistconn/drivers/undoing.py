"""SQL by which PostgreSQL undoes the state of a session, for the setting RESET."""

from collections import namedtuple

# Several statements without parameters make one round trip, in one implicit transaction, where
# DISCARD ALL is not allowed. Names are qualified, because the session may have functions of its own.
UNDO = (
    "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *;"
    " DISCARD TEMP; DISCARD SEQUENCES; %s; SELECT pg_catalog.pg_advisory_unlock_all(), %s"
)

# The parameters that somebody has set in this session, as calls that set them again. The role comes
# last, because it may lack the rights for the others. pg_settings shows neither roles nor parameters
# of the user's own, so that these must be named. Operators are qualified, too. The answer is in ASCII,
# because the server will read it in the encoding that the user has told it by then.
SET_AGAIN = """
SELECT pg_catalog.string_agg(
    CASE WHEN setting OPERATOR(pg_catalog.~) '[^ -~]' THEN
        pg_catalog.format(
            'pg_catalog.set_config(%%L, pg_catalog.convert_from(%%L, %%L), false)',
            name, pg_catalog.convert_to(setting, encoding), encoding
        )
    ELSE pg_catalog.format('pg_catalog.set_config(%%L, %%L, false)', name, setting) END,
    ', ' ORDER BY place
) AS calls
FROM pg_catalog.getdatabaseencoding() AS encoding, (
    SELECT 0 AS place, name, setting FROM pg_catalog.pg_settings
    WHERE source OPERATOR(pg_catalog.=) 'session'
    AND name OPERATOR(pg_catalog.!~) '^transaction_(isolation|read_only|deferrable)$'
    UNION ALL SELECT place, name, pg_catalog.current_setting(name, true)
    FROM pg_catalog.unnest(ARRAY[%s]) WITH ORDINALITY AS named (name, place)
) AS set_by_now
WHERE setting IS NOT NULL
"""
ROLES = ("session_authorization", "role")

#: An SQL statement that deallocates prepared statements, and its condition on the server.
Deallocating = namedtuple("Deallocating", "statement condition")

ALL = Deallocating("DEALLOCATE ALL", "")

#: Only those that were prepared by SQL: psycopg 3 goes on to use its own ones.
BY_SQL = Deallocating(
    "DO $$DECLARE statement text; BEGIN FOR statement IN"
    " SELECT name FROM pg_catalog.pg_prepared_statements WHERE from_sql"
    " LOOP EXECUTE pg_catalog.format('DEALLOCATE %I', statement); END LOOP; END$$",
    """
    AND EXISTS (
        SELECT 1 FROM pg_catalog.pg_language
        WHERE lanname OPERATOR(pg_catalog.=) 'plpgsql' AND pg_catalog.has_language_privilege(oid, 'USAGE')
    )
    """,
)


def question(names, deallocating):
    """Return SQL whose answer, ``calls``, sets again what is set now; NULL if it cannot be undone.

    ``names``: the parameters of the user's own that may be set now; letters, digits, _, $ and dots.
    """
    named = ", ".join("'%s'" % name for name in tuple(names) + ROLES)
    return SET_AGAIN % named + deallocating.condition


def statement(calls, deallocating):
    """Return SQL that undoes whatever a session has been told since that answer."""
    return UNDO % (deallocating.statement, calls)

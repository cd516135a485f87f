"""psycopg 3 against the server that PGHOST and PGPORT name: what an application does with it.

Prints one line a check and, last, how many passed; ends with 1 when one failed.
"""

import datetime
import decimal
import sys
import traceback
import uuid

import psycopg
from psycopg import errors
from psycopg.types.json import Jsonb

CHECKS = []


def check(function):
    """Registers a check; it gets a connection of its own in autocommit mode."""
    CHECKS.append(function)
    return function


def fails_with(expected, connection, statement, parameters=None):
    """The statement must fail with exactly this class of error."""
    try:
        connection.execute(statement, parameters)
    except expected:
        return
    raise AssertionError(f"{statement}: no {expected.__name__}")


@check
def connects_and_names_its_version(connection):
    assert connection.info.server_version >= 150000
    assert connection.info.encoding == "utf-8"
    assert connection.execute("SELECT 1").fetchone() == (1,)


@check
def parameters_of_many_types_return_unchanged(connection):
    moment = datetime.datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=datetime.timezone.utc)
    values = [
        ("int4", 7),
        ("int8", 2**40),
        ("int2", -3),
        ("float8", 1.5),
        ("numeric", decimal.Decimal("12345678901234567890.123456789")),
        ("text", "Zoë's \\ „quote“"),
        ("bool", True),
        ("bytea", b"\x00\xff\\"),
        ("date", datetime.date(1999, 12, 31)),
        ("time", datetime.time(23, 59, 58, 1)),
        ("timestamp", moment.replace(tzinfo=None)),
        ("timestamptz", moment),
        ("interval", datetime.timedelta(days=3, seconds=61)),
        ("uuid", uuid.UUID("0e37df36-f698-11e6-8dd4-cb9ced3df976")),
    ]
    for binary in (False, True):
        for name, value in values:
            cursor = connection.cursor(binary=binary)
            got = cursor.execute(f"SELECT %s::{name}", (value,)).fetchone()[0]
            assert got == value, f"{name}, binary={binary}: {got!r} is not {value!r}"
        cursor = connection.cursor(binary=binary)
        assert cursor.execute("SELECT %s::text IS NULL", (None,)).fetchone() == (True,)
        got = cursor.execute("SELECT %s::jsonb", (Jsonb({"a": [1, None]}),)).fetchone()[0]
        assert got == {"a": [1, None]}, got


@check
def binary_parameters_work_in_a_table(connection):
    connection.execute("CREATE TABLE py_b (id int PRIMARY KEY, v text, n numeric(10,2))")
    statement = "INSERT INTO py_b VALUES (%b, %b, %b)"
    connection.execute(statement, (1, "one", decimal.Decimal("1.25")))
    row = connection.execute("SELECT v, n FROM py_b WHERE id = %b", (1,)).fetchone()
    assert row == ("one", decimal.Decimal("1.25")), row


@check
def executemany_returns_every_row(connection):
    connection.execute("CREATE TABLE py_m (id int PRIMARY KEY, v text)")
    cursor = connection.cursor()
    rows = [(i, f"v{i}") for i in range(200)]
    cursor.executemany("INSERT INTO py_m VALUES (%s, %s) RETURNING id", rows, returning=True)
    ids = []
    while True:
        ids.extend(row[0] for row in cursor.fetchall())
        if not cursor.nextset():
            break
    assert ids == list(range(200)), ids[:5]
    assert connection.execute("SELECT count(*) FROM py_m").fetchone() == (200,)


@check
def a_pipeline_keeps_order_and_survives_an_error(connection):
    connection.execute("CREATE TABLE py_p (id int PRIMARY KEY)")
    with connection.pipeline():
        cursors = [connection.execute("SELECT %s::int", (i,)) for i in range(20)]
        assert [cursor.fetchone()[0] for cursor in cursors] == list(range(20))
    try:
        with connection.pipeline():
            connection.execute("INSERT INTO py_p VALUES (1)")
            connection.execute("INSERT INTO py_p VALUES (1)")
        raise AssertionError("a duplicate key went through")
    except errors.UniqueViolation:
        pass
    assert connection.execute("SELECT 1").fetchone() == (1,)


@check
def a_transaction_rolls_back_and_savepoints_nest(connection):
    connection.execute("CREATE TABLE py_t (id int)")
    try:
        with connection.transaction():
            connection.execute("INSERT INTO py_t VALUES (1)")
            raise RuntimeError("stop")
    except RuntimeError:
        pass
    assert connection.execute("SELECT count(*) FROM py_t").fetchone() == (0,)
    with connection.transaction():
        connection.execute("INSERT INTO py_t VALUES (2)")
        try:
            with connection.transaction():
                connection.execute("INSERT INTO py_t VALUES (3)")
                connection.execute("SELECT 1/0")
        except errors.DivisionByZero:
            pass
        connection.execute("INSERT INTO py_t VALUES (4)")
    ids = connection.execute("SELECT id FROM py_t ORDER BY id").fetchall()
    assert ids == [(2,), (4,)], ids


@check
def errors_carry_the_right_class(connection):
    connection.execute("CREATE TABLE py_e (id int PRIMARY KEY, v text NOT NULL)")
    connection.execute("INSERT INTO py_e VALUES (1, 'x')")
    fails_with(errors.UniqueViolation, connection, "INSERT INTO py_e VALUES (1, 'y')")
    fails_with(errors.NotNullViolation, connection, "INSERT INTO py_e VALUES (2, NULL)")
    fails_with(errors.UndefinedTable, connection, "SELECT * FROM py_nowhere")
    fails_with(errors.UndefinedColumn, connection, "SELECT nothing FROM py_e")
    fails_with(errors.SyntaxError, connection, "SELEC 1")
    fails_with(errors.DivisionByZero, connection, "SELECT 1/%s::int", (0,))
    fails_with(errors.NumericValueOutOfRange, connection, "SELECT %s::int4", (2**40,))
    fails_with(errors.InvalidTextRepresentation, connection, "SELECT %s::int", ("abc",))
    fails_with(errors.InvalidDatetimeFormat, connection, "SELECT 'tomorrowish'::date")
    with psycopg.connect() as other:
        try:
            other.execute("SELECT 1/0")
        except errors.DivisionByZero:
            pass
        fails_with(errors.InFailedSqlTransaction, other, "SELECT 1")
        other.rollback()


@check
def a_prepared_statement_is_executed_again(connection):
    connection.prepare_threshold = 1
    connection.execute("CREATE TABLE py_r (id int PRIMARY KEY, v int)")
    for i in range(20):
        connection.execute("INSERT INTO py_r VALUES (%s, %s)", (i, i * i))
    for i in range(20):
        row = connection.execute("SELECT v FROM py_r WHERE id = %s", (i,)).fetchone()
        assert row == (i * i,), row
    # The table changes under the prepared statement.
    connection.execute("ALTER TABLE py_r ADD COLUMN w int DEFAULT 5")
    assert connection.execute("SELECT w FROM py_r WHERE id = %s", (3,)).fetchone() == (5,)


@check
def a_large_result_streams(connection):
    cursor = connection.cursor()
    total = 0
    for (number,) in cursor.stream("SELECT g FROM generate_series(1, 50000) g"):
        total += number
    assert total == 50000 * 50001 // 2, total


@check
def copy_goes_both_ways(connection):
    connection.execute("CREATE TABLE py_c (id int PRIMARY KEY, v text, d date)")
    rows = [(i, None if i % 7 == 0 else f"tab\t{i}", datetime.date(2024, 1, 1)) for i in range(500)]
    with connection.cursor().copy("COPY py_c (id, v, d) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)
    with connection.cursor().copy("COPY py_c TO STDOUT") as copy:
        copy.set_types(["int4", "text", "date"])
        assert sorted(copy.rows()) == sorted(rows, key=lambda row: row[0])


def clean(connection):
    for letter in "bmptrec":
        connection.execute(f"DROP TABLE IF EXISTS py_{letter}")


def main():
    failed = 0
    for function in CHECKS:
        name = function.__name__.replace("_", " ")
        try:
            with psycopg.connect(autocommit=True) as connection:
                clean(connection)
                function(connection)
            print(f"  ok      {name}")
        except Exception as error:  # noqa: BLE001 - every kind of failure is a failed check
            failed += 1
            print(f"  FAILED  {name}: {type(error).__name__}: {error}")
            if "-v" in sys.argv:
                traceback.print_exc()
    print(f"psycopg {psycopg.__version__}: {len(CHECKS) - failed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())

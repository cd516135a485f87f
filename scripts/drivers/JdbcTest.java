// pgJDBC against the server that PGHOST and PGPORT name: what an application does with it.
//
// Prints one line a check and, last, how many passed; ends with 1 when one failed.
// Run: java -cp /usr/share/java/postgresql.jar JdbcTest.java

import java.math.BigDecimal;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.Date;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Timestamp;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.Arrays;
import java.util.Properties;
import java.util.UUID;

public class JdbcTest {
    interface Check {
        void run(Connection connection) throws Exception;
    }

    static int passed = 0;
    static int failed = 0;

    static Connection connect(String... settings) throws SQLException {
        String url = "jdbc:postgresql://" + env("PGHOST", "127.0.0.1") + ":" + env("PGPORT", "5432")
                + "/" + env("PGDATABASE", "postgres");
        Properties properties = new Properties();
        properties.setProperty("user", env("PGUSER", "postgres"));
        properties.setProperty("sslmode", "prefer");
        for (int i = 0; i + 1 < settings.length; i += 2) {
            properties.setProperty(settings[i], settings[i + 1]);
        }
        return DriverManager.getConnection(url, properties);
    }

    static String env(String name, String otherwise) {
        String value = System.getenv(name);
        return value == null ? otherwise : value;
    }

    static void check(String name, Check check, String... settings) {
        try (Connection connection = connect(settings)) {
            check.run(connection);
            passed++;
            System.out.println("  ok      " + name);
        } catch (Exception | AssertionError error) {
            failed++;
            System.out.println("  FAILED  " + name + ": " + error);
        }
    }

    static void same(Object expected, Object got) {
        if (!(expected == null ? got == null : expected.equals(got))) {
            throw new AssertionError("expected " + expected + ", got " + got);
        }
    }

    static void run(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute(sql);
        }
    }

    static long count(Connection connection, String table) throws SQLException {
        try (Statement statement = connection.createStatement();
                ResultSet rows = statement.executeQuery("SELECT count(*) FROM " + table)) {
            rows.next();
            return rows.getLong(1);
        }
    }

    static void failsWith(String state, Connection connection, String sql) {
        try {
            run(connection, sql);
        } catch (SQLException error) {
            same(state, error.getSQLState());
            return;
        }
        throw new AssertionError(sql + " did not fail");
    }

    static void types(Connection connection) throws Exception {
        run(connection, "DROP TABLE IF EXISTS jd_types");
        run(connection, "CREATE TABLE jd_types (i int, l bigint, s smallint, d float8, r real, n numeric(20,5), "
                + "t text, v varchar(10), b boolean, y bytea, da date, ts timestamp, tz timestamptz, u uuid)");
        UUID uuid = UUID.fromString("0e37df36-f698-11e6-8dd4-cb9ced3df976");
        LocalDateTime moment = LocalDateTime.of(2024, 2, 29, 12, 30, 15, 123456000);
        OffsetDateTime zoned = moment.atOffset(ZoneOffset.UTC);
        try (PreparedStatement insert = connection.prepareStatement(
                "INSERT INTO jd_types VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")) {
            for (int round = 0; round < 8; round++) {
                insert.setInt(1, round);
                insert.setLong(2, 1L << 40);
                insert.setShort(3, (short) -3);
                insert.setDouble(4, 1.5);
                insert.setFloat(5, 0.25f);
                insert.setBigDecimal(6, new BigDecimal("123456789012345.12345"));
                insert.setString(7, "Zoë's \\ quote");
                insert.setString(8, null);
                insert.setBoolean(9, true);
                insert.setBytes(10, new byte[] {0, -1, 92});
                insert.setObject(11, LocalDate.of(1999, 12, 31));
                insert.setObject(12, moment);
                insert.setObject(13, zoned);
                insert.setObject(14, uuid);
                same(1, insert.executeUpdate());
            }
        }
        try (PreparedStatement select = connection.prepareStatement("SELECT * FROM jd_types WHERE i = ?")) {
            // Beyond the prepare threshold the driver asks for binary results.
            for (int round = 0; round < 8; round++) {
                select.setInt(1, round);
                try (ResultSet row = select.executeQuery()) {
                    same(true, row.next());
                    same(round, row.getInt(1));
                    same(1L << 40, row.getLong(2));
                    same((short) -3, row.getShort(3));
                    same(1.5, row.getDouble(4));
                    same(0.25f, row.getFloat(5));
                    same(new BigDecimal("123456789012345.12345"), row.getBigDecimal(6));
                    same("Zoë's \\ quote", row.getString(7));
                    same(null, row.getString(8));
                    same(true, row.wasNull());
                    same(true, row.getBoolean(9));
                    same(true, Arrays.equals(new byte[] {0, -1, 92}, row.getBytes(10)));
                    same(Date.valueOf("1999-12-31"), row.getDate(11));
                    same(Timestamp.valueOf(moment), row.getTimestamp(12));
                    same(zoned, row.getObject(13, OffsetDateTime.class).withOffsetSameInstant(ZoneOffset.UTC));
                    same(uuid, row.getObject(14));
                    same(false, row.next());
                }
            }
        }
    }

    static void batch(Connection connection) throws Exception {
        run(connection, "DROP TABLE IF EXISTS jd_batch");
        run(connection, "CREATE TABLE jd_batch (id int PRIMARY KEY, v text)");
        try (PreparedStatement insert = connection.prepareStatement("INSERT INTO jd_batch VALUES (?, ?)")) {
            for (int i = 0; i < 500; i++) {
                insert.setInt(1, i);
                insert.setString(2, "v" + i);
                insert.addBatch();
            }
            same(500, insert.executeBatch().length);
        }
        same(500L, count(connection, "jd_batch"));
        try (Statement statement = connection.createStatement()) {
            statement.addBatch("INSERT INTO jd_batch VALUES (1000, 'a')");
            statement.addBatch("INSERT INTO jd_batch VALUES (1, 'duplicate')");
            statement.executeBatch();
            throw new AssertionError("the duplicate went through");
        } catch (BatchUpdateException error) {
            same("23505", error.getSQLState());
        }
    }

    static void transaction(Connection connection) throws Exception {
        run(connection, "DROP TABLE IF EXISTS jd_tx");
        run(connection, "CREATE TABLE jd_tx (id int)");
        connection.setAutoCommit(false);
        run(connection, "INSERT INTO jd_tx VALUES (1)");
        connection.rollback();
        run(connection, "INSERT INTO jd_tx VALUES (2)");
        Savepoint savepoint = connection.setSavepoint("here");
        failsWith("22012", connection, "SELECT 1/0");
        failsWith("25P02", connection, "SELECT 1");
        connection.rollback(savepoint);
        run(connection, "INSERT INTO jd_tx VALUES (3)");
        connection.commit();
        connection.setAutoCommit(true);
        same(2L, count(connection, "jd_tx"));
    }

    static void states(Connection connection) throws Exception {
        run(connection, "DROP TABLE IF EXISTS jd_err");
        run(connection, "CREATE TABLE jd_err (id int PRIMARY KEY, v text NOT NULL, CHECK (id > 0))");
        run(connection, "INSERT INTO jd_err VALUES (1, 'x')");
        failsWith("23505", connection, "INSERT INTO jd_err VALUES (1, 'y')");
        failsWith("23502", connection, "INSERT INTO jd_err VALUES (2, NULL)");
        failsWith("23514", connection, "INSERT INTO jd_err VALUES (-2, 'z')");
        failsWith("42P01", connection, "SELECT * FROM jd_nowhere");
        failsWith("42703", connection, "SELECT nothing FROM jd_err");
        failsWith("42601", connection, "SELEC 1");
        failsWith("22003", connection, "SELECT 2147483647 + 1");
        failsWith("22P02", connection, "SELECT 'abc'::int");
    }

    static void prepared(Connection connection) throws Exception {
        run(connection, "DROP TABLE IF EXISTS jd_prep");
        run(connection, "CREATE TABLE jd_prep (id int PRIMARY KEY, v int)");
        try (PreparedStatement insert = connection.prepareStatement("INSERT INTO jd_prep VALUES (?, ?)");
                PreparedStatement select = connection.prepareStatement("SELECT v FROM jd_prep WHERE id = ?");
                PreparedStatement update = connection.prepareStatement("UPDATE jd_prep SET v = v + ? WHERE id = ?")) {
            for (int i = 0; i < 20; i++) {
                insert.setInt(1, i);
                insert.setInt(2, i * i);
                insert.executeUpdate();
                update.setInt(1, 1);
                update.setInt(2, i);
                same(1, update.executeUpdate());
                select.setInt(1, i);
                try (ResultSet row = select.executeQuery()) {
                    row.next();
                    same(i * i + 1, row.getInt(1));
                }
            }
        }
    }

    static void generatedKeys(Connection connection) throws Exception {
        run(connection, "DROP TABLE IF EXISTS jd_keys");
        run(connection, "CREATE TABLE jd_keys (id serial PRIMARY KEY, v text)");
        try (PreparedStatement insert = connection.prepareStatement(
                "INSERT INTO jd_keys (v) VALUES (?)", Statement.RETURN_GENERATED_KEYS)) {
            for (int i = 1; i <= 3; i++) {
                insert.setString(1, "v");
                insert.executeUpdate();
                try (ResultSet keys = insert.getGeneratedKeys()) {
                    keys.next();
                    same(i, keys.getInt("id"));
                }
            }
        }
    }

    static void fetchSize(Connection connection) throws Exception {
        connection.setAutoCommit(false);
        try (PreparedStatement select = connection.prepareStatement("SELECT g FROM generate_series(1, ?) g")) {
            select.setFetchSize(100);
            select.setInt(1, 20000);
            long sum = 0;
            try (ResultSet rows = select.executeQuery()) {
                while (rows.next()) {
                    sum += rows.getInt(1);
                }
            }
            same(20000L * 20001 / 2, sum);
        }
        connection.commit();
    }

    public static void main(String[] arguments) {
        check("parameters of many types, text and binary", JdbcTest::types);
        check("batches, and an error in one", JdbcTest::batch);
        check("batches rewritten to many rows", JdbcTest::batch, "reWriteBatchedInserts", "true");
        check("transaction, savepoint, rollback", JdbcTest::transaction);
        check("SQLSTATE of errors", JdbcTest::states);
        check("prepared statements, server side from the first use", JdbcTest::prepared, "prepareThreshold", "1");
        check("prepared statements, never server side", JdbcTest::prepared, "prepareThreshold", "0");
        check("simple query mode", JdbcTest::prepared, "preferQueryMode", "simple");
        check("generated keys", JdbcTest::generatedKeys);
        check("a large result by fetch size", JdbcTest::fetchSize);
        System.out.println("pgJDBC: " + passed + " passed, " + failed + " failed");
        System.exit(failed == 0 ? 0 : 1);
    }
}

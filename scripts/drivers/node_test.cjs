// node-postgres against the server that PGHOST and PGPORT name: what an application does with it.
//
// Prints one line a check and, last, how many passed; ends with 1 when one failed.
// Run with NODE_PATH at the folder that holds the modules pg and pg-cursor.
'use strict';

const assert = require('node:assert');
const { Client, Pool } = require('pg');
const Cursor = require('pg-cursor');

const checks = {
  async 'connects and selects'(client) {
    const { rows, fields } = await client.query('SELECT 1 AS one, $1::text AS two', ['x']);
    assert.deepStrictEqual(rows, [{ one: 1, two: 'x' }]);
    assert.deepStrictEqual(fields.map((field) => field.dataTypeID), [23, 25]);
  },

  async 'parameters of many types'(client) {
    const moment = new Date(Date.UTC(2024, 1, 29, 12, 30, 15, 123));
    const { rows } = await client.query(
      `SELECT $1::int4 AS i, $2::int8 AS l, $3::float8 AS d, $4::numeric AS n, $5::bool AS b,
              $6::text AS t, $7::timestamptz AS z, $8::jsonb AS j, $9::bytea AS y, $10::uuid AS u,
              $11::text AS nothing`,
      [7, '1099511627776', 1.5, '12345678901234567890.5', true, "Zoë's \\", moment, { a: [1, null] },
        Buffer.from([0, 255]), '0e37df36-f698-11e6-8dd4-cb9ced3df976', null]);
    const row = rows[0];
    assert.strictEqual(row.i, 7);
    assert.strictEqual(row.l, '1099511627776');
    assert.strictEqual(row.d, 1.5);
    assert.strictEqual(row.n, '12345678901234567890.5');
    assert.strictEqual(row.b, true);
    assert.strictEqual(row.t, "Zoë's \\");
    assert.strictEqual(row.z.getTime(), moment.getTime());
    assert.deepStrictEqual(row.j, { a: [1, null] });
    assert.ok(row.y.equals(Buffer.from([0, 255])));
    assert.strictEqual(row.u, '0e37df36-f698-11e6-8dd4-cb9ced3df976');
    assert.strictEqual(row.nothing, null);
  },

  async 'binary results'(client) {
    await client.query('CREATE TABLE nd_bin (id int4 PRIMARY KEY, v text, b bool)');
    await client.query('INSERT INTO nd_bin VALUES ($1, $2, $3)', [1, 'one', true]);
    const { rows } = await client.query({ text: 'SELECT id, v, b FROM nd_bin WHERE id = $1', values: [1], binary: true });
    assert.deepStrictEqual(rows, [{ id: 1, v: 'one', b: true }]);
  },

  async 'a batch of many rows and several statements in one string'(client) {
    await client.query('CREATE TABLE nd_batch (id int PRIMARY KEY, v text)');
    const places = [];
    const values = [];
    for (let i = 0; i < 200; i += 1) {
      places.push(`($${2 * i + 1}, $${2 * i + 2})`);
      values.push(i, `v${i}`);
    }
    const inserted = await client.query(`INSERT INTO nd_batch VALUES ${places.join(', ')} RETURNING id`, values);
    assert.strictEqual(inserted.rowCount, 200);
    assert.strictEqual(inserted.rows[199].id, 199);
    const results = await client.query('SELECT count(*) FROM nd_batch; DELETE FROM nd_batch WHERE id < 50; SELECT 2 AS x');
    assert.strictEqual(results[0].rows[0].count, '200');
    assert.strictEqual(results[1].rowCount, 50);
    assert.deepStrictEqual(results[2].rows, [{ x: 2 }]);
  },

  async 'a transaction rolls back'(client) {
    await client.query('CREATE TABLE nd_tx (id int)');
    await client.query('BEGIN');
    await client.query('INSERT INTO nd_tx VALUES (1)');
    await client.query('ROLLBACK');
    await client.query('BEGIN');
    await client.query('INSERT INTO nd_tx VALUES (2)');
    await client.query('SAVEPOINT here');
    await fails(client, '22012', 'SELECT 1/0');
    await fails(client, '25P02', 'SELECT 1');
    await client.query('ROLLBACK TO SAVEPOINT here');
    await client.query('COMMIT');
    const { rows } = await client.query('SELECT id FROM nd_tx');
    assert.deepStrictEqual(rows, [{ id: 2 }]);
  },

  async 'errors carry code, constraint and position'(client) {
    await client.query('CREATE TABLE nd_err (id int PRIMARY KEY, v text NOT NULL)');
    await client.query("INSERT INTO nd_err VALUES (1, 'x')");
    const duplicate = await fails(client, '23505', "INSERT INTO nd_err VALUES ($1, 'y')", [1]);
    assert.strictEqual(duplicate.constraint, 'nd_err_pkey');
    assert.strictEqual(duplicate.table, 'nd_err');
    await fails(client, '23502', 'INSERT INTO nd_err VALUES (2, NULL)');
    await fails(client, '42P01', 'SELECT * FROM nd_nowhere');
    const syntax = await fails(client, '42601', 'SELECT 1 FROM WHERE');
    assert.strictEqual(syntax.position, '15');
    await fails(client, '22P02', 'SELECT $1::int', ['abc']);
    await fails(client, '08P01', 'SELECT $1::int', [1, 2]);
  },

  async 'a named statement is executed again'(client) {
    await client.query('CREATE TABLE nd_prep (id int PRIMARY KEY, v int)');
    for (let i = 0; i < 20; i += 1) {
      await client.query({ name: 'ins', text: 'INSERT INTO nd_prep VALUES ($1, $2)', values: [i, i * i] });
    }
    for (let i = 0; i < 20; i += 1) {
      const { rows } = await client.query({ name: 'sel', text: 'SELECT v FROM nd_prep WHERE id = $1', values: [i] });
      assert.deepStrictEqual(rows, [{ v: i * i }]);
    }
  },

  async 'a cursor reads a large result in parts'(client) {
    await client.query('BEGIN');
    const cursor = client.query(new Cursor('SELECT g FROM generate_series(1, $1::int) g', [10000]));
    let sum = 0;
    for (;;) {
      const rows = await cursor.read(300);
      if (rows.length === 0) break;
      for (const row of rows) sum += row.g;
    }
    await cursor.close();
    await client.query('COMMIT');
    assert.strictEqual(sum, 10000 * 10001 / 2);
  },

  async 'a pool serves many at once'() {
    const pool = new Pool({ max: 8 });
    const answers = await Promise.all(Array.from({ length: 100 }, (_, i) => pool.query('SELECT $1::int AS i', [i])));
    assert.deepStrictEqual(answers.map((answer) => answer.rows[0].i), Array.from({ length: 100 }, (_, i) => i));
    await pool.end();
  },
};

async function fails(client, code, text, values) {
  try {
    await client.query(text, values);
  } catch (error) {
    assert.strictEqual(error.code, code, `${text}: ${error.code} ${error.message}`);
    return error;
  }
  throw new Error(`${text} did not fail`);
}

async function main() {
  let failed = 0;
  for (const [name, check] of Object.entries(checks)) {
    const client = new Client();
    try {
      await client.connect();
      for (const table of ['bin', 'batch', 'tx', 'err', 'prep']) {
        await client.query(`DROP TABLE IF EXISTS nd_${table}`);
      }
      await check(client);
      console.log(`  ok      ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`  FAILED  ${name}: ${error.message.split('\n').join(' ')}`);
    } finally {
      await client.end().catch(() => {});
    }
  }
  console.log(`node-postgres: ${Object.keys(checks).length - failed} passed, ${failed} failed`);
  process.exit(failed === 0 ? 0 : 1);
}

main();

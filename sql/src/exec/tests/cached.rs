//! The column cache under writes: what is read through it is what the transaction sees.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type};
use pontoon_kv::Span;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::exec::ColumnCache;
use crate::exec::context::{ExecContext, Runtime};
use crate::exec::reader::RowReader;
use crate::exec::vector::columns::{ColumnReader, Columns};
use crate::plan::access::Keys;
use crate::plan::node::{Access, TableScan};
use crate::table::key;
use crate::types::Datum;
use crate::types::testing::Fixed;

use super::setup::*;

const KEYS: i32 = 120;

fn row_of(a: i32, c: i64) -> Vec<Datum> {
    let d = crate::types::io::input("1.5", NUMERIC, &Fixed::UTC).expect("numeric");
    vec![Datum::Int4(a), Datum::text("b"), Datum::Int8(c), d]
}

struct Bench {
    db: Database,
    scan: TableScan,
    rng: SmallRng,
    next: i64,
}

impl Bench {
    fn new(seed: u64) -> Self {
        let mut db = Database::new();
        let cache = ColumnCache::with_chunks(1 << 20, 8, 1);
        db.runtime = Arc::new(Runtime::new(1, 64 << 20, cache).expect("runtime"));
        let scan = TableScan {
            table: table(),
            positions: vec![2, 0],
            access: Access::Full,
            filter: Vec::new(),
            reverse: false,
        };
        Self {
            db,
            scan,
            rng: SmallRng::seed_from_u64(seed),
            next: 0,
        }
    }

    fn write(&mut self, cx: &ExecContext) {
        for _ in 0..self.rng.random_range(1..6) {
            let a = self.rng.random_range(0..KEYS);
            self.next += 1;
            let row = row_of(a, self.next);
            let key = key::row_key(&self.scan.table, &row).expect("key");
            if self.rng.random_bool(0.3) {
                cx.txn.delete(key).expect("delete");
            } else {
                let layout = cx.layout(&self.scan.table).expect("layout");
                let value = layout.encode(&row).expect("row");
                cx.txn.put(key, value.into()).expect("put");
            }
        }
    }

    fn span(&mut self) -> Span {
        let whole = key::index_span(self.scan.table.storage, key::PRIMARY);
        let mut bound = |end: pontoon_kv::Key| {
            if self.rng.random_bool(0.5) {
                return end;
            }
            let row = row_of(self.rng.random_range(0..KEYS), 0);
            key::row_key(&self.scan.table, &row).expect("key")
        };
        Span {
            start: bound(whole.start),
            end: bound(whole.end),
        }
    }

    /// `a` and `c` of the rows with these keys, through the cache.
    async fn read(&self, cx: &ExecContext, keys: Keys) -> Vec<(i32, i64)> {
        let layout = cx.layout(&self.scan.table).expect("layout");
        let mut reader = ColumnReader::new(cx, &self.scan, layout, keys, None);
        let mut found = Vec::new();
        while let Some(Columns { arrays, rows }) = reader.next().await.expect("columns") {
            let (c, a) = (
                arrays[0].as_primitive::<Int64Type>(),
                arrays[1].as_primitive::<Int32Type>(),
            );
            assert_eq!((a.len(), c.len()), (rows, rows));
            found.extend((0..rows).map(|i| (a.value(i), c.value(i))));
        }
        found
    }

    async fn read_all(&self, cx: &ExecContext) -> Vec<(i32, i64)> {
        let span = key::index_span(self.scan.table.storage, key::PRIMARY);
        self.read(cx, Keys::Spans(vec![span])).await
    }

    /// Reads a span through the cache and past it.
    async fn check(&mut self, cx: &ExecContext) {
        let span = self.span();
        let layout = cx.layout(&self.scan.table).expect("layout");
        let spans = || Keys::Spans(vec![span.clone()]);
        let found = self.read(cx, spans()).await;
        let storage = self.scan.table.storage;
        let options = pontoon_kv::ScanOptions::default();
        let mut reader = RowReader::new(cx.txn.clone(), storage, spans(), false, options);
        let mut expected = Vec::new();
        while let Some(block) = reader.next().await.expect("block") {
            for i in 0..block.len() {
                let row = layout.datums(block.value(i)).expect("row");
                expected.push((
                    i32::try_from(row[0].as_i64().expect("a")).expect("a"),
                    row[2].as_i64().expect("c"),
                ));
            }
        }
        assert_eq!(found, expected, "{span:?}");
    }
}

#[tokio::test]
async fn what_is_read_is_what_the_transaction_sees() {
    for seed in 0..12 {
        let mut bench = Bench::new(seed);
        // Transactions that stay open for a while: some read at an old timestamp, some have
        // writes of their own.
        let mut open: Vec<ExecContext> = Vec::new();
        for _ in 0..400 {
            match bench.rng.random_range(0..10) {
                0..3 => {
                    let cx = bench.db.context(Vec::new()).await;
                    bench.write(&cx);
                    cx.txn.commit().await.expect("commit");
                }
                3 if open.len() < 4 => open.push(bench.db.context(Vec::new()).await),
                4 if !open.is_empty() => {
                    let n = bench.rng.random_range(0..open.len());
                    bench.write(&open[n].clone());
                }
                5 if !open.is_empty() => {
                    let n = bench.rng.random_range(0..open.len());
                    let _ = open.swap_remove(n).txn.commit().await;
                }
                6..8 if !open.is_empty() => {
                    let n = bench.rng.random_range(0..open.len());
                    bench.check(&open[n].clone()).await;
                }
                _ => {
                    let cx = bench.db.context(Vec::new()).await;
                    bench.check(&cx).await;
                }
            }
        }
        assert!(bench.db.runtime.columns().memory() > 0, "nothing was kept");
    }
}

/// A read through the cache is validated as any other is.
#[tokio::test]
async fn a_read_of_kept_columns_is_validated() {
    let mut bench = Bench::new(1);
    let cx = bench.db.context(Vec::new()).await;
    for _ in 0..30 {
        bench.write(&cx);
    }
    cx.txn.commit().await.expect("commit");
    let fill = bench.db.context(Vec::new()).await;
    bench.read_all(&fill).await;
    assert!(bench.db.runtime.columns().memory() > 0);

    let reader = bench.db.context(Vec::new()).await;
    bench.read_all(&reader).await;
    let writer = bench.db.context(Vec::new()).await;
    bench.write(&writer);
    writer.txn.commit().await.expect("commit");
    // Writes somewhere else, having read all that the other has changed.
    let elsewhere = pontoon_kv::Key::from(key::prefix(16_999, key::PRIMARY));
    reader.txn.put(elsewhere, "x".into()).expect("put");
    let refused = reader.txn.commit().await;
    assert!(
        matches!(refused, Err(pontoon_kv::Error::Conflict { .. })),
        "{refused:?}"
    );
}

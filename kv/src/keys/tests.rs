//! Order and round trip of every encoding, on random values and on those at the edges.

use std::cmp::Ordering;

use proptest::prelude::*;

use super::*;

/// PostgreSQL's order of floats.
fn pg_order(a: f64, b: f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        _ => a.partial_cmp(&b).unwrap(),
    }
}

fn encoded<T: ?Sized>(value: &T, desc: bool, encode: impl Fn(&mut Vec<u8>, &T, bool)) -> Vec<u8> {
    let mut to = vec![7];
    encode(&mut to, value, desc);
    to
}

fn check_order<T: ?Sized>(
    a: &T,
    b: &T,
    expected: Ordering,
    encode: impl Fn(&mut Vec<u8>, &T, bool),
) {
    let up = encoded(a, false, &encode).cmp(&encoded(b, false, &encode));
    let down = encoded(a, true, &encode).cmp(&encoded(b, true, &encode));
    assert_eq!(up, expected);
    assert_eq!(down, expected.reverse());
}

fn edgy_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(
        prop_oneof![Just(0u8), Just(1), Just(0xfe), Just(0xff), any::<u8>()],
        0..9,
    )
}

proptest! {
    #[test]
    fn integers(a: (i16, i32, i64), b: (i16, i32, i64), desc: bool) {
        check_order(&a.0, &b.0, a.0.cmp(&b.0), |t, v, d| encode_i16(t, *v, d));
        check_order(&a.1, &b.1, a.1.cmp(&b.1), |t, v, d| encode_i32(t, *v, d));
        check_order(&a.2, &b.2, a.2.cmp(&b.2), |t, v, d| encode_i64(t, *v, d));
        let mut key = Vec::new();
        encode_i16(&mut key, a.0, desc);
        encode_i32(&mut key, a.1, desc);
        encode_i64(&mut key, a.2, desc);
        let mut from = &key[..];
        prop_assert_eq!(decode_i16(&mut from, desc), Ok(a.0));
        prop_assert_eq!(decode_i32(&mut from, desc), Ok(a.1));
        prop_assert_eq!(decode_i64(&mut from, desc), Ok(a.2));
        prop_assert!(from.is_empty());
    }

    #[test]
    fn floats(a in any::<f64>(), b in any::<f64>(), desc: bool) {
        check_order(&a, &b, pg_order(a, b), |t, v, d| encode_f64(t, *v, d));
        #[expect(clippy::cast_possible_truncation, reason = "any float will do")]
        let (c, e) = (a as f32, b as f32);
        check_order(&c, &e, pg_order(c.into(), e.into()), |t, v, d| encode_f32(t, *v, d));
        let mut key = Vec::new();
        encode_f64(&mut key, a, desc);
        encode_f32(&mut key, c, desc);
        let mut from = &key[..];
        prop_assert_eq!(pg_order(decode_f64(&mut from, desc).unwrap(), a), Ordering::Equal);
        prop_assert_eq!(pg_order(decode_f32(&mut from, desc).unwrap().into(), c.into()), Ordering::Equal);
        prop_assert!(from.is_empty());
    }

    #[test]
    fn strings(a in edgy_bytes(), b in edgy_bytes(), desc: bool) {
        check_order(&a[..], &b[..], a.cmp(&b), encode_bytes);
        let mut key = Vec::new();
        encode_bytes(&mut key, &a, desc);
        encode_bytes(&mut key, &b, desc);
        let (mut from, mut out) = (&key[..], Vec::new());
        prop_assert_eq!(decode_bytes(&mut from, desc, &mut out), Ok(()));
        prop_assert_eq!(&out, &a);
        prop_assert_eq!(skip_bytes(&mut from, desc), Ok(()));
        prop_assert!(from.is_empty());
    }

    #[test]
    fn tuples_sort_column_by_column(
        a in (edgy_bytes(), any::<Option<i32>>(), edgy_bytes()),
        b in (edgy_bytes(), any::<Option<i32>>(), edgy_bytes()),
    ) {
        let key = |(x, y, z): &(Vec<u8>, Option<i32>, Vec<u8>)| {
            let mut to = table_prefix(5, 1);
            encode_bytes(&mut to, x, false);
            match y {
                None => encode_null(&mut to, true),
                Some(y) => {
                    encode_not_null(&mut to);
                    encode_i32(&mut to, *y, true);
                }
            }
            encode_bytes(&mut to, z, false);
            to
        };
        // Descending with NULLs first, as PostgreSQL's default for DESC.
        let down = |y: &Option<i32>| y.map_or((0, 0), |y| (1, -i64::from(y)));
        let expected = (&a.0, down(&a.1), &a.2).cmp(&(&b.0, down(&b.1), &b.2));
        prop_assert_eq!(key(&a).cmp(&key(&b)), expected);
    }

    #[test]
    fn decoders_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..24), desc: bool) {
        let _ = decode_bool(&mut &bytes[..], desc);
        let _ = decode_f64(&mut &bytes[..], desc);
        let _ = decode_fixed16(&mut &bytes[..], desc);
        let _ = decode_is_null(&mut &bytes[..]);
        let _ = decode_str(&mut &bytes[..], desc);
        let _ = decode_table_prefix(&mut &bytes[..]);
    }
}

#[test]
fn floats_at_the_edges() {
    let sorted = [
        f64::NEG_INFINITY,
        f64::MIN,
        -1.0,
        -f64::MIN_POSITIVE,
        -5e-324,
        -0.0,
        5e-324,
        1.0,
        f64::MAX,
        f64::INFINITY,
        f64::NAN,
    ];
    for a in sorted {
        for b in sorted {
            check_order(&a, &b, pg_order(a, b), |t, v, d| encode_f64(t, *v, d));
        }
    }
    check_order(&0.0, &-0.0, Ordering::Equal, |t, v, d| encode_f64(t, *v, d));
    check_order(&f64::NAN, &-f64::NAN, Ordering::Equal, |t, v, d| {
        encode_f64(t, *v, d)
    });
}

#[test]
fn booleans_and_fixed() {
    check_order(&false, &true, Ordering::Less, |t, v, d| {
        encode_bool(t, *v, d)
    });
    let mut key = Vec::new();
    encode_fixed16(&mut key, &[0xab; 16], true);
    encode_bool(&mut key, true, true);
    let mut from = &key[..];
    assert_eq!(decode_fixed16(&mut from, true), Ok([0xab; 16]));
    assert_eq!(decode_bool(&mut from, true), Ok(true));
}

#[test]
fn nulls_first_and_last() {
    let value = {
        let mut to = Vec::new();
        encode_not_null(&mut to);
        encode_i64(&mut to, i64::MAX, false);
        to
    };
    let null = |first| {
        let mut to = Vec::new();
        encode_null(&mut to, first);
        to
    };
    assert!(null(true) < value && value < null(false));
    assert_eq!(decode_is_null(&mut &null(true)[..]), Ok(true));
    assert_eq!(decode_is_null(&mut &null(false)[..]), Ok(true));
    assert_eq!(decode_is_null(&mut &value[..]), Ok(false));
}

#[test]
fn the_space_is_cut_where_it_says() {
    assert!(system_span().contains(&address_key(&table_prefix(u32::MAX, 0))));
    assert!(address_span().contains(&address_key(b"")));
    assert!(node_span().contains(&node_key(u64::MAX)));
    assert!(system_span().contains(&next_range_key()));
    assert!(system_span().contains(&setting_key("x")));
    for key in [
        catalog_prefix(),
        jobs_prefix(),
        sql_state_prefix(),
        table_prefix(u32::MAX, 0),
    ] {
        assert!(user_span().contains(&key) && !system_span().contains(&key));
    }
    assert!(index_span(7, 1).contains(&table_prefix(7, 1)));
    assert!(!index_span(7, 1).contains(&table_prefix(7, 2)));
    assert!(table_span(7).contains(&table_prefix(7, u32::MAX)));
    assert!(!table_span(7).contains(&table_prefix(8, 0)));
    assert_eq!(table_prefix(1, 2).len(), INDEX_PREFIX_LEN);
    assert_eq!(
        decode_table_prefix(&mut &table_prefix(9, 3)[..]),
        Ok((9, 3))
    );
}

//! Numbers of types, as every PostgreSQL driver knows them.

use serde::{Deserialize, Serialize};

/// The number of a catalog object.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Oid(pub u32);

/// A type with its modifier (length of varchar, precision and scale of numeric, ...).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct PgType {
    /// Row of pg_type.
    pub oid: Oid,
    /// PostgreSQL's encoding of the modifier (length + 4 and so on); -1 for none.
    pub typmod: i32,
}

impl PgType {
    /// The type without a modifier.
    pub const fn new(oid: Oid) -> Self {
        Self { oid, typmod: -1 }
    }
    /// The type with a modifier.
    pub const fn with_typmod(oid: Oid, typmod: i32) -> Self {
        Self { oid, typmod }
    }
}

macro_rules! oids {
    ($($name:ident = $n:literal;)*) => {
        impl Oid { $(#[doc = concat!("pg_type row ", stringify!($n))] pub const $name: Self = Self($n);)* }
    };
}

oids! {
    INVALID = 0;
    BOOL = 16; BYTEA = 17; CHAR = 18; NAME = 19; INT8 = 20; INT2 = 21; INT2VECTOR = 22; INT4 = 23;
    REGPROC = 24; TEXT = 25; OID = 26; TID = 27; XID = 28; CID = 29; OIDVECTOR = 30;
    JSON = 114; XML = 142; PG_NODE_TREE = 194; POINT = 600;
    FLOAT4 = 700; FLOAT8 = 701; UNKNOWN = 705; MONEY = 790;
    INET = 869; ACLITEM = 1033; BPCHAR = 1042; VARCHAR = 1043; DATE = 1082; TIME = 1083;
    TIMESTAMP = 1114; TIMESTAMPTZ = 1184; INTERVAL = 1186; TIMETZ = 1266; BIT = 1560; VARBIT = 1562;
    NUMERIC = 1700; REGOPER_ARRAY = 2208; TIMETZ_ARRAY = 1270; INT2VECTOR_ARRAY = 1006; OIDVECTOR_ARRAY = 1013; REGPROCEDURE = 2202; REGOPER = 2203; REGOPERATOR = 2204; REGCLASS = 2205;
    REGTYPE = 2206; REGROLE = 4096; REGNAMESPACE = 4089;
    RECORD = 2249; CSTRING = 2275; ANY = 2276; ANYARRAY = 2277; VOID = 2278; TRIGGER = 2279;
    INTERNAL = 2281; ANYELEMENT = 2283; ANYNONARRAY = 2776; ANYENUM = 3500; ANYCOMPATIBLE = 5077;
    ANYCOMPATIBLEARRAY = 5078; ANYCOMPATIBLENONARRAY = 5079;
    UUID = 2950; JSONB = 3802; PG_LSN = 3220;
    BOOL_ARRAY = 1000; BYTEA_ARRAY = 1001; CHAR_ARRAY = 1002; NAME_ARRAY = 1003; INT2_ARRAY = 1005;
    INT4_ARRAY = 1007; TEXT_ARRAY = 1009; BPCHAR_ARRAY = 1014; VARCHAR_ARRAY = 1015;
    INT8_ARRAY = 1016; FLOAT4_ARRAY = 1021; FLOAT8_ARRAY = 1022; OID_ARRAY = 1028;
    ACLITEM_ARRAY = 1034; TIMESTAMP_ARRAY = 1115; DATE_ARRAY = 1182; TIME_ARRAY = 1183;
    TIMESTAMPTZ_ARRAY = 1185; INTERVAL_ARRAY = 1187; NUMERIC_ARRAY = 1231; JSON_ARRAY = 199;
    JSONB_ARRAY = 3807; UUID_ARRAY = 2951; RECORD_ARRAY = 2287; REGCLASS_ARRAY = 2210;
    REGTYPE_ARRAY = 2211; REGPROC_ARRAY = 1008;
}

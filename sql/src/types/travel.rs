//! How values and functions travel between nodes: values in the form that they have in Arrow columns,
//! functions as their numbers.

use bytes::Bytes;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::array::ArrayValue;
use super::datum::Interval;
use super::numeric::Numeric;

macro_rules! as_bytes {
    ($ty:ty) => {
        impl Serialize for $ty {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_bytes(&self.to_bytes())
            }
        }

        impl<'de> Deserialize<'de> for $ty {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let bytes = Bytes::deserialize(from)?;
                Self::from_bytes(&bytes).ok_or_else(|| D::Error::custom("malformed value"))
            }
        }
    };
}

as_bytes!(ArrayValue);
as_bytes!(Interval);
as_bytes!(Numeric);

/// A function of the registry, by its number.
pub mod function {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::types::Oid;
    use crate::types::registry::{Function, registry};

    /// Writes the number.
    pub fn serialize<S: Serializer>(
        function: &&'static Function,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        function.oid.serialize(to)
    }

    /// Finds the function of a number.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<&'static Function, D::Error> {
        let oid = Oid::deserialize(from)?;
        let found = registry().function(oid);
        found.ok_or_else(|| D::Error::custom(format!("there is no function {}", oid.0)))
    }
}

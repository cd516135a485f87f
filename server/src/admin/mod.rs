//! What operators see: health, metrics and a page about the node, over plain HTTP.

pub(crate) mod cluster;
pub(crate) mod http;
pub(crate) mod metrics;
pub(crate) mod ranges;

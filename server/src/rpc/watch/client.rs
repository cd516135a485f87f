//! The asking side, for the command line.

use std::time::Duration;

use pontoon_raft::NodeId;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Status, Streaming};

use super::message::{MessageCodec, Request, Response};
use super::service::PATH;
use crate::certs::Credentials;
use crate::rpc::link::chain;
use crate::rpc::socket;

/// A node that accepts a connection must accept the watch by then.
const ACCEPT_TIME_MAX: Duration = Duration::from_secs(3);
/// No response is longer.
const RESPONSE_BYTES_MAX: usize = 256 << 20;

/// Begins a watch at a node, by its address.
///
/// # Errors
/// [`tonic::Code::Unavailable`] when it cannot be reached; another code when it refuses.
pub(crate) async fn watch(
    address: &str,
    credentials: &Credentials,
    request: Request,
) -> Result<Streaming<Response>, Status> {
    let connected = socket::connect(address, NodeId(0), credentials).await;
    let channel = connected.map_err(Status::unavailable)?;
    let mut client = Grpc::new(channel).max_decoding_message_size(RESPONSE_BYTES_MAX);
    let opening = async {
        let ready = client.ready().await;
        ready.map_err(|error| Status::unavailable(chain(&error)))?;
        let codec = MessageCodec::<Request, Response>::new();
        let path = PathAndQuery::from_static(PATH);
        client
            .server_streaming(tonic::Request::new(request), path, codec)
            .await
    };
    match timeout(ACCEPT_TIME_MAX, opening).await {
        Ok(opened) => Ok(opened?.into_inner()),
        Err(_) => Err(Status::unavailable("it does not answer")),
    }
}

//! The serving side.

use std::sync::Arc;
use std::time::Duration;

use futures::future;
use futures::stream::{self, BoxStream, StreamExt};
use pontoon_kv::cluster::Topic;
use pontoon_kv::{Error, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, TryAcquireError};
use tonic::server::ServerStreamingService;
use tonic::{Status, body::Body, codegen::http, server::Grpc};

use super::message::{MessageCodec, Request, Response};
use crate::certs::Credentials;
use crate::rpc::handshake::gone;
use crate::rpc::server::{Front, wait_for};
use crate::rpc::socket::{Caller, Proof};

/// The service and its one method.
pub(in crate::rpc) const PATH: &str = "/pontoon.Watch/Watch";
/// No request is longer.
const REQUEST_BYTES_MAX: usize = 16 << 10;
/// A response without changes comes at least so often: it moves the revision.
const EVERY: Duration = Duration::from_secs(10);

/// Serves watches.
#[derive(Clone)]
pub(in crate::rpc) struct Service(pub(in crate::rpc) Arc<Front>);

/// A watch from page to page.
struct Page {
    front: Arc<Front>,
    caller: Option<Caller>,
    topics: Vec<Topic>,
    since: Timestamp,
    ended: bool,
    _counted: OwnedSemaphorePermit,
}

impl Service {
    /// Serves one watch.
    pub(in crate::rpc) async fn serve(self, request: http::Request<Body>) -> http::Response<Body> {
        let codec = MessageCodec::<Response, Request>::new();
        let mut grpc = Grpc::new(codec).max_decoding_message_size(REQUEST_BYTES_MAX);
        grpc.server_streaming(self, request).await
    }

    fn begin(&self, request: &tonic::Request<Request>) -> Result<Page, Status> {
        let caller = request.extensions().get::<Caller>().copied();
        check_proof(&self.0, caller)?;
        let Request { topics, since } = request.get_ref();
        let topic = |name: &String| {
            let unknown = || Status::invalid_argument(format!("{name} cannot be watched"));
            Topic::from_name(name).ok_or_else(unknown)
        };
        let topics: Vec<_> = topics.iter().map(topic).collect::<Result<_, _>>()?;
        let watchers = Arc::clone(&self.0.watchers).try_acquire_owned();
        let counted = watchers.map_err(|error| match error {
            TryAcquireError::NoPermits => {
                Status::resource_exhausted("too many watch at this node: go to another")
            }
            TryAcquireError::Closed => Status::unavailable("the node shuts down"),
        })?;
        Ok(Page {
            front: Arc::clone(&self.0),
            caller,
            topics: match topics.is_empty() {
                true => Topic::ALL.to_vec(),
                false => topics,
            },
            since: Timestamp(*since),
            ended: false,
            _counted: counted,
        })
    }
}

/// Whether the caller may know of the cluster: it has a certificate of it, where nodes have some.
fn check_proof(front: &Front, caller: Option<Caller>) -> Result<(), Status> {
    if let Credentials::Insecure = front.network.identity().credentials() {
        return Ok(());
    }
    match caller.map_or(Proof::Plain, |caller| caller.proof) {
        Proof::Node(name) if name.cluster != front.network.identity().cluster() => Err(
            Status::permission_denied("the certificate of the caller is one of another cluster"),
        ),
        Proof::Node(name) if front.network.book().is_gone(name.node) => Err(gone(name.node)),
        Proof::Node(_) => Ok(()),
        Proof::Nothing | Proof::Plain => Err(Status::unauthenticated(
            "the caller shows no certificate of this cluster",
        )),
    }
}

impl Page {
    async fn next(mut self) -> Option<(Result<Response, Status>, Self)> {
        if self.ended {
            return None;
        }
        let told = tokio::select! {
            told = self.ask() => told,
            () = wait_for(self.front.shutdown.clone()) => {
                Err(Status::unavailable("the node shuts down: go on at another"))
            }
        };
        match &told {
            Ok(response) => self.since = Timestamp(response.revision),
            Err(_) => self.ended = true,
        }
        Some((told, self))
    }

    async fn ask(&self) -> Result<Response, Status> {
        // It may have left since the last page.
        check_proof(&self.front, self.caller)?;
        let handler = &self.front.handler;
        let watched = handler.watch(self.topics.clone(), self.since, EVERY);
        let watched = watched.await.and_then(Response::try_from);
        watched.map_err(|error| match error {
            Error::Unavailable { .. } => Status::unavailable(error.to_string()),
            error => Status::internal(error.to_string()),
        })
    }
}

impl ServerStreamingService<Request> for Service {
    type Response = Response;
    type ResponseStream = BoxStream<'static, Result<Response, Status>>;
    type Future = future::Ready<Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Request>) -> Self::Future {
        let begun = self.begin(&request);
        future::ready(begun.map(|page| {
            let pages = stream::unfold(page, Page::next);
            tonic::Response::new(pages.boxed())
        }))
    }
}

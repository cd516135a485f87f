//! The few pages of a node, over a small HTTP/1.1 of our own: one request a connection.
//!
//! `/health` (200 while the node serves; a second line tells when it refuses writes for want of
//! disk, another what a node with one role does; with `?scope=read` or `?scope=write` 200 if it can do that, and otherwise 503 with the
//! reason), `/metrics` (Prometheus text), `/cluster` (its nodes and ranges as text), `/` (a page for
//! people).
//! It reads at most [`REQUEST_BYTES_MAX`] within [`REQUEST_TIME_MAX`] and answers GET and HEAD only.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pontoon_kv::cluster::Roles;
use pontoon_kv::db::Node;
use pontoon_kv::{Db, RoomStats};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::cluster;
use super::metrics::{Figures, Metrics, resident_bytes};
use crate::rpc::Network;

/// Longest request head.
const REQUEST_BYTES_MAX: usize = 8 << 10;
/// Longest time for a request and its answer.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);

/// A node that has not read or written by then is not healthy.
const PROBE_TIME_MAX: Duration = Duration::from_secs(3);

/// What the pages show beside the counters.
pub(crate) struct NodeFacts {
    /// Where SQL clients connect, if the node answers them.
    pub(crate) sql_address: Option<SocketAddr>,
    /// Where the data lies.
    pub(crate) data_dir: String,
    /// The store, which knows the cluster.
    pub(crate) db: Db,
    /// What is said to other nodes, if there may be some.
    pub(crate) network: Option<Network>,
}

/// Measures.
pub(crate) type Gauge = Arc<dyn Fn() -> Figures + Send + Sync>;

/// Serves until shutdown.
pub(crate) async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    gauge: Gauge,
    facts: NodeFacts,
    mut shutdown: watch::Receiver<bool>,
) {
    let facts = Arc::new(facts);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = shutdown.wait_for(|down| *down) => return,
        };
        let socket = match accepted {
            Ok((socket, _)) => socket,
            Err(e) => {
                tracing::warn!(error = %e, "could not accept an admin connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (metrics, facts) = (Arc::clone(&metrics), Arc::clone(&facts));
        let gauge = Arc::clone(&gauge);
        tokio::spawn(async move {
            // A slow or broken client concerns nobody else.
            let _ =
                tokio::time::timeout(REQUEST_TIME_MAX, answer(socket, &metrics, &*gauge, &facts))
                    .await;
        });
    }
}

async fn answer(
    mut socket: TcpStream,
    metrics: &Metrics,
    gauge: &(dyn Fn() -> Figures + Send + Sync),
    facts: &NodeFacts,
) -> std::io::Result<()> {
    let mut request = Vec::with_capacity(512);
    while !request.windows(4).any(|w| w == b"\r\n\r\n") {
        if request.len() > REQUEST_BYTES_MAX {
            return respond(
                &mut socket,
                "431 Request Header Fields Too Large",
                "text/plain",
                "",
                true,
            )
            .await;
        }
        if socket.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let head = String::from_utf8_lossy(&request);
    let mut words = head.split_ascii_whitespace();
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    if !matches!(method, "GET" | "HEAD") {
        return respond(
            &mut socket,
            "405 Method Not Allowed",
            "text/plain",
            "only GET\n",
            true,
        )
        .await;
    }
    let with_body = method == "GET";
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    match path {
        "/health" => {
            let (status, text) = health(query, gauge().room, &facts.db).await;
            respond(&mut socket, status, "text/plain", &text, with_body).await
        }
        "/metrics" => {
            let mut text = metrics.prometheus(gauge());
            cluster::metrics(&facts.db, facts.network.as_ref(), &mut text);
            respond(
                &mut socket,
                "200 OK",
                "text/plain; version=0.0.4",
                &text,
                with_body,
            )
            .await
        }
        "/cluster" => {
            let text = cluster::page(&facts.db);
            respond(&mut socket, "200 OK", "text/plain", &text, with_body).await
        }
        "/" => {
            let page = page(metrics, gauge().room, facts);
            respond(
                &mut socket,
                "200 OK",
                "text/html; charset=utf-8",
                &page,
                with_body,
            )
            .await
        }
        _ => {
            respond(
                &mut socket,
                "404 Not Found",
                "text/plain",
                "no such page\n",
                with_body,
            )
            .await
        }
    }
}

async fn respond(
    socket: &mut TcpStream,
    status: &str,
    kind: &str,
    body: &str,
    with_body: bool,
) -> std::io::Result<()> {
    let mut text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    if with_body {
        text.push_str(body);
    }
    socket.write_all(text.as_bytes()).await?;
    socket.shutdown().await
}

/// What is asked of a node's health: whether it serves at all, or whether it can read or write
/// now, which it tries.
async fn health(query: &str, room: RoomStats, db: &Db) -> (&'static str, String) {
    const OK: &str = "200 OK";
    const NOT_NOW: &str = "503 Service Unavailable";
    let refuses = match room.free_bytes {
        Some(free) if room.refuses => format!(
            "writes are refused: the disk is full ({free} bytes are free, {} are kept free)\n",
            room.floor_bytes
        ),
        _ => String::new(),
    };
    let scope = query
        .split('&')
        .find_map(|part| part.strip_prefix("scope="));
    let node = db.node();
    let role = role(node);
    let probe = async {
        match scope {
            None | Some("node") => Ok(()),
            Some("read") => node.probe_read().await,
            _ => node.probe_write().await,
        }
    };
    let scope = scope.unwrap_or("node");
    match scope {
        "node" | "read" => {}
        "write" if refuses.is_empty() => {}
        "write" => return (NOT_NOW, refuses),
        _ => {
            return (
                "400 Bad Request",
                "scope is node, read or write\n".to_owned(),
            );
        }
    }
    match tokio::time::timeout(PROBE_TIME_MAX, probe).await {
        Ok(Ok(())) => (OK, format!("ok\n{refuses}{role}")),
        Ok(Err(error)) => (NOT_NOW, format!("cannot {scope}: {error}\n")),
        Err(_) => {
            let limit = PROBE_TIME_MAX.as_secs();
            (
                NOT_NOW,
                format!("cannot {scope}: no answer within {limit} s\n"),
            )
        }
    }
}

/// What a node does that has one role only.
fn role(node: &Node) -> String {
    let held = node.replicas().len();
    match node.roles() {
        Roles { query: false, .. } => "role data: it answers no SQL clients\n".to_owned(),
        Roles { data: false, .. } if held > 0 => {
            format!("role query: {held} replicas are to be moved to other nodes\n")
        }
        Roles { data: false, .. } => "role query: it holds no replicas\n".to_owned(),
        _ => String::new(),
    }
}

fn page(metrics: &Metrics, room: RoomStats, facts: &NodeFacts) -> String {
    let escape = |s: &str| {
        s.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
    };
    let memory =
        resident_bytes().map_or_else(|| "unknown".to_owned(), |b| format!("{} MiB", b >> 20));
    let disk = room.free_bytes.map_or_else(
        || "unknown".to_owned(),
        |free| {
            let refuses = if room.refuses {
                ": writes are refused"
            } else {
                ""
            };
            format!("{} MiB free{refuses}", free >> 20)
        },
    );
    let sql_address = facts.sql_address;
    let sql_address = sql_address.map_or_else(|| "none".to_owned(), |sql| sql.to_string());
    let rows = [
        ("Version", crate::cli::VERSION.to_owned()),
        ("SQL address", sql_address),
        ("Roles", facts.db.node().roles().to_string()),
        ("Data directory", facts.data_dir.clone()),
        ("Up for", format!("{} s", metrics.uptime_s())),
        ("Sessions", metrics.sessions().to_string()),
        ("Statements", metrics.statements.value().to_string()),
        ("Errors sent", metrics.errors.value().to_string()),
        ("Memory", memory),
        ("Disk", disk),
    ];
    let mut table = String::new();
    for (name, value) in rows {
        table.push_str(&format!("<tr><th>{name}<td>{}", escape(&value)));
    }
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Pontoon</title>\
         <style>body{{font:16px system-ui;margin:3em auto;max-width:40em}}\
         th{{text-align:left;padding:.2em 2em .2em 0;font-weight:normal;color:#666}}</style>\
         <h1>Pontoon</h1><table>{table}</table><p><a href=/cluster>cluster</a> <a href=/metrics>metrics</a>"
    )
}

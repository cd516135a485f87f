//! Counters of the node, and their Prometheus text.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use pontoon_kv::RoomStats;

/// A number that only grows.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Its value.
    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is measured at the moment somebody looks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    /// The disk.
    pub(crate) room: RoomStats,
    /// Bytes of tables kept by columns.
    pub(crate) column_cache_bytes: u64,
}

/// All counters of a node.
pub(crate) struct Metrics {
    started: Instant,
    /// Connections accepted.
    pub(crate) connections: Counter,
    /// Sessions past their start-up that have ended.
    pub(crate) sessions_ended: Counter,
    /// Sessions past their start-up.
    pub(crate) sessions_started: Counter,
    /// Statements run.
    pub(crate) statements: Counter,
    /// Errors sent to clients.
    pub(crate) errors: Counter,
}

impl Metrics {
    /// All zero, from now on.
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            connections: Counter::default(),
            sessions_ended: Counter::default(),
            sessions_started: Counter::default(),
            statements: Counter::default(),
            errors: Counter::default(),
        }
    }

    /// Sessions that live now.
    pub(crate) fn sessions(&self) -> u64 {
        self.sessions_started
            .value()
            .saturating_sub(self.sessions_ended.value())
    }

    /// Seconds since the node started.
    pub(crate) fn uptime_s(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    /// In Prometheus' text format.
    pub(crate) fn prometheus(&self, figures: Figures) -> String {
        let room = figures.room;
        let mut text = String::new();
        let mut metric = |name: &str, kind: &str, help: &str, value: u64| {
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "# HELP pontoon_{name} {help}\n# TYPE pontoon_{name} {kind}\npontoon_{name} {value}\n"
            );
        };
        metric(
            "uptime_seconds",
            "gauge",
            "Seconds since start.",
            self.uptime_s(),
        );
        metric(
            "sessions",
            "gauge",
            "Sessions that live now.",
            self.sessions(),
        );
        metric(
            "connections_total",
            "counter",
            "Connections accepted.",
            self.connections.value(),
        );
        metric(
            "statements_total",
            "counter",
            "Statements run.",
            self.statements.value(),
        );
        metric(
            "errors_total",
            "counter",
            "Errors sent to clients.",
            self.errors.value(),
        );
        metric(
            "column_cache_bytes",
            "gauge",
            "Memory of tables kept by columns.",
            figures.column_cache_bytes,
        );
        if let Some(free) = room.free_bytes {
            metric(
                "disk_free_bytes",
                "gauge",
                "Free bytes on the disk of the data directory.",
                free,
            );
            metric(
                "disk_floor_bytes",
                "gauge",
                "Free bytes below which writes are refused.",
                room.floor_bytes,
            );
        }
        metric(
            "disk_full",
            "gauge",
            "1 while writes are refused for want of disk.",
            u64::from(room.refuses),
        );
        if let Some(bytes) = resident_bytes() {
            metric(
                "resident_memory_bytes",
                "gauge",
                "Memory of the process.",
                bytes,
            );
        }
        text
    }
}

/// Resident memory of this process, where the system tells it.
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.split_whitespace()
        .next()?
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_text() {
        let m = Metrics::new();
        m.statements.add();
        m.statements.add();
        let text = m.prometheus(Figures::default());
        assert!(text.contains("\npontoon_statements_total 2\n"));
        assert!(text.contains("\npontoon_disk_full 0\n"));
    }
}

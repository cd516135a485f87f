//! The arguments of `pontoon range`.

use clap::{Args, Subcommand};

use super::args::ContactArguments;

/// What to do with the ranges of a cluster.
#[derive(Args, Debug)]
pub(crate) struct RangeCommand {
    /// How it is asked.
    #[command(flatten)]
    pub(crate) contact: ContactArguments,
    /// What to do.
    #[command(subcommand)]
    pub(crate) what: RangeAction,
}

/// What to do with the ranges of a cluster.
#[derive(Subcommand, Debug)]
pub(crate) enum RangeAction {
    /// List the ranges: their keys, the tables in them, how large and how much used they are, and
    /// where they are.
    Ls {
        /// Only those with rows or index entries of this table.
        #[arg(long, value_name = "TABLE")]
        table: Option<String>,
    },
    /// Show everything about one range, and what is wrong with it.
    Status {
        /// The number of the range, as `pontoon range ls` shows it.
        range: u64,
    },
    /// Have ranges begin at rows of a table, or at entries of an index, and stay however small they
    /// are.
    Split {
        /// Of what.
        #[command(flatten)]
        of: Splittable,
        /// Where: values of the first columns of its key, as in SQL ("17", or "'a', 3"). It may be
        /// given several times.
        #[arg(long, value_name = "VALUES", required = true)]
        at: Vec<String>,
    },
    /// Let ranges that were wanted by a split become parts of their neighbours, at once if they can.
    Unsplit {
        /// Of what.
        #[command(flatten)]
        of: Splittable,
        /// Where, as for split.
        #[arg(long, value_name = "VALUES", required_unless_present = "all")]
        at: Vec<String>,
        /// Wherever it was split.
        #[arg(long, conflicts_with = "at")]
        all: bool,
    },
    /// Have a range become a part of the one before it.
    Merge {
        /// The number of the range.
        range: u64,
    },
    /// Move a replica of a range to another node, and wait until it is there.
    Move {
        /// The number of the range.
        range: u64,
        /// The node that has it, as in `n2`.
        #[arg(long, value_name = "NODE")]
        from: String,
        /// The node that shall have it.
        #[arg(long, value_name = "NODE")]
        to: String,
    },
    /// Have the replica on a node lead its range.
    Lead {
        /// The number of the range.
        range: u64,
        /// The node, as in `n2`.
        #[arg(long, value_name = "NODE")]
        node: String,
    },
}

/// What can be split: a table with a primary key, or an index.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct Splittable {
    /// A table, as in SQL.
    #[arg(long, value_name = "TABLE")]
    pub(crate) table: Option<String>,
    /// Or an index, as in SQL.
    #[arg(long, value_name = "INDEX")]
    pub(crate) index: Option<String>,
}

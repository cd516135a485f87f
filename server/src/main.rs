//! The binary `pontoon`: reads the command line and runs a node.
//!
//! [`cli`] turns arguments and configuration file into what a node needs, [`node`] opens the data
//! directory and the listeners and shuts them down, [`pgwire`] serves SQL clients, [`admin`] serves
//! operators. Every way to fail before serving ends with a sentence that says what to do.

mod admin;
mod certs;
mod cli;
mod node;
mod pgwire;
mod rpc;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::run()
}

//! `cargo xtask`: everything a developer or CI runs, on a fresh clone and a fresh machine.
//!
//! Each command is a row of steps; every step says what it is before it runs and how long it took afterwards, on
//! standard error. Standard output belongs to the tools that run, so it ends with cargo's own closing lines.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool talks to its terminal")]

mod bench;
mod buildah;
mod cluster;
mod demo;
mod demo_cluster;
mod dns;
mod fleet;
mod fuzz;
mod generate;
mod image;
mod prerequisites;
mod selection;
mod steps;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::steps::Steps;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, tests and measures Bindy")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The examples on real servers: answers, an edit arriving everywhere, a killed server that heals
    Demo {
        /// On a real Kubernetes that is made for it, with the operator
        #[arg(long)]
        cluster: bool,
    },
    /// Everything that CI runs: format, lints, all tests, fuzz targets for a moment
    Test {
        /// Only the test of this name, also a long one; if there is none, those whose file or name contains it
        #[arg(long, value_name = "NAME")]
        only: Option<String>,
        /// Also the tests that are too long for CI
        #[arg(long)]
        long: bool,
    },
    /// The part of it that needs under three minutes: no real servers, no fuzzing
    Check,
    /// Runs one benchmark as a release build
    Bench {
        /// Its name, as in docs/benchmarks.md
        name: String,
        /// One JSON object per result line instead of a table
        #[arg(long)]
        json: bool,
        /// With `bindy up` and its local servers, where a benchmark could also use a cluster
        #[arg(long)]
        embedded: bool,
        /// Arguments for the benchmark itself, after `--`
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// A real Kubernetes on this machine, for development and tests
    Cluster(cluster::Arguments),
    /// Writes everything that is generated from the types
    Generate,
}

fn main() -> ExitCode {
    let mut steps = Steps::start();
    let done = match Arguments::parse().command {
        Command::Test { only: Some(name), long } => test::only(&mut steps, &name, long),
        Command::Test { only: None, long } => test::all(&mut steps, long),
        Command::Check => test::check(&mut steps),
        Command::Demo { cluster: false } => demo::run(&mut steps),
        Command::Demo { cluster: true } => demo_cluster::run(&mut steps),
        Command::Bench { name, json, embedded, arguments } => {
            let place = if embedded { bench::Place::Embedded } else { bench::Place::Cluster };
            bench::run(&mut steps, &name, json, place, &arguments)
        }
        Command::Cluster(arguments) => cluster::run(&mut steps, arguments),
        Command::Generate => generate::all(&mut steps),
    };
    steps.finish(&done);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

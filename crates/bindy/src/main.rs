//! The `bindy` command: highly available authoritative DNS with BIND9.

mod check;
mod cli;

use std::env::VarError;
use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};

use cli::{Cli, Command, LogFormat};

/// A million small records cost a third less memory than with glibc's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match start_logging(cli.log_format).and_then(|()| run(cli.command)) {
        Ok(code) => code,
        Err(error) => {
            eprintln(&format!("bindy: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Up { directory, state } => {
            let state = state.unwrap_or_else(|| directory.join(".bindy"));
            let executable = std::env::current_exe().context("the path of this program is not known")?;
            let options = bindy_local::UpOptions { directory, state, executable };
            until_signal(async |cancel| Ok(bindy_local::up(options, cancel).await?))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Agent { config } => {
            let patience = bindy_agent::PATIENCE;
            until_signal(async |cancel| Ok(bindy_agent::run(&config, patience, cancel).await?))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Check { directory, output } => check::check(&directory, output),
        Command::Run(run) => {
            let election = bindy_operator::Settings::from_env(|name| std::env::var(name).ok())?;
            let options = bindy_operator::Options {
                namespace: run.namespace,
                transfer_port: run.transfer_port,
                http_port: run.http_port,
                image: run.image,
                election,
            };
            until_signal(async |cancel| Ok(bindy_operator::run(options, cancel).await?))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Install => {
            for object in bindy_operator::install::objects() {
                print(&format!("---\n{}", serde_saphyr::to_string(&object)?));
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Crds => {
            print(&bindy_api::crds_yaml()?);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Runs until SIGTERM or SIGINT, which cancel the token; a second signal is left to the system.
#[tokio::main]
async fn until_signal(run: impl AsyncFnOnce(CancellationToken) -> Result<()>) -> Result<()> {
    let cancel = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = cancel.clone();
    let signals = tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    let result = run(cancel).await;
    signals.abort();
    result
}

fn start_logging(format: LogFormat) -> Result<()> {
    let logs = tracing_subscriber::fmt()
        .with_env_filter(wanted_logs()?)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().init(),
    }
    Ok(())
}

fn wanted_logs() -> Result<EnvFilter> {
    let wanted = match std::env::var("BINDY_LOG") {
        Err(VarError::NotPresent) => "info".to_owned(),
        wanted => wanted.context("BINDY_LOG")?,
    };
    let wrong = || format!("BINDY_LOG must be levels as in bindy_engine=debug,info, and is {wanted:?}");
    // A word that is no level would be taken for the one part of the program that logs.
    let is_level = |word: &str| word.contains('=') || word.parse::<LevelFilter>().is_ok();
    ensure!(wanted.split(',').all(is_level), wrong());
    EnvFilter::builder().parse(&wanted).with_context(wrong)
}

/// Writes to standard output; a closed one is no error.
pub(crate) fn print(text: &str) {
    let _closed = std::io::Write::write_all(&mut std::io::stdout().lock(), text.as_bytes());
}

/// Writes a line to standard error; a closed one is no error.
pub(crate) fn eprintln(text: &str) {
    let _closed = std::io::Write::write_all(&mut std::io::stderr().lock(), format!("{text}\n").as_bytes());
}

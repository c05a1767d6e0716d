//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Highly available authoritative DNS with BIND9.
#[derive(Debug, Parser)]
#[command(version, about, propagate_version = true)]
pub(crate) struct Cli {
    /// How log lines are written to standard error; BINDY_LOG sets which (as in `bindy_engine=debug,info`).
    #[arg(long, value_enum, default_value_t = LogFormat::Text, global = true, env = "BINDY_LOG_FORMAT")]
    pub(crate) log_format: LogFormat,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the manifests of a directory by local `named` processes, and follow every change.
    Up {
        /// The directory of manifests (*.yaml, *.yml, *.json).
        directory: PathBuf,
        /// Where serials, keys and the servers' data are kept [default: DIRECTORY/.bindy].
        #[arg(long)]
        state: Option<PathBuf>,
    },
    /// Say everything that is wrong with the manifests of a directory. Exits with 1 if any of it is an error, with 2 if the
    /// directory cannot be read.
    Check {
        /// The directory of manifests.
        directory: PathBuf,
        /// Form of the output.
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Run the operator in a Kubernetes cluster: serve the zones of its objects on the servers that it runs as pods.
    Run(Run),
    /// Run beside one `named`: get its zones from the best source and pass them on.
    Agent {
        /// The agent's configuration (JSON).
        #[arg(long)]
        config: PathBuf,
    },
    /// Print the CustomResourceDefinitions.
    Crds,
    /// Print what runs the operator: namespace, rights, Service, Deployment.
    Install,
}

/// Settings of the operator.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The operator's namespace [default: that of its pod or kubeconfig].
    #[arg(long, env = "POD_NAMESPACE")]
    pub(crate) namespace: Option<String>,
    // Without variables: Kubernetes sets those that end in _PORT for Services, and ours is called bindy-transfer.
    /// Port on which agents fetch zones, TCP and UDP.
    #[arg(long, default_value_t = bindy_operator::install::TRANSFER_PORT)]
    pub(crate) transfer_port: u16,
    /// Port of /livez, /readyz and /metrics.
    #[arg(long, default_value_t = bindy_operator::install::HTTP_PORT)]
    pub(crate) http_port: u16,
    /// Image of the agents [default: that of the operator's own pod].
    #[arg(long, env = "BINDY_IMAGE")]
    pub(crate) image: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Output {
    /// One line for each problem, as compilers write them.
    Text,
    /// One JSON array.
    Json,
}

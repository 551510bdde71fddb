//! The command line that all services share.

use std::path::PathBuf;

/// Flags of every service. Everything else is a configuration key.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Arguments {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE", env = "QUORATE_CONFIG", global = true)]
    pub config: Option<PathBuf>,

    /// Name of this process, instead of the key `name`
    #[arg(long, global = true)]
    pub name: Option<String>,

    /// Print the configuration that would be used, and stop
    #[arg(long)]
    pub check: bool,
}

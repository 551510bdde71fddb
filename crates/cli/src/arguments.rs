//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    bench, browse, cluster, completions, dead_letters, dev, node, pause, placement, purge, queues,
    receive, schedule, send, settings, subscriptions, topics, transfer,
};

/// Where `quorate dev` listens.
pub(crate) const DEFAULT_URL: &str =
    "failover:(tcp://127.0.0.1:60001,tcp://127.0.0.1:60002,tcp://127.0.0.1:60003)";

/// Sends and receives messages, looks at a Quorate cluster, and starts one on this machine.
#[derive(Debug, Parser)]
#[command(name = "quorate", version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: Common,

    /// What to log on standard error, in the notation of RUST_LOG
    #[arg(long, global = true, default_value = "error", value_name = "FILTER")]
    pub(crate) log: String,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// Gateways: failover:(tcp://host:port,tcp://host:port)?options, or host:port
    #[arg(long, global = true, env = "QUORATE_URL", default_value = DEFAULT_URL)]
    pub(crate) url: String,

    /// How results are printed
    #[arg(
        long,
        global = true,
        env = "QUORATE_OUTPUT",
        value_enum,
        default_value_t
    )]
    pub(crate) output: Format,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// For programs: the field names are documented and stay
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Sends messages and waits until they are confirmed
    Send(send::Send),
    /// Receives messages and removes them from the queue
    Receive(receive::Receive),
    /// Shows the messages of a queue and removes none
    Browse(browse::Browse),
    /// Lists the queues
    Queues(queues::Queues),
    /// Lists the topics
    Topics(topics::Topics),
    /// Lists subscriptions of topics, and deletes them
    Subscriptions(subscriptions::Subscriptions),
    /// Removes all messages of a queue
    Purge(purge::Purge),
    /// Lists and cancels messages that wait for their time
    #[command(subcommand)]
    Schedule(schedule::Schedule),
    /// Moves messages of a queue to another destination
    Move(transfer::Transfer),
    /// Copies messages of a queue to another destination
    Copy(transfer::Transfer),
    /// Lists, retries and removes messages that could not be delivered
    #[command(subcommand)]
    DeadLetters(dead_letters::DeadLetters),
    /// Shows what is on its way from one destination to another
    Outbox,
    /// Ends the delivery of a queue's messages; it takes messages in all the same
    Pause(pause::Pause),
    /// Begins the delivery of a paused queue again
    Resume(pause::Pause),
    /// Lists and changes the settings of destinations by name pattern
    #[command(subcommand)]
    Settings(settings::Settings),
    /// Shows where destinations live, and moves them to other shards
    #[command(subcommand)]
    Placement(placement::Placement),
    /// Shows nodes, shards and leaders
    Cluster(cluster::Cluster),
    /// Drains a node before work on it, and lets it lead again
    #[command(subcommand)]
    Node(node::Node),
    /// Measures throughput and latency
    Bench(bench::Bench),
    /// Runs a whole cluster on this machine
    Dev(dev::Dev),
    /// Prints the completions for a shell
    Completions(completions::Completions),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
        let address: quorate_client::Address = DEFAULT_URL.parse().expect("a good address");
        assert_eq!(address.gateways().len(), 3);
    }
}

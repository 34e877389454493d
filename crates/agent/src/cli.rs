//! The command line, as written.

use crate::distribution::Distribution;
use crate::manifests::Form;
use auditship_ship::units::ByteRate;
use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Follows the Kubernetes audit log, takes Secrets and tokens out, thins the noise, and ships the rest.
#[derive(Debug, Parser)]
#[command(name = "auditship", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done, 1 the world failed, 2 the input was at fault or something was \
                        not delivered, 64 bad usage or configuration.\n\nTry it: auditship demo")]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// One line a command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Follow the log and ship it, until stopped
    #[command(after_help = "Example: auditship run --config /etc/auditship/config.yaml")]
    Run(RunArgs),
    /// Ship files once through the same pipeline, and print the ledger
    #[command(
        after_help = "Example: auditship ship --config config.yaml audit.log audit-2026-01-02T03-04-05.000.log.gz\n\
                            Reads plain, gzip and zstd files, the container runtime's format, and - for standard input.\n\
                            Never touches the state directory."
    )]
    Ship(ShipArgs),
    /// Audit lines in, redacted lines out: a Unix filter that keeps order and count
    #[command(after_help = "Example: zcat audit.log.gz | auditship redact > clean.log\n\
                            auditship redact --explain --json audit.log | jq -c 'select(.redacted != [])'\n\
                            auditship redact --prove --config config.yaml\n\
                            printf %s VALUE | auditship redact --hash --config config.yaml\n\
                            What is taken out: docs/redaction.md, or `auditship docs redaction`.")]
    Redact(RedactArgs),
    /// Compile a configuration and say what is wrong with it
    #[command(after_help = "Examples: auditship check --config config.yaml\n          \
                            auditship check --config config.yaml --connect --json | jq .connect")]
    Check(CheckArgs),
    /// Look at a control plane node: what is wrong with its audit log, and how to put it right
    #[command(after_help = "Examples: sudo auditship doctor\n          \
                            auditship doctor --manifest kube-apiserver.yaml --policy policy.yaml --rate 500KB/s\n          \
                            kubectl -n kube-system get pod kube-apiserver-cp1 -o yaml | auditship doctor --manifest -\n          \
                            auditship doctor --root /host --json | jq '.verdicts[] | select(.grade != \"ok\")'\n\n\
                            It finds the API server's static pod (kubeadm, kind, RKE2, kOps, OpenShift), the configuration\n\
                            of k3s and RKE2, or the process. What each verdict means: docs/doctor.md.\n\
                            Exit codes: 0 nothing fails (warnings may stand), 1 no API server to look at,\n\
                            2 something fails, 64 usage.")]
    Doctor(DoctorArgs),
    /// Print files that put the agent beside a control plane without Helm: a static pod, a sidecar, a systemd unit
    #[command(
        after_help = "Examples: auditship manifests static-pod --distribution rke2 > auditship.yaml\n          \
                            auditship manifests sidecar --audit-dir /var/log/apiserver\n          \
                            auditship manifests systemd --distribution k3s > /etc/systemd/system/auditship.service\n\n\
                            Each file says at its top where it goes. With Helm: charts/auditship."
    )]
    Manifests(ManifestsArgs),
    /// The whole product on a real log that is built in: no cluster, no configuration, no network
    #[command(after_help = "Example: auditship demo --keep /tmp/auditship-demo")]
    Demo(DemoArgs),
    /// Show, export or import what the state directory says
    #[command(after_help = "Example: auditship state --config config.yaml show")]
    State(StateArgs),
    /// List, show or send again what a backend refused for good
    #[command(after_help = "Example: auditship dead-letter --config config.yaml list\n\
                            auditship dead-letter --config config.yaml show 1\n\
                            auditship dead-letter --config config.yaml replay\n\
                            Those of `auditship ship`: --file auditship-dead-letters.ndjson")]
    DeadLetter(DeadLetterArgs),
    /// Print the JSON Schema of the configuration
    #[command(after_help = "Example: auditship schema > auditship.schema.json")]
    Schema,
    /// Print what a shell needs to complete the command line
    #[command(
        after_help = "Examples: auditship completions bash > /etc/bash_completion.d/auditship\n          \
                            auditship completions zsh > \"${fpath[1]}/_auditship\"\n          \
                            auditship completions fish > ~/.config/fish/completions/auditship.fish"
    )]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print a manual page, or write all of them
    #[command(
        after_help = "Examples: auditship man | man -l -\n          auditship man doctor | man -l -\n          \
                            auditship man --out /usr/local/share/man/man1"
    )]
    Man(ManArgs),
    /// Print documentation that is made from the code
    #[command(hide = true)]
    Docs {
        /// Which page
        page: DocsPage,
    },
    /// A loopback Elasticsearch that counts, for benchmarks
    #[command(hide = true)]
    Receiver {
        /// Address to listen on
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: std::net::SocketAddr,
        /// Keep the bodies, as they were unpacked, in this file
        #[arg(long)]
        save: Option<PathBuf>,
    },
}

/// The generated pages.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum DocsPage {
    /// The redaction catalogue
    Redaction,
    /// What the shapes make of an event
    Shapes,
}

/// Where the configuration comes from.
#[derive(Clone, Debug, clap::Args)]
pub struct ConfigArgs {
    /// Configuration file; several are layered in order
    #[arg(long, short, value_name = "FILE", required = true)]
    pub config: Vec<PathBuf>,
    /// Set one value over files and environment: outputs.search.endpoint=http://…
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// `run`
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Write logs as JSON
    #[arg(long)]
    pub log_json: bool,
}

/// `ship`
#[derive(Debug, clap::Args)]
pub struct ShipArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Files to ship, in order; - is standard input
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Print the ledger as JSON
    #[arg(long)]
    pub json: bool,
    /// Stop when an output has taken nothing for so long (what is left counts as not delivered)
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub give_up_after: u64,
}

/// `redact`
#[derive(Debug, clap::Args)]
pub struct RedactArgs {
    /// Configuration whose redaction to use; the built-in catalogue when absent
    #[arg(long, short, value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// Set one value over files and environment
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Files to read, in order; standard input when absent
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Apply only this rule, built-in or of the configuration; can be repeated
    #[arg(long, value_name = "RULE")]
    pub only: Vec<String>,
    /// Print, instead of the lines, what changes in each: place, rule, length, replacement; never the value
    #[arg(long, conflicts_with_all = ["explain", "prove"])]
    pub diff: bool,
    /// Print, instead of the lines, for each event the rules that took something: path, action, length
    #[arg(long, conflicts_with = "prove")]
    pub explain: bool,
    /// Plant made-up secrets of every kind at every place, run the configuration, and say what would leave
    #[arg(long, conflicts_with_all = ["paths", "only", "stats"])]
    pub prove: bool,
    /// Print the keyed hash of the value on standard input, for `value` of a suppression (redact.allow)
    #[arg(long, conflicts_with_all = ["paths", "only", "diff", "explain", "prove", "json", "stats"])]
    pub hash: bool,
    /// The number that the made-up secrets of --prove come from, to repeat a run
    #[arg(long, value_name = "NUMBER", requires = "prove")]
    pub seed: Option<u64>,
    /// Print what --explain or --prove says as JSON
    #[arg(long)]
    pub json: bool,
    /// Print what was done to standard error
    #[arg(long)]
    pub stats: bool,
}

/// `check`
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// Try each output without sending an event: name, address, proxy, TLS, credentials, index, clock; exit code 1
    /// if one does not work
    #[arg(long)]
    pub connect: bool,
}

/// `doctor`
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// What describes the API server: a pod, kubeadm's ClusterConfiguration, config.yaml of k3s or RKE2, OpenShift's
    /// KubeAPIServerConfig; - is standard input. Nothing else of this machine is then looked at, unless --root is given
    #[arg(long, value_name = "FILE", conflicts_with = "process")]
    pub manifest: Option<PathBuf>,
    /// The audit policy, where the description does not lead to it
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Where the node's files begin, such as /host in a pod
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Look at this process, and at files as it sees them
    #[arg(long, value_name = "PID")]
    pub process: Option<u32>,
    /// Whose control plane it is, where that cannot be told; it decides the words of what to do
    #[arg(long, value_name = "NAME")]
    pub distribution: Option<Distribution>,
    /// How long an event that is not shipped should last on disk
    #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=8760))]
    pub hold: u64,
    /// How fast the log grows, where it cannot be measured here: 500KB/s
    #[arg(long, value_name = "RATE")]
    pub rate: Option<ByteRate>,
    /// Print the verdicts as JSON
    #[arg(long)]
    pub json: bool,
}

/// `manifests`
#[derive(Debug, clap::Args)]
pub struct ManifestsArgs {
    /// Which file
    pub form: Form,
    /// Whose control plane; it decides where things are, and whose the log is
    #[arg(long, value_name = "NAME", default_value = "kubeadm")]
    pub distribution: Distribution,
    /// The agent's configuration on the node; its directory is mounted [default: /etc/auditship/config.yaml]
    #[arg(long, value_name = "PATH")]
    pub config: Option<String>,
    /// The audit log's directory on the node [default: the distribution's]
    #[arg(long, value_name = "DIR")]
    pub audit_dir: Option<String>,
    /// The user that the log belongs to [default: the distribution's]
    #[arg(long, value_name = "UID")]
    pub owner: Option<u32>,
    /// The image of a pod [default: that of this version]
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// The program on the node, for the unit
    #[arg(long, value_name = "PATH", default_value = "/usr/local/bin/auditship")]
    pub binary: String,
}

/// `man`
#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// Whose page: a command; that of the program when absent
    #[arg(value_name = "COMMAND")]
    pub page: Option<String>,
    /// Write the pages of all commands into this directory
    #[arg(long, value_name = "DIR", conflicts_with = "page")]
    pub out: Option<PathBuf>,
}

/// `state`
#[derive(Debug, clap::Args)]
pub struct StateArgs {
    /// Configuration file that names the state directory
    #[arg(long, short, value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// The state directory itself
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub state_dir: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: StateCommand,
}

/// What to do with the state.
#[derive(Debug, Subcommand)]
pub enum StateCommand {
    /// Streams, positions and totals, also while an agent is at work
    Show {
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the whole state as JSON
    Export,
    /// Put an exported state into an empty state directory (no agent may be at work)
    Import {
        /// What `export` has printed
        file: PathBuf,
    },
}

/// `dead-letter`
#[derive(Debug, clap::Args)]
pub struct DeadLetterArgs {
    /// Configuration file; it names the state directory, and the outputs for replay
    #[arg(long, short, value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// Set one value over files and environment
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// The file of dead letters, where it is not in the state directory
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: DeadLetterCommand,
}

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadLetterCommand {
    /// A line for each, and how many of each reason
    List {
        /// Print the file's lines as they are
        #[arg(long)]
        json: bool,
    },
    /// One of them in full
    Show {
        /// Its number in the list, or the beginning of its uid
        which: String,
    },
    /// Send them again, to the outputs that refused them
    Replay(ReplayArgs),
}

/// `dead-letter replay`
#[derive(Debug, clap::Args)]
pub struct ReplayArgs {
    /// Only these: numbers in the list, or beginnings of uids; all when absent
    #[arg(value_name = "WHICH")]
    pub which: Vec<String>,
    /// Only those that this output refused
    #[arg(long, value_name = "NAME")]
    pub output: Option<String>,
    /// Send them to this output instead
    #[arg(long, value_name = "NAME")]
    pub to: Option<String>,
    /// Say what would be sent, and send nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// Stop when an output has taken nothing for so long
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub give_up_after: u64,
}

/// `demo`
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Print the ledger as JSON
    #[arg(long)]
    pub json: bool,
    /// Keep everything in this directory (made if it does not exist)
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}

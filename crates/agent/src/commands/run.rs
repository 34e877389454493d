//! `auditship run`: the agent, until a signal ends it.
//!
//! A door: it owns signals and the log.

#![expect(clippy::disallowed_methods, reason = "waits by the clock")]

use crate::admin;
use crate::agent::{Agent, open_state};
use crate::cli::RunArgs;
use crate::config::files::Referenced;
use crate::config::{Config, Input, Located};
use crate::exit::Failure;
use crate::guard::{self, Guard, State};
use crate::outputs;
use crate::plan::{self, Plan};
use crate::status::{Reload, Status};
use anyhow::Context as _;
use auditship_tail::store;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

/// How often the files that values were taken from are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// What is degraded while a changed file cannot be used.
const CONFIGURATION: &str = "configuration";

/// Starts the log: to standard error, at `info` unless `RUST_LOG` says otherwise.
pub fn start_log(json: bool) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let colour = std::io::stderr().is_terminal() && std::env::var("NO_COLOR").is_err();
    // A second start in one process (a test) keeps the first one's.
    let _ = if json { log.json().try_init() } else { log.with_ansi(colour).try_init() };
}

/// Runs the command.
///
/// # Errors
/// As every command: see [`crate::exit`].
pub fn run(args: &RunArgs) -> Result<(), Failure> {
    start_log(args.log_json);
    say_guards();
    // First of all: from here on a signal is a wish, and not the end.
    let runtime = outputs::runtime()?;
    let mut signals = Signals::new(&runtime)?;
    let (config, located, referenced) = super::load_watched(&args.config)?;
    check_inputs(&config, &located)?;
    let store = open_state(&config.state_dir)?;
    let status = Arc::new(Status::default());
    let started = Instant::now();
    if let Some(address) = config.admin.listen {
        let address = runtime.block_on(admin::listen(address, status.clone(), started))?;
        info!(%address, "admin listener");
    }
    let mut current = Loaded { config, located, referenced };
    let mut before = None;
    loop {
        let Loaded { config, located, .. } = &current;
        let plan = Arc::new(compile(config, located)?);
        for warning in Plan::warnings(config, located) {
            warn!("{}", warning.to_string().replace('\n', " "));
        }
        let inputs = plan::file_inputs(config);
        for why in super::foreign_values(&plan.redactor) {
            warn!("{why}");
        }
        info!(cluster = config.cluster, outputs = plan.outputs.len(), inputs = inputs.len(), "started");
        let agent = Agent::start(&plan, inputs, store.clone(), status.clone(), &runtime, before.as_deref())?;
        match signals.wait(&runtime, &agent, &status, args, &current) {
            Next::Stop => return stop(agent, &mut signals, &runtime),
            Next::Reload(next) => {
                // Cursors stay where they are: what is not acknowledged is read again under the new plan.
                before = Some(agent.catalogue());
                let stopper = agent.stopper();
                stopper.now.store(true, Ordering::Relaxed);
                agent.stop(&runtime)?;
                current = *next;
            }
            Next::Failed => {
                agent.stop(&runtime)?;
                return Err(anyhow::anyhow!("a consumer ended by itself").into());
            }
        }
    }
}

/// Says of each guard whether it holds, and why.
fn say_guards() {
    for Guard { name, state, reason, danger } in guard::guards() {
        match state {
            State::On => info!(guard = name, %state, reason, "guarded"),
            State::Off | State::Unsupported => warn!(guard = name, %state, reason, danger, "not guarded"),
        }
    }
}

fn check_inputs(config: &Config, located: &Located) -> Result<(), Failure> {
    let stdin = config.inputs.iter().find(|(_, input)| matches!(input, Input::Stdin(_)));
    if let Some((name, _)) = stdin {
        let path = crate::config::Path::from("inputs").key(name.clone());
        let help = "`auditship ship --config FILE -` ships standard input";
        return Err(located
            .error_at(path, "`run` follows files; it cannot resume standard input", Some(help))
            .into());
    }
    if config.inputs.is_empty() {
        let help = "add one, such as `inputs: {apiserver: {type: file, path: /var/log/kubernetes/apiserver/audit.log}}`";
        return Err(located.error_at(crate::config::Path::top(), "there is no input", Some(help)).into());
    }
    Ok(())
}

fn compile(config: &Config, located: &Located) -> Result<Plan, Failure> {
    let key = match &config.key_file {
        Some(path) => store::read_key(path),
        None => store::master_key(&config.state_dir),
    };
    let key = key.map_err(|error| Failure::World(error.into()))?;
    Plan::compile(config, located, &key, &super::host_name())
}

fn stop(agent: Agent, signals: &mut Signals, runtime: &tokio::runtime::Runtime) -> Result<(), Failure> {
    info!("stopping: reading no more, waiting for acknowledgements");
    let stopper = agent.stopper();
    let second = runtime.spawn(signals.take_second(stopper));
    let report = agent.stop(runtime)?;
    second.abort();
    for (name, account) in &report.consumers {
        info!(
            output = name,
            read = account.read.lines,
            delivered = account.delivered,
            open = account.open,
            adds_up = account.adds_up(),
            "stopped"
        );
    }
    Ok(())
}

/// A configuration as it was loaded.
struct Loaded {
    config: Config,
    located: Located,
    referenced: Referenced,
}

/// What ends a turn.
enum Next {
    Stop,
    Reload(Box<Loaded>),
    Failed,
}

struct Signals {
    terminate: Option<Signal>,
    interrupt: Option<Signal>,
    hangup: Signal,
}

impl Signals {
    fn new(runtime: &tokio::runtime::Runtime) -> anyhow::Result<Signals> {
        let _inside = runtime.enter();
        let listen = |kind| signal(kind).context("listen to signals");
        Ok(Signals {
            terminate: Some(listen(SignalKind::terminate())?),
            interrupt: Some(listen(SignalKind::interrupt())?),
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Ticks once a second until something happens.
    fn wait(
        &mut self,
        runtime: &tokio::runtime::Runtime,
        agent: &Agent,
        status: &Status,
        args: &RunArgs,
        current: &Loaded,
    ) -> Next {
        let (Some(terminate), Some(interrupt)) = (&mut self.terminate, &mut self.interrupt) else {
            return Next::Stop;
        };
        let mut looked = Instant::now();
        loop {
            enum Woke {
                Stop,
                Reload,
                Tick,
            }
            let woke = runtime.block_on(async {
                tokio::select! {
                    _ = terminate.recv() => Woke::Stop,
                    _ = interrupt.recv() => Woke::Stop,
                    _ = self.hangup.recv() => Woke::Reload,
                    () = tokio::time::sleep(Duration::from_secs(1)) => Woke::Tick,
                }
            });
            let next = match woke {
                Woke::Stop => return Next::Stop,
                Woke::Reload => reload(args, current, status, None),
                Woke::Tick => {
                    agent.tick();
                    let due = looked.elapsed() >= LOOK_EVERY;
                    if due {
                        looked = Instant::now();
                    }
                    let changed = if due { current.referenced.changed() } else { None };
                    changed.and_then(|path| reload(args, current, status, Some(&path)))
                }
            };
            if let Some(next) = next {
                return Next::Reload(next);
            }
            if agent.has_failed() {
                return Next::Failed;
            }
        }
    }

    /// A second signal leaves at once; nothing is lost by that.
    fn take_second(&mut self, stopper: Arc<crate::consumer::Stop>) -> impl Future<Output = ()> + use<> {
        let (mut terminate, mut interrupt) = (self.terminate.take(), self.interrupt.take());
        async move {
            if let (Some(terminate), Some(interrupt)) = (&mut terminate, &mut interrupt) {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                stopper.now.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// Takes the configuration anew, by signal or because `changed` has; anything wrong with it changes nothing.
fn reload(args: &RunArgs, current: &Loaded, status: &Status, changed: Option<&Path>) -> Option<Box<Loaded>> {
    let why = if changed.is_some() { "file" } else { "signal" };
    let file = changed.map(|path| tracing::field::display(path.display()));
    match load_again(args, &current.config) {
        Ok(next) => {
            status.count_reload(Reload { why, result: "done" });
            status.set_degraded(CONFIGURATION, None);
            info!(why, file, "configuration reloaded");
            Some(Box::new(next))
        }
        Err(problem) => {
            status.count_reload(Reload { why, result: "refused" });
            if let Some(path) = changed {
                let first = problem.lines().next().unwrap_or_default();
                let text = format!("{} has changed and cannot be used: {first}", path.display());
                status.set_degraded(CONFIGURATION, Some(text));
            }
            error!(why, file, "the configuration is not reloaded, the old one stays:\n{problem}");
            None
        }
    }
}

fn load_again(args: &RunArgs, current: &Config) -> Result<Loaded, String> {
    let text = |failure: Failure| match failure {
        Failure::World(error) => format!("{error:#}"),
        Failure::Input(text) | Failure::Usage(text) => text,
        Failure::Pipe => String::new(),
    };
    let (config, located, referenced) = super::load_watched(&args.config).map_err(text)?;
    check_inputs(&config, &located).map_err(text)?;
    if config.state_dir != current.state_dir || config.admin != current.admin {
        return Err("state_dir and admin cannot change while running".to_owned());
    }
    compile(&config, &located).map_err(text)?;
    Ok(Loaded { config, located, referenced })
}

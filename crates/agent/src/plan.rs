//! The configuration, compiled: what the consumers follow. Pure; nothing is opened.

use crate::config::{
    Config, ConfigError, Diagnostic, FilterUse, Format, Input, Located, Output, Path, StartAt,
};
use crate::exit::Failure;
use auditship_event::Keys;
use auditship_redact::{Filter, Redactor};
use auditship_route::{Fraction, KeepWord, OutputId, Place, RouteConfig, Router, default_routes};
use auditship_rule::Matcher;
use auditship_ship::sinks::Transport;
use auditship_ship::{Context, Options, Sink};
use auditship_tail as tail;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Where state is kept unless the configuration says otherwise.
pub const STATE_DIR: &str = "/var/lib/auditship";

/// Everything that decides about a line.
pub struct Plan {
    /// Who ships.
    pub context: Context,
    /// What uids, samples and tokens are made with.
    pub keys: Keys,
    /// What may leave.
    pub redactor: Redactor,
    /// Where to, and what fraction.
    pub router: Router,
    /// The outputs, by name.
    pub outputs: Vec<OutputPlan>,
    /// Where state is kept.
    pub state_dir: PathBuf,
    /// One budget for all consumers, in bytes.
    pub memory: usize,
    /// The longest line, in bytes (of the first input).
    pub max_line: usize,
    /// How long a stop may take.
    pub shutdown_deadline: Duration,
}

/// One output, compiled.
#[derive(Clone)]
pub struct OutputPlan {
    /// Its name.
    pub name: String,
    /// Its place among the outputs.
    pub id: OutputId,
    /// What stands before it; `None` lets everything through.
    pub filter: Option<Arc<Filter>>,
    /// The code for its kind.
    pub sink: Arc<dyn Sink>,
    /// Where its operations go.
    pub transport: Transport,
    /// How it ships.
    pub options: Options,
    /// Which of the outputs takes what it does not, and after how long.
    pub fallback: Option<(usize, Duration)>,
}

impl Plan {
    /// Compiles `config`, whose mistakes `located` shows at their places.
    ///
    /// # Errors
    /// [`Failure::Usage`] with everything that is wrong with one part.
    pub fn compile(config: &Config, located: &Located, master: &[u8], host: &str) -> Result<Plan, Failure> {
        if config.outputs.is_empty() {
            let help = "add one, such as `outputs: {local: {type: dir, path: /var/log/auditship}}`";
            return Err(located.error_at(Path::top(), "there is no output", Some(help)).into());
        }
        let node = config.node.as_deref().unwrap_or(host);
        let keys = Keys::derive(master, &config.cluster);
        let redactor =
            Redactor::new(&config.redact, keys.clone()).map_err(|error| redact_error(located, &error))?;
        let filter = config.filter.clone().unwrap_or_default();
        let filter = Filter::compile(&filter).map_err(|error| {
            located.error_at(Path::from("filter").join(&error.path), &error.message, None)
        })?;
        let filter = Arc::new(filter);
        let names: Vec<String> = config.outputs.keys().cloned().collect();
        let routes = routes(config);
        let place = Place { cluster: &config.cluster, node };
        let router = Router::compile(&routes, &names, &place).map_err(|error| {
            located.error_at(Path::from("routes").join(&error.path), &error.message, None)
        })?;
        let context = Context::new(&config.cluster, node, keys.id());
        let mut outputs = Vec::new();
        for (name, output) in &config.outputs {
            let Some(id) = router.output(name) else { continue };
            outputs.push(OutputPlan::compile(name, output, id, &context, &filter, located)?);
        }
        for at in 0..outputs.len() {
            outputs[at].fallback = fallback(config, located, &outputs, at)?;
        }
        let max_line = config.inputs.values().map(max_line_of).max();
        Ok(Plan {
            context,
            keys,
            redactor,
            router,
            outputs,
            state_dir: config.state_dir.clone(),
            memory: usize::try_from(config.limits.memory.0).unwrap_or(usize::MAX),
            max_line: max_line.unwrap_or(tail::DEFAULT_LIMIT),
            shutdown_deadline: config.shutdown_deadline.0,
        })
    }

    /// What compiles and yet cannot be meant.
    pub fn warnings(config: &Config, located: &Located) -> Vec<Diagnostic> {
        let mut out: Vec<Diagnostic> = located.warnings().to_vec();
        let mut warn = |path: Path, message: &str| out.push(located.warning_at(path, message, None));
        if config.inputs.is_empty() {
            warn(Path::top(), "there is no input: `ship` needs none, but `run` does");
        }
        if let Some(filter) = &config.filter {
            for (path, message) in Filter::warnings(filter) {
                warn(Path::from("filter").join(&path), &message);
            }
        }
        if config.routes.is_some() {
            let names: Vec<String> = config.outputs.keys().cloned().collect();
            for (path, message) in Router::warnings(&routes(config), &names) {
                warn(Path::from("routes").join(&path), &message);
            }
        }
        for (at, rule) in config.redact.rules.iter().enumerate() {
            for (path, message) in Matcher::warnings(&rule.matches) {
                warn(Path::from("redact").key("rules").item(at).key("match").join(&path), &message);
            }
        }
        out
    }
}

impl OutputPlan {
    fn compile(
        name: &str,
        output: &Output,
        id: OutputId,
        context: &Context,
        filter: &Arc<Filter>,
        located: &Located,
    ) -> Result<OutputPlan, Failure> {
        let built = output.sink.build(context).map_err(|error| {
            let path = Path::from("outputs").key(name).join(error.path);
            located.error_at(path, &error.message, None)
        })?;
        let filter = (output.filter == FilterUse::Default).then(|| filter.clone());
        Ok(OutputPlan {
            name: name.to_owned(),
            id,
            filter,
            sink: built.sink,
            transport: built.transport,
            options: built.options,
            fallback: None,
        })
    }
}

/// The place among `outputs` of the one that output `at` falls back to.
fn fallback(
    config: &Config,
    located: &Located,
    outputs: &[OutputPlan],
    at: usize,
) -> Result<Option<(usize, Duration)>, Failure> {
    let name = &outputs[at].name;
    let Some(fallback) = config.outputs.get(name).and_then(|output| output.fallback.as_ref()) else {
        return Ok(None);
    };
    let path = Path::from("outputs").key(name).key("fallback").key("output");
    let found = outputs.iter().position(|other| other.name == fallback.output);
    match found {
        Some(other) if other == at => {
            Err(located.error_at(path, "an output cannot fall back to itself", None).into())
        }
        Some(other) => Ok(Some((other, fallback.after.0))),
        None => {
            let why = format!("there is no output {:?}", fallback.output);
            let names: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
            let help = format!("the outputs are {}", names.join(", "));
            Err(located.error_at(path, &why, Some(&help)).into())
        }
    }
}

/// The routes as written, or the built-in ones.
pub fn routes(config: &Config) -> Vec<RouteConfig> {
    config.routes.clone().unwrap_or_else(|| {
        let is_archive = |output: &Output| output.sink.kind().archive;
        let (archives, searches): (Vec<_>, Vec<_>) =
            config.outputs.iter().partition(|(_, output)| is_archive(output));
        let names = |list: Vec<(&String, &Output)>| {
            list.into_iter().map(|(name, _)| name.clone()).collect::<Vec<_>>()
        };
        default_routes(&names(archives), &names(searches))
    })
}

/// The same configuration with routes that keep all of what they would keep a fraction of.
pub fn unthinned(config: &Config) -> Config {
    let mut config = config.clone();
    let mut routes = routes(&config);
    for route in &mut routes {
        if Fraction::parse(&route.keep.0).is_ok_and(|keep| !keep.is_none()) {
            route.keep = KeepWord::default();
        }
    }
    // Built-in ones stay built in: nothing in them can be at fault, and a fault would have no place.
    config.routes = (config.routes.is_some() || !routes.is_empty()).then_some(routes);
    config
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure::Usage(error.to_string())
    }
}

/// A mistake in the redaction, at its place.
pub fn redact_error(located: &Located, error: &auditship_redact::Invalid) -> Failure {
    located.error_at(Path::from("redact").join(&error.at), &error.why, None).into()
}

/// The form of an input's lines.
pub fn format_of(input: &Input) -> tail::Format {
    let format = match input {
        Input::File(file) => file.format,
        Input::Stdin(stdin) => stdin.format,
    };
    match format {
        Format::Audit => tail::Format::Audit,
        Format::Cri => tail::Format::Cri,
        Format::Auto => tail::Format::Auto,
    }
}

fn max_line_of(input: &Input) -> usize {
    let limit = match input {
        Input::File(file) => file.max_line,
        Input::Stdin(stdin) => stdin.max_line,
    };
    usize::try_from(limit.0).unwrap_or(usize::MAX)
}

/// The inputs that are followed.
pub fn file_inputs(config: &Config) -> Vec<tail::Input> {
    config
        .inputs
        .iter()
        .filter_map(|(name, input)| {
            let Input::File(file) = input else { return None };
            Some(tail::Input {
                name: name.clone(),
                path: file.path.clone(),
                format: format_of(input),
                start_at: match file.start_at {
                    StartAt::Beginning => tail::StartAt::Beginning,
                    StartAt::End => tail::StartAt::End,
                    StartAt::Since(age) => tail::StartAt::Since(age.0),
                },
                max_line: max_line_of(input),
            })
        })
        .collect()
}

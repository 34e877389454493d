//! `cargo xtask e2e image`: the image made twice, looked into, and run as a node runs it: a root that is read-only, uid 0
//! without capabilities, the audit log's folder read-only beside a folder for the state.
//!
//! bubblewrap stands for the container runtime, and QEMU for a machine of another architecture. What is missing is the
//! rest of Kubernetes.

use super::dist::{self, Origin};
use super::oci::{self, Image};
use super::{CERTIFICATES, IMAGE_MAX_BYTES, USER, make, unpack};
use crate::apiserver::Pki;
use crate::backends::server::Server;
use crate::backends::tools;
use crate::corpus::{self, Corpus};
use crate::{http, repo};
use anyhow::{Context, Result, ensure};
use rustix::fs::{FileType, Mode};
use rustix::process::{Pid, Signal, kill_process};
use rustls::{ServerConnection, StreamOwned};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the agent may take for the whole log.
const LIMIT: Duration = Duration::from_secs(120);

/// Where the image's resolver asks: an address of this machine that nobody else uses.
const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 153);

/// A name that only our own name server knows.
const NAME: &str = "backend.auditship.test";

/// Where the emulator is put that runs another architecture's program.
const EMULATOR: &str = "/emulator";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// For which architectures, instead of this machine's. Another one's program is run by QEMU.
    #[arg(long, value_name = "ARCH")]
    arch: Vec<String>,
    /// A static binary that is there already; none is built then.
    #[arg(long, value_name = "ARCH=PATH", value_parser = super::given)]
    binary: Vec<(String, PathBuf)>,
}

/// Runs the tests.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut binaries = args.binary.clone();
    let native = [dist::native().to_owned()];
    let built: &[String] = match (&args.arch[..], &binaries[..]) {
        ([], []) => &native,
        (architectures, _) => architectures,
    };
    for architecture in built {
        match dist::binary(architecture)? {
            Ok(binary) => binaries.push((architecture.clone(), binary)),
            Err(reason) => println!("skipped: {architecture}: {reason}"),
        }
    }
    if binaries.is_empty() {
        return Ok(());
    }
    let origin = Origin::of_this_tree()?;
    let (archive, digest) = make(&binaries, &origin)?;
    ensure!(make(&binaries, &origin)?.0 == archive, "the same image again is another archive");
    let (images, found) = oci::read(&archive)?;
    ensure!(found == digest, "the archive names another digest: {found}");
    ensure!(images.len() == binaries.len(), "{} images instead of {}", images.len(), binaries.len());
    for image in &images {
        inspect(image, &origin)?;
        println!("linux/{}: {:.2} MB compressed", image.architecture, image.bytes as f64 / 1e6);
    }
    println!("{digest}, the same twice");
    let work = tempfile::tempdir().context("make a folder")?;
    in_a_registry(&archive, &digest, work.path())?;
    if let Some(reason) = no_namespaces()? {
        println!("skipped: {reason}");
        return Ok(());
    }
    let names = UdpSocket::bind((NAME_SERVER, 53)).context("listen for questions about names")?;
    std::thread::spawn(move || answer_names(&names));
    for image in &images {
        let emulator = match emulator(&image.architecture)? {
            Ok(emulator) => emulator,
            Err(reason) => {
                println!("skipped: linux/{} is not run: {reason}", image.architecture);
                continue;
            }
        };
        println!("linux/{}:", image.architecture);
        let root = Root::make(image, emulator, &work.path().join(&image.architecture))?;
        follows(&root, image)?;
        anybody(&root)?;
        connects(&root)?;
    }
    Ok(())
}

/// What runs the programs of an architecture, if that is not this machine's: QEMU's emulation of a user's program. Debian
/// has it; it is installed where that is possible.
fn emulator(architecture: &str) -> Result<Result<Option<PathBuf>, String>> {
    if architecture == dist::native() {
        return Ok(Ok(None));
    }
    let name = match architecture {
        "arm64" => "qemu-aarch64-static",
        _ => "qemu-x86_64-static",
    };
    let found = || {
        std::env::split_paths(&std::env::var_os("PATH")?)
            .map(|folder| folder.join(name))
            .find(|path| path.is_file())
    };
    if found().is_none()
        && let Err(reason) = tools::apt_install("qemu-user-static")?
    {
        return Ok(Err(format!("{name} cannot be had: {reason}")));
    }
    Ok(found().map(Some).ok_or_else(|| format!("{name} is not in PATH")))
}

/// Nothing is in the image that need not be, and it says what it is.
fn inspect(image: &Image, origin: &Origin) -> Result<()> {
    ensure!(image.bytes <= IMAGE_MAX_BYTES, "{} bytes compressed, more than {IMAGE_MAX_BYTES}", image.bytes);
    let paths: Vec<&str> =
        image.files.iter().filter(|entry| !entry.is_folder()).map(|entry| &*entry.path).collect();
    let wanted = [
        "etc/group",
        "etc/nsswitch.conf",
        "etc/passwd",
        CERTIFICATES,
        "usr/share/doc/auditship/LICENSE",
        "usr/share/doc/auditship/sbom.cdx.json",
        "bin/auditship",
    ];
    ensure!(paths == wanted, "the image holds {paths:?}");
    for entry in &image.files {
        ensure!(entry.mode & 0o7022 == 0, "{} has mode {:o}", entry.path, entry.mode);
        let owner = if entry.path == "var/lib/auditship/" { USER } else { 0 };
        ensure!(entry.owner == owner, "{} belongs to {}", entry.path, entry.owner);
    }
    let config = &image.config["config"];
    ensure!(
        config["Entrypoint"] == serde_json::json!(["/bin/auditship"]),
        "entry point {}",
        config["Entrypoint"]
    );
    ensure!(config["User"] == format!("{USER}:{USER}"), "user {}", config["User"]);
    for (name, value) in [
        ("version", &origin.version),
        ("revision", &origin.revision),
        ("created", &origin.created),
        ("source", &origin.source),
    ] {
        let label = format!("org.opencontainers.image.{name}");
        ensure!(config["Labels"][&label] == **value, "label {label} is {}", config["Labels"][&label]);
        ensure!(image.manifest["annotations"][&label] == **value, "the manifest has another {label}");
    }
    Ok(())
}

/// A real registry takes it, and knows it by the same digest.
fn in_a_registry(archive: &[u8], digest: &str, work: &Path) -> Result<()> {
    let crane = match tools::go_install("github.com/google/go-containerregistry/cmd/crane", "v0.22.1")? {
        Ok(crane) => crane,
        Err(reason) => {
            println!("skipped: no registry: {reason}");
            return Ok(());
        }
    };
    let layout = work.join("layout");
    std::fs::create_dir_all(&layout)?;
    for entry in super::tape::read(archive)? {
        let path = layout.join(&entry.path);
        match entry.is_folder() {
            true => std::fs::create_dir_all(&path)?,
            false => std::fs::write(&path, &entry.content)?,
        }
    }
    let addr = http::free_addr()?;
    let mut serve = Command::new(&crane);
    serve.args(["registry", "serve", "--address", &addr.to_string()]);
    let registry = Server::spawn(&mut serve, "registry", addr, work)?.ready("/v2/")?;
    let image = format!("{addr}/auditship:test");
    repo::run(
        Command::new(&crane).arg("push").arg(&layout).arg(&image).stdout(Stdio::null()).stderr(Stdio::null()),
    )?;
    let told = repo::output(Command::new(&crane).args(["digest", &image]))?;
    ensure!(told.trim() == digest, "the registry knows it as {}", told.trim());
    let validated =
        Command::new(&crane).args(["validate", "--remote", &image]).output().context("start crane")?;
    ensure!(validated.status.success(), "crane validate: {}", String::from_utf8_lossy(&validated.stderr));
    drop(registry);
    println!("a registry takes it and validates it under the same digest");
    Ok(())
}

/// Why nothing can be run in namespaces here. Installs bubblewrap where that is possible.
fn no_namespaces() -> Result<Option<String>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(Some("running the image as a node does needs root".to_owned()));
    }
    let works = || {
        let mut bwrap = Command::new("bwrap");
        bwrap.args(["--ro-bind", "/", "/", "--unshare-pid", "--unshare-net", "--cap-drop", "ALL", "true"]);
        tools::done(&mut bwrap)
    };
    if Command::new("bwrap").arg("--version").output().is_err()
        && let Err(reason) = tools::apt_install("bubblewrap")?
    {
        return Ok(Some(format!("bubblewrap (bwrap) cannot be had: {reason}")));
    }
    Ok(works()?.err())
}

/// The image's files, and the places that are mounted into it.
struct Root {
    root: PathBuf,
    /// Runs the program, where this machine cannot.
    emulator: Option<PathBuf>,
    log: PathBuf,
    lines: usize,
    state: PathBuf,
    config: PathBuf,
    work: PathBuf,
}

impl Root {
    fn make(image: &Image, emulator: Option<PathBuf>, work: &Path) -> Result<Root> {
        let places = Root {
            root: work.join("root"),
            emulator,
            log: work.join("log"),
            lines: 0,
            state: work.join("state"),
            config: work.join("config"),
            work: work.to_owned(),
        };
        std::fs::create_dir_all(&places.root)?;
        unpack(&image.files, &places.root)?;
        for folder in [&places.log, &places.state, &places.config] {
            std::fs::create_dir_all(folder)?;
            std::fs::set_permissions(folder, PermissionsExt::from_mode(0o700))?;
        }
        // A container runtime makes the places for its mounts itself.
        for folder in ["proc", "dev", "var/log/kubernetes/audit"] {
            std::fs::create_dir_all(places.root.join(folder))?;
        }
        for file in ["etc/resolv.conf", "etc/hosts"] {
            std::fs::write(places.root.join(file), "")?;
        }
        if let Some(emulator) = &places.emulator {
            std::fs::copy(emulator, places.root.join(&EMULATOR[1..])).context("copy the emulator")?;
        }
        let corpus = Corpus::read(&corpus::default_paths()[..1])?;
        let path = places.log.join("audit.log");
        let mut log = File::create(&path).context("create the log")?;
        for number in 0..corpus.len() {
            log.write_all(corpus.line(number)).context("write the log")?;
        }
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600))?;
        // All that is not written has its default: state, key, addresses, limits, redaction.
        let config = "inputs:\n  apiserver: {type: file, path: /var/log/kubernetes/audit/audit.log}\n\
            routes:\n  - {name: everything, index: audit, outputs: [archive]}\n\
            outputs:\n  archive: {type: dir, path: /var/lib/auditship/archive, batch: {age: 1s}}\n";
        std::fs::write(places.config.join("config.yaml"), config).context("write the configuration")?;
        Ok(Root { lines: corpus.len(), ..places })
    }

    /// The program as it is started in a container.
    fn program(&self) -> &'static [&'static str] {
        match self.emulator {
            Some(_) => &[EMULATOR, "/bin/auditship"],
            None => &["/bin/auditship"],
        }
    }

    /// A container with this image: uid 0 without capabilities and a root that is read-only.
    fn container(&self, image_config: &Value) -> Command {
        let mut command = Command::new("bwrap");
        let mut mount = |how: &str, from: &Path, to: &str| {
            command.arg(how).arg(from).arg(to);
        };
        mount("--ro-bind", &self.root, "/");
        mount("--ro-bind", &self.log, "/var/log/kubernetes/audit");
        mount("--bind", &self.state, "/var/lib/auditship");
        mount("--ro-bind", &self.config, "/etc/auditship");
        command.args(["--proc", "/proc", "--dev", "/dev", "--chdir", "/", "--clearenv"]);
        for variable in image_config["Env"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
            command.args(["--setenv", name, value]);
        }
        command.args([
            "--unshare-pid",
            "--unshare-ipc",
            "--unshare-uts",
            "--cap-drop",
            "ALL",
            "--die-with-parent",
        ]);
        command
    }
}

/// As a node runs it, with every default on: it follows the log, and leaves in good order.
fn follows(root: &Root, image: &Image) -> Result<()> {
    let config = &image.config["config"];
    // The entry point was looked at.
    let arguments = config["Cmd"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut command = root.container(config);
    // Alone in its network, so that the default address is free; the first process, as in a container.
    command.args(["--unshare-net", "--as-pid-1", "--info-fd", "1"]);
    command.args(root.program()).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    let said = root.work.join("agent.log");
    command.stderr(File::create(&said).context("create the agent's log")?);
    let mut container = Container(command.spawn().context("start bwrap")?);
    let pid = container.pid()?;
    let start = Instant::now();
    let archive = root.state.join("archive");
    let tell = || std::fs::read_to_string(&said).unwrap_or_default();
    let mut capabilities = None;
    loop {
        if let Some(status) = container.0.try_wait().context("look after the container")? {
            anyhow::bail!("the agent has ended by itself, {status}:\n{}", tell());
        }
        // Until the program is its own, the process is bwrap's.
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let name = status.lines().next().unwrap_or_default();
        if name == "Name:\tauditship" || (root.emulator.is_some() && name == "Name:\temulator") {
            capabilities = Some(status);
        }
        if archived(&archive)? == root.lines {
            break;
        }
        ensure!(start.elapsed() < LIMIT, "{} of {} lines:\n{}", archived(&archive)?, root.lines, tell());
        std::thread::sleep(Duration::from_millis(100));
    }
    let status = capabilities.context("the agent's process was never seen")?;
    for wanted in
        ["CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1", "Uid:\t0\t0\t0\t0"]
    {
        ensure!(status.contains(wanted), "expected {wanted:?} in\n{status}");
    }
    kill_process(Pid::from_raw(pid).context("a pid")?, Signal::TERM).context("end the agent")?;
    let ended = container.0.wait().context("wait for the container")?;
    ensure!(ended.success(), "the agent ended with {ended}:\n{}", tell());
    println!(
        "as root without capabilities, on a read-only root: all {} lines of a root-owned 0600 log are archived",
        root.lines
    );
    Ok(())
}

/// Records below a folder, compressed.
fn archived(folder: &Path) -> Result<usize> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(0) };
    let mut records = 0;
    for entry in entries {
        let path = entry.context("list the archive")?.path();
        if path.is_dir() {
            records += archived(&path)?;
        } else if path.to_string_lossy().ends_with(".ndjson.zst") {
            let packed = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            let text = zstd::stream::decode_all(&packed[..]).context("unpack an object")?;
            records += memchr::memchr_iter(b'\n', &text).count();
        }
    }
    Ok(records)
}

/// As the user that the image names, who owns nothing: a filter from standard input to standard output.
fn anybody(root: &Root) -> Result<()> {
    // Every container has this one: the kernel's random numbers (Linux' Documentation/admin-guide/devices.txt).
    let (random, everybody) = (root.root.join("dev/urandom"), Mode::from_raw_mode(0o666));
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &random,
        FileType::CharacterDevice,
        everybody,
        rustix::fs::makedev(1, 9),
    )
    .context("make /dev/urandom")?;
    let mut command = Command::new("chroot");
    command.arg(format!("--userspec={USER}:{USER}")).arg(&root.root).args(root.program()).arg("redact");
    command.stdin(File::open(root.log.join("audit.log")).context("open the log")?);
    let output = command.output().context("start chroot")?;
    ensure!(
        output.status.success(),
        "redact: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let lines = memchr::memchr_iter(b'\n', &output.stdout).count();
    ensure!(lines == root.lines, "{lines} of {} lines came back", root.lines);
    println!("as uid {USER}: redact gives {lines} lines back");
    Ok(())
}

/// Names are resolved by DNS, and the authorities in the image are those that are trusted.
fn connects(root: &Root) -> Result<()> {
    let pki = Pki::make_for(&root.work.join("pki"), &[NAME])?;
    let addr = serve_tls(pki.server()?)?;
    let config = format!(
        "inputs:\n  apiserver: {{type: file, path: /var/log/kubernetes/audit/audit.log}}\n\
         outputs:\n  search: {{type: elasticsearch, endpoint: \"https://{NAME}:{}\"}}\n",
        addr.port()
    );
    std::fs::write(root.config.join("connect.yaml"), config).context("write the configuration")?;
    let resolver = root.work.join("resolv.conf");
    std::fs::write(&resolver, format!("nameserver {NAME_SERVER}\n")).context("write resolv.conf")?;
    let check = |certificates: Option<PathBuf>| -> Result<(bool, String)> {
        let mut command = root.container(&Value::Null);
        command.arg("--ro-bind").arg(&resolver).arg("/etc/resolv.conf");
        if let Some(certificates) = certificates {
            command.arg("--ro-bind").arg(certificates).arg(format!("/{CERTIFICATES}"));
        }
        command.args(root.program()).args(["check", "--connect", "--config", "/etc/auditship/connect.yaml"]);
        let output = command.stdin(Stdio::null()).output().context("start bwrap")?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
    };
    let (success, text) = check(None)?;
    ensure!(!success && text.contains("certificate"), "an authority that nobody knows is trusted:\n{text}");
    let (success, text) = check(Some(pki.path("ca.crt")))?;
    ensure!(success, "the authorities in the image are not used, or the name is not found:\n{text}");
    println!("DNS is asked, and etc/ssl/certs decides who is trusted");
    Ok(())
}

/// Every name is this machine, in IPv4 (RFC 1035 §4.1).
fn answer_names(socket: &UdpSocket) {
    let mut question = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut question) {
        let Some(reply) = answer(&question[..length]) else { continue };
        // Who has gone does not need it.
        let _ = socket.send_to(&reply, from);
    }
}

fn answer(question: &[u8]) -> Option<Vec<u8>> {
    let end = 12 + question.get(12..)?.iter().position(|byte| *byte == 0)? + 1;
    let asked = question.get(12..end + 4)?;
    let is_a = question.get(end..end + 2)? == [0, 1];
    let mut reply = question.get(..2)?.to_vec();
    reply.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    reply.extend(asked);
    if is_a {
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    Some(reply)
}

/// A server that looks like Elasticsearch to whoever asks what it is.
fn serve_tls(config: Arc<rustls::ServerConfig>) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen")?;
    let addr = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            // An error is a client that does not trust us, or has gone.
            std::thread::spawn(move || serve_one(stream, config).ok());
        }
    });
    Ok(addr)
}

fn serve_one(stream: TcpStream, config: Arc<rustls::ServerConfig>) -> Result<()> {
    let mut stream = BufReader::new(StreamOwned::new(ServerConnection::new(config)?, stream));
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            ensure!(stream.read_until(b'\n', &mut head)? > 0, "the client has gone");
        }
        let body = r#"{"version":{"number":"8.17.0"},"tagline":"You Know, for Search"}"#;
        let head_only = head.starts_with(b"HEAD");
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-elastic-product: Elasticsearch\r\n\
             content-length: {}\r\n\r\n{}",
            body.len(),
            if head_only { "" } else { body }
        );
        stream.get_mut().write_all(answer.as_bytes())?;
        stream.get_mut().flush()?;
    }
}

/// A container, killed when dropped.
struct Container(Child);

impl Container {
    /// The process in it, as this machine knows it: bwrap tells in a few lines of JSON.
    fn pid(&mut self) -> Result<i32> {
        let mut text = String::new();
        let stdout = self.0.stdout.take().context("bwrap has a standard output")?;
        for byte in BufReader::new(stdout).bytes() {
            text.push(char::from(byte.context("read what bwrap tells")?));
            if text.ends_with('}') {
                break;
            }
        }
        let told: Value = serde_json::from_str(&text).with_context(|| format!("bwrap told {text:?}"))?;
        told["child-pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).context("bwrap told no pid")
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // An error means that it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_answered() {
        let question = |kind: u8| {
            let mut bytes = vec![7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 4];
            bytes.extend(b"test\0");
            bytes.extend([0, kind, 0, 1]);
            bytes
        };
        let reply = answer(&question(1)).unwrap();
        assert_eq!((&reply[..2], reply[7], &reply[reply.len() - 4..]), (&[7, 9][..], 1, &[127, 0, 0, 1][..]));
        let reply = answer(&question(28)).unwrap();
        assert_eq!((reply[7], reply.len()), (0, question(28).len()));
        assert_eq!(answer(&[0; 12]), None);
    }
}

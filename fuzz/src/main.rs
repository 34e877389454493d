//! The driver that needs no nightly compiler: `auditship-fuzz TARGET SECONDS SEED`. `cargo xtask fuzz` starts it.
//!
//! It mutates the corpus without a guide. An input that makes a target panic is written to `artifacts/`.
#![expect(clippy::disallowed_methods, reason = "it is bounded by time and writes what it finds")]

use anyhow::{Context, Result, bail};
use auditship_fuzz::{TARGETS, corpus, mutate};
use std::panic::catch_unwind;
use std::path::Path;
use std::time::{Duration, Instant};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, seconds, seed] = &arguments[..] else { bail!("usage: auditship-fuzz TARGET SECONDS SEED") };
    let limit = Duration::try_from_secs_f64(seconds.parse().context("understand SECONDS")?)?;
    let seed: u64 = seed.parse().context("understand SEED")?;
    let target = TARGETS.iter().find(|target| target.name == name).context("find the target")?;
    let inputs = corpus::read(name).context("read the corpus")?;
    let mut rng = fastrand::Rng::with_seed(seed);
    let (start, mut tried) = (Instant::now(), 0u64);
    let mutations =
        std::iter::from_fn(|| (start.elapsed() < limit).then(|| mutate::input(&inputs, &mut rng)));
    for input in inputs.iter().cloned().chain(mutations) {
        tried += 1;
        if catch_unwind(|| (target.run)(&input)).is_err() {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("artifacts").join(name);
            std::fs::create_dir_all(&folder).context("make the folder for what is found")?;
            let file = folder.join(format!("seed-{seed}-input-{tried}"));
            std::fs::write(&file, &input).context("write what is found")?;
            bail!("{name}: input {tried} of seed {seed} fails; it is in {}", file.display());
        }
    }
    println!("{name}: {tried} inputs, nothing found (seed {seed})");
    Ok(())
}

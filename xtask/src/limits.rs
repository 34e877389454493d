//! What a part of the work costs alone, as a measure for the whole: compressing the bodies that the agent sent, and
//! parsing its input into document trees as other shippers do. `bench` runs this as a release build.

use crate::measure::thread_cpu;
use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A compression, at level 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Codec {
    /// gzip, level 1
    Gzip,
    /// zstd, level 1
    Zstd,
}

impl Codec {
    /// As the configuration spells it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Codec::Gzip => "gzip",
            Codec::Zstd => "zstd",
        }
    }
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Compress the bodies in this file, each after its length in eight bytes.
    #[arg(long, requires = "codec")]
    bodies: Option<PathBuf>,
    #[arg(long)]
    codec: Option<Codec>,
    /// Parse every line of this file.
    #[arg(long)]
    lines: Option<PathBuf>,
    /// Inflate these gzip files.
    #[arg(long, num_args = 1..)]
    inflate: Vec<PathBuf>,
}

/// Prints one line of JSON for each thing asked: seconds of processor time, and bytes in and out.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let (Some(path), Some(codec)) = (&args.bodies, args.codec) {
        println!("{}", compress(path, codec).with_context(|| format!("compress {}", path.display()))?);
    }
    if let Some(path) = &args.lines {
        println!("{}", parse(path).with_context(|| format!("parse {}", path.display()))?);
    }
    if !args.inflate.is_empty() {
        println!("{}", inflate(&args.inflate)?);
    }
    Ok(())
}

fn compress(path: &Path, codec: Codec) -> Result<Value> {
    let mut file = BufReader::new(File::open(path)?);
    let (mut raw, mut packed) = (Vec::new(), Vec::new());
    let mut zstd = zstd::bulk::Compressor::new(1)?;
    let (mut spent, mut bytes_in, mut bytes_out) = (Duration::ZERO, 0, 0);
    while !file.fill_buf()?.is_empty() {
        let mut length = [0; 8];
        file.read_exact(&mut length)?;
        raw.resize(usize::try_from(u64::from_le_bytes(length))?, 0);
        file.read_exact(&mut raw)?;
        packed.clear();
        let start = thread_cpu();
        match codec {
            Codec::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(&mut packed, flate2::Compression::new(1));
                encoder.write_all(&raw)?;
                encoder.finish()?;
            }
            Codec::Zstd => {
                packed.reserve(zstd::zstd_safe::compress_bound(raw.len()));
                zstd.compress_to_buffer(&raw, &mut packed)?;
            }
        }
        spent += thread_cpu() - start;
        bytes_in += raw.len();
        bytes_out += packed.len();
    }
    ensure!(bytes_in > 0, "there is nothing in it");
    Ok(json!({"seconds": spent.as_secs_f64(), "in": bytes_in, "out": bytes_out}))
}

fn parse(path: &Path) -> Result<Value> {
    let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
    let (mut line, mut spent) = (Vec::new(), Duration::ZERO);
    let (mut bytes_in, mut refused) = (0, 0);
    while file.read_until(b'\n', &mut line)? > 0 {
        let start = thread_cpu();
        let tree = serde_json::from_slice::<Value>(&line);
        // Taking the tree down is part of its price.
        refused += u64::from(std::hint::black_box(tree).is_err());
        spent += thread_cpu() - start;
        bytes_in += line.len();
        line.clear();
    }
    Ok(json!({"seconds": spent.as_secs_f64(), "in": bytes_in, "refused": refused}))
}

/// Reading the files included: they are small, and nobody can inflate them without.
fn inflate(paths: &[PathBuf]) -> Result<Value> {
    let (mut buffer, mut bytes_out) = (vec![0; 1 << 18], 0);
    let start = thread_cpu();
    for path in paths {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        let mut decoder = flate2::read::MultiGzDecoder::new(BufReader::with_capacity(1 << 16, file));
        loop {
            let read = decoder.read(&mut buffer).with_context(|| format!("inflate {}", path.display()))?;
            if read == 0 {
                break;
            }
            bytes_out += std::hint::black_box(&buffer[..read]).len();
        }
    }
    let spent = thread_cpu() - start;
    Ok(json!({"seconds": spent.as_secs_f64(), "out": bytes_out}))
}

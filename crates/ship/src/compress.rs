//! Compression of bodies: one compressor kept per consumer, and decompression for the rare split.
//!
//! A body may be several zstd frames (RFC 8878 §3) or gzip members (RFC 1952 §2.2) one after the other: every
//! reader of either format must take that for one stream. The output depends on the input alone (no time, no
//! name in the header), so that equal batches are equal bytes. Snappy's raw block is one whole and joins nothing: it is
//! for requests alone.

use flate2::{Compress, Compression, FlushCompress, Status};
use std::io::{self, Read};

/// How a body is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// Not at all.
    None,
    /// gzip, level 1: taken nearly everywhere.
    #[default]
    Gzip,
    /// zstd, level 1: smaller and several times cheaper than gzip, where the backend takes it.
    Zstd,
    /// One raw block of snappy, which Loki wants around protobuf. Nobody can ask for it: the sink does.
    #[serde(skip)]
    Snappy,
}

impl Encoding {
    /// The value of `Content-Encoding` (RFC 9110 §8.4.1; `zstd` is RFC 8878 §7.2).
    pub fn content_encoding(self) -> Option<&'static str> {
        match self {
            Encoding::None => None,
            Encoding::Gzip => Some("gzip"),
            Encoding::Zstd => Some("zstd"),
            // It goes with the content type (Loki's push API), and is not HTTP's matter.
            Encoding::Snappy => None,
        }
    }

    /// How the file of this name is compressed.
    pub fn of_name(name: &str) -> Encoding {
        match name.rsplit_once('.') {
            Some((_, "gz")) => Encoding::Gzip,
            Some((_, "zst")) => Encoding::Zstd,
            _ => Encoding::None,
        }
    }

    /// What a file's name ends with.
    pub fn extension(self) -> &'static str {
        match self {
            Encoding::None => "",
            Encoding::Gzip => ".gz",
            Encoding::Zstd => ".zst",
            Encoding::Snappy => ".snappy",
        }
    }
}

/// The level for both codecs: audit events are so repetitive that higher ones cost much and win little.
const LEVEL: i32 = 1;

/// Largest buffer that is kept for the next batch.
const KEEP_BYTES: usize = 4 << 20;

/// An upper bound of what `len` bytes become, whatever they hold. zstd documents `ZSTD_COMPRESS_BOUND`
/// (`zstd.h`), zlib's bound is smaller than this (`compressBound`, `zlib.h`; stored blocks cost 5 in 16 KiB).
pub(crate) fn bound(len: usize) -> usize {
    len + (len >> 8) + 512
}

/// A compressor whose tables and buffer are reused from batch to batch.
pub(crate) struct Compressor {
    codec: Codec,
    buffer: Vec<u8>,
}

enum Codec {
    None,
    Gzip(Box<Compress>),
    Zstd(Box<zstd::bulk::Compressor<'static>>),
    Snappy(Box<snap::raw::Encoder>),
}

impl Compressor {
    pub(crate) fn new(encoding: Encoding) -> Compressor {
        let codec = match encoding {
            Encoding::None => Codec::None,
            Encoding::Gzip => Codec::Gzip(Box::new(Compress::new_gzip(Compression::new(LEVEL as u32), 15))),
            Encoding::Zstd => Codec::Zstd(Box::new(
                zstd::bulk::Compressor::new(LEVEL).expect("level 1 is valid; only memory can be missing"),
            )),
            Encoding::Snappy => Codec::Snappy(Box::new(snap::raw::Encoder::new())),
        };
        Compressor { codec, buffer: Vec::new() }
    }

    /// `raw` as one whole frame or member, valid until the next call.
    pub(crate) fn frame<'a>(&'a mut self, raw: &'a [u8]) -> &'a [u8] {
        self.buffer.clear();
        if self.buffer.capacity() > KEEP_BYTES {
            // One very long line must not cost memory for ever.
            self.buffer = Vec::new();
        }
        match &mut self.codec {
            Codec::None => return raw,
            Codec::Gzip(gzip) => {
                gzip.reset();
                self.buffer.reserve(bound(raw.len()));
                gzip_into(gzip, raw, &mut self.buffer);
            }
            Codec::Zstd(zstd) => {
                self.buffer.reserve(bound(raw.len()));
                zstd.compress_to_buffer(raw, &mut self.buffer)
                    .expect("the buffer is as large as zstd's bound; only memory can be missing");
            }
            Codec::Snappy(snappy) => {
                self.buffer.resize(snap::raw::max_compress_len(raw.len()), 0);
                let len = snappy.compress(raw, &mut self.buffer);
                self.buffer
                    .truncate(len.expect("the buffer is as large as snappy's bound, a batch below 4 GiB"));
            }
        }
        &self.buffer
    }

    /// Bytes that the buffer holds on to.
    pub(crate) fn held_bytes(&self) -> usize {
        self.buffer.capacity()
    }
}

fn gzip_into(gzip: &mut Compress, raw: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    loop {
        let before = gzip.total_in();
        let status =
            gzip.compress_vec(&raw[at..], out, FlushCompress::Finish).expect("deflate takes any bytes");
        // At most the slice just passed, so it fits.
        at += (gzip.total_in() - before) as usize;
        match status {
            Status::StreamEnd => return,
            Status::Ok | Status::BufError => out.reserve(4096),
        }
    }
}

/// The raw bytes of a body of `raw_len` bytes.
///
/// # Errors
/// Where the body is not what the [`Compressor`] made: never, unless memory is damaged.
pub(crate) fn decompress(encoding: Encoding, body: &[u8], raw_len: usize) -> io::Result<Vec<u8>> {
    let mut raw = Vec::with_capacity(raw_len);
    // One byte more than expected, to see that it ends there.
    let limit = raw_len as u64 + 1;
    match encoding {
        Encoding::None => raw.extend_from_slice(body),
        Encoding::Gzip => {
            flate2::read::MultiGzDecoder::new(body).take(limit).read_to_end(&mut raw)?;
        }
        Encoding::Zstd => {
            zstd::stream::read::Decoder::with_buffer(body)?.take(limit).read_to_end(&mut raw)?;
        }
        Encoding::Snappy => raw = snap::raw::Decoder::new().decompress_vec(body)?,
    }
    if raw.len() == raw_len { Ok(raw) } else { Err(io::ErrorKind::InvalidData.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snappy_is_one_block() {
        let mut compressor = Compressor::new(Encoding::Snappy);
        for raw in [&b""[..], b"hello hello hello hello hello", &[7; 300_000]] {
            let block = compressor.frame(raw).to_vec();
            assert_eq!(decompress(Encoding::Snappy, &block, raw.len()).unwrap(), raw);
            assert!(decompress(Encoding::Snappy, &block, raw.len() + 1).is_err());
            assert_eq!(Compressor::new(Encoding::Snappy).frame(raw), block, "it is deterministic");
        }
        assert!(serde_json::from_str::<Encoding>("\"snappy\"").is_err());
    }

    #[test]
    fn frames_and_members_join() {
        // A multiplicative sequence does not compress: it exercises the bound.
        let noise: Vec<u8> = (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for encoding in [Encoding::None, Encoding::Gzip, Encoding::Zstd] {
            let mut compressor = Compressor::new(encoding);
            let mut body = Vec::new();
            let mut raw = Vec::new();
            for part in [&b"hello hello hello"[..], b"", &noise, b"end"] {
                let frame = compressor.frame(part);
                assert!(frame.len() <= bound(part.len()));
                body.extend_from_slice(frame);
                raw.extend_from_slice(part);
            }
            assert_eq!(decompress(encoding, &body, raw.len()).unwrap(), raw);
            assert!(decompress(encoding, &body, raw.len() - 1).is_err());
            let again = Compressor::new(encoding).frame(&noise).to_vec();
            assert_eq!(compressor.frame(&noise), again, "{encoding:?} is deterministic");
        }
    }
}

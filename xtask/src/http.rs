//! A client for servers on the loopback interface: one request a connection, no TLS, no redirects.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Longer than any answer takes that is worth waiting for.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A request and its answer: status and body.
pub(crate) fn request(
    addr: SocketAddr,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Result<(u16, Vec<u8>)> {
    let mut stream =
        TcpStream::connect_timeout(&addr, TIMEOUT).with_context(|| format!("connect to {addr}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let body = body.map(Value::to_string).unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).with_context(|| format!("read the answer to {method} {path}"))?;
    parse(&answer).with_context(|| format!("understand the answer to {method} {path}"))
}

/// The same for an answer that must be 2xx and JSON.
pub(crate) fn json(addr: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let (status, answer) = request(addr, method, path, body)?;
    if !(200..300).contains(&status) {
        bail!("{method} {path}: {status} {}", String::from_utf8_lossy(&answer));
    }
    serde_json::from_slice(&answer).with_context(|| format!("read the JSON that {method} {path} answered"))
}

/// A port of 127.0.0.1 for a server that is killed and comes back: none that a client's connection could get
/// meanwhile (`net.ipv4.ip_local_port_range` begins at 32,768 by default).
pub(crate) fn lasting_addr() -> Result<SocketAddr> {
    for _ in 0..100 {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, fastrand::u16(15_000..32_000)));
        if TcpListener::bind(addr).is_ok() {
            return Ok(addr);
        }
    }
    bail!("find a free port below 32,000")
}

/// A port of 127.0.0.1 which was free a moment ago.
pub(crate) fn free_addr() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    Ok(listener.local_addr()?)
}

fn parse(answer: &[u8]) -> Result<(u16, Vec<u8>)> {
    let end = memchr::memmem::find(answer, b"\r\n\r\n").context("it has no end of the head")?;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("it has no status")?;
    let body = &answer[end + 4..];
    match head.lines().any(|line| line.starts_with("transfer-encoding:") && line.contains("chunked")) {
        true => Ok((status, unchunked(body)?)),
        false => Ok((status, body.to_vec())),
    }
}

fn unchunked(mut body: &[u8]) -> Result<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let end = memchr::memmem::find(body, b"\r\n").context("a chunk has no size")?;
        let size = std::str::from_utf8(&body[..end])?;
        let size = usize::from_str_radix(size.split(';').next().unwrap_or(size).trim(), 16)?;
        if size == 0 {
            return Ok(whole);
        }
        whole.extend_from_slice(body.get(end + 2..end + 2 + size).context("a chunk is cut")?);
        body = body.get(end + 4 + size..).context("a chunk is cut")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let plain = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(parse(plain).unwrap(), (200, b"{}".to_vec()));
        let chunked = b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n";
        assert_eq!(parse(chunked).unwrap(), (404, b"abcd".to_vec()));
        assert!(parse(b"HTTP/1.1 200 OK\r\n").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nabc").is_err());
    }
}

//! A client of the API server: HTTP/1.1 over TLS, one connection that is kept, requests byte for byte as they are given.
//!
//! It refuses to hide anything: no redirects, no retries. After an error the connection is made anew by the next request.

use anyhow::{Context, Result, bail, ensure};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// Longer than any answer takes that is worth waiting for.
const TIMEOUT: Duration = Duration::from_secs(20);

type Connection = BufReader<StreamOwned<ClientConnection, TcpStream>>;

/// A request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    /// The path with its query, as it goes over the wire.
    pub(crate) target: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    /// Its media type, and the bytes.
    pub(crate) body: Option<(&'static str, Vec<u8>)>,
}

/// What was answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The request's audit ID, which the API server tells in every answer.
    pub(crate) audit_id: Option<String>,
    pub(crate) body: Vec<u8>,
}

/// A client with at most one connection.
pub(crate) struct Client {
    addr: SocketAddr,
    tls: Arc<ClientConfig>,
    connection: Option<Connection>,
}

impl Client {
    pub(crate) fn new(addr: SocketAddr, tls: Arc<ClientConfig>) -> Client {
        Client { addr, tls, connection: None }
    }

    /// Sends a request and reads its answer to the end.
    pub(crate) fn send(&mut self, request: &Request) -> Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let context =
            || format!("{} {}", request.method, request.target.split('?').next().unwrap_or_default());
        connection.get_mut().write_all(&self.written(request)).with_context(context)?;
        connection.get_mut().flush().with_context(context)?;
        let (answer, close) = read(&mut connection).with_context(context)?;
        if !close {
            self.connection = Some(connection);
        }
        Ok(answer)
    }

    /// `GET` with no more than the path.
    pub(crate) fn get(&mut self, target: &str) -> Result<Answer> {
        self.send(&Request { method: "GET", target: target.to_owned(), ..Request::default() })
    }

    fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect_timeout(&self.addr, TIMEOUT).context("connect to the API server")?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
        let session = ClientConnection::new(Arc::clone(&self.tls), name)?;
        Ok(BufReader::new(StreamOwned::new(session, stream)))
    }

    fn written(&self, request: &Request) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\nhost: {}\r\n", request.method, request.target, self.addr);
        for (name, value) in &request.headers {
            text += &format!("{name}: {value}\r\n");
        }
        if let Some((media_type, body)) = &request.body {
            text += &format!("content-type: {media_type}\r\ncontent-length: {}\r\n", body.len());
        }
        text += "\r\n";
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(request.body.as_ref().map_or(&[][..], |(_, body)| body));
        bytes
    }
}

/// One answer, and whether the connection ends with it.
fn read(from: &mut impl BufRead) -> Result<(Answer, bool)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(from.read_until(b'\n', &mut head)? > 0, "the connection has ended in mid-answer");
    }
    let head = String::from_utf8_lossy(&head);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
    let header = |name: &str| {
        head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    let mut body = Vec::new();
    if header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        read_chunks(from, &mut body)?;
    } else if let Some(length) = header("content-length") {
        body.resize(length.parse().context("understand the length")?, 0);
        from.read_exact(&mut body)?;
    } else if !matches!(status, 100..200 | 204 | 304) {
        bail!("an answer without length");
    }
    let close = header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    Ok((Answer { status, audit_id: header("audit-id").map(str::to_owned), body }, close))
}

fn read_chunks(from: &mut impl BufRead, body: &mut Vec<u8>) -> Result<()> {
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
            .context("understand the size of a chunk")?;
        let at = body.len();
        body.resize(at + size, 0);
        from.read_exact(&mut body[at..])?;
        line.clear();
        from.read_line(&mut line)?;
        ensure!(line.trim().is_empty(), "trailers are not read");
        if size == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let mut bytes =
            &b"HTTP/1.1 201 Created\r\nAudit-Id: a1\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n\
            Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n"[..];
        let (first, close) = read(&mut bytes).unwrap();
        assert_eq!(
            (first.status, first.audit_id.as_deref(), &first.body[..], close),
            (201, Some("a1"), &b"{}"[..], false)
        );
        let (second, close) = read(&mut bytes).unwrap();
        assert_eq!((second.status, &second.body[..], close), (200, &b"abc"[..], true));
        assert!(read(&mut bytes).is_err());
        assert!(read(&mut &b"HTTP/1.1 200 OK\r\n\r\n"[..]).is_err());
    }
}

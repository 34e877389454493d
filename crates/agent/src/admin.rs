//! The admin listener: `/metrics`, `/healthz`, `/readyz`, `/status`. A door: it owns a socket.
//!
//! It only reads. `/healthz` answers while the process turns; `/readyz` answers 503 with the reasons while
//! something should be looked at (an output held, a state directory that cannot be written): degraded is not dead.

use crate::metrics;
use crate::status::Status;
use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Starts listening; the task ends with its runtime. Returns the address (port 0 picks one).
///
/// # Errors
/// The address cannot be bound.
pub async fn listen(
    address: SocketAddr,
    status: Arc<Status>,
    started: Instant,
) -> anyhow::Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address} (admin.listen)"))?;
    let address = listener.local_addr().context("read the admin listener's address")?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => serve(stream, status.clone(), started),
                // Out of descriptors: others need them more.
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    });
    Ok(address)
}

fn serve(stream: tokio::net::TcpStream, status: Arc<Status>, started: Instant) {
    tokio::spawn(async move {
        let service = service_fn(move |request| answer(request, status.clone(), started));
        // A peer that goes away is no concern of ours.
        let _ = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(10))
            .serve_connection(TokioIo::new(stream), service)
            .await;
    });
}

async fn answer(
    request: Request<Incoming>,
    status: Arc<Status>,
    started: Instant,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (code, kind, body) = match request.uri().path() {
        "/metrics" => (
            StatusCode::OK,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            metrics::text(&status),
        ),
        "/healthz" => (StatusCode::OK, TEXT, "ok\n".to_owned()),
        "/readyz" => ready(&status),
        "/status" => match serde_json::to_string_pretty(&status.report(started.elapsed())) {
            Ok(json) => (StatusCode::OK, "application/json", json + "\n"),
            Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, TEXT, String::new()),
        },
        _ => (StatusCode::NOT_FOUND, TEXT, "try /metrics, /healthz, /readyz or /status\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = code;
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    Ok(response)
}

const TEXT: &str = "text/plain; charset=utf-8";

fn ready(status: &Status) -> (StatusCode, &'static str, String) {
    let degraded = status.degraded();
    if degraded.is_empty() {
        return (StatusCode::OK, TEXT, "ok\n".to_owned());
    }
    let reasons: String = degraded.iter().map(|(what, why)| format!("{what}: {why}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, TEXT, reasons)
}

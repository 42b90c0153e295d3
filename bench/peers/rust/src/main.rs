//! The webhook endpoint as a program in Rust: hyper on a tokio with one thread,
//! serde_json, one pipelined connection to Redis, and the module's own script.
//!
//! What is left out is in docs/performance.md, "How it is measured".

mod event;
mod redis;

use std::cell::RefCell;
use std::convert::Infallible;
use std::env;
use std::fs;
use std::future::Future;
use std::rc::Rc;

use hyper::header::{HeaderMap, HeaderValue, ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use hyper::server::conn::Http;
use hyper::service::service_fn;
use hyper::{Body, Method, Request, Response, StatusCode};
use tokio::net::TcpListener;
use tokio::task::LocalSet;

use event::{transition_args, Event, Problem, Table};
use redis::{Command, Redis, Reply};

const PATH: &str = "/vaani/webhook";
const MAX_BODY: u64 = 8 * 1024 * 1024;

struct App {
    table: Table,
    script: Vec<u8>,
    sha: RefCell<String>,
    redis: Rc<Redis>,
}

#[derive(Clone)]
struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async { drop(future.await) });
    }
}

fn header<'a>(headers: &'a HeaderMap, name: impl hyper::header::AsHeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

fn is_json(header: &str) -> bool {
    let header = header.to_ascii_lowercase();
    let mut parts = header.split(';');
    let essence = parts.next().unwrap_or("").trim();

    let known = match essence.split_once('/') {
        Some(("application", subtype)) => subtype == "json" || subtype.ends_with("+json"),
        Some(("text", subtype)) => subtype == "json",
        _ => false,
    };

    known && parts.all(|parameter| match parameter.trim().strip_prefix("charset=") {
        Some(charset) => matches!(charset.trim_matches('"'), "utf-8" | "utf8" | "us-ascii" | "ascii"),
        None => true,
    })
}

fn check_headers(request: &Request<Body>) -> Result<(), Problem> {
    if request.method() != Method::POST {
        return Err(Problem::new(405, "the method must be POST"));
    }

    let content_type = header(request.headers(), CONTENT_TYPE);
    let encoding = header(request.headers(), CONTENT_ENCODING).to_ascii_lowercase();

    if !matches!(content_type, "" | "application/json") && !is_json(content_type)
        || !matches!(&encoding[..], "" | "identity" | "none" | "utf-8")
    {
        return Err(Problem::new(415, "the media type must be application/json"));
    }

    if header(request.headers(), CONTENT_LENGTH).parse().map_or(false, |len: u64| len > MAX_BODY) {
        return Err(Problem::new(413, "the body is too large"));
    }

    Ok(())
}

impl App {
    async fn load(&self) -> Result<(), String> {
        let mut command = Command::new("SCRIPT");

        command.arg("LOAD");
        command.arg(&self.script);

        match self.redis.send(command).await? {
            Reply::Text(sha) => *self.sha.borrow_mut() = sha,
            other => return Err(format!("SCRIPT LOAD: {other:?}")),
        }

        Ok(())
    }

    async fn evaluate(&self, event: &Event<'_>, body: &[u8], id: Option<&str>) -> Result<Reply, String> {
        let evalsha = || {
            let mut command = Command::new("EVALSHA");

            command.arg(&*self.sha.borrow());
            transition_args(&mut command, &self.table, event, body, id);
            command
        };

        match self.redis.send(evalsha()).await {
            Err(error) if error.starts_with("NOSCRIPT") => {
                self.load().await?;
                self.redis.send(evalsha()).await
            }
            other => other,
        }
    }

    async fn deliver(&self, request: Request<Body>) -> Result<&'static str, Problem> {
        check_headers(&request)?;

        let (head, body) = request.into_parts();
        let body = hyper::body::to_bytes(body).await
            .map_err(|_| Problem::new(400, "the body is not complete"))?;

        let value = serde_json::from_slice(&body).map_err(|_| Problem::new(400, "the body must be JSON"))?;
        let event = Event::read(&self.table, &value)?;
        let id = Some(header(&head.headers, "webhook-id")).filter(|id| !id.is_empty());

        let mut reply = self.evaluate(&event, &body, id).await.map_err(|error| {
            eprintln!("Redis: {error}");
            Problem::new(503, "the event could not be stored")
        })?;

        if let Reply::Array(replies) = reply {
            reply = replies.into_iter().next().unwrap_or(Reply::Nil);
        }

        Ok(match reply {
            Reply::Integer(0) => "{\"status\":\"duplicate\"}\n",
            Reply::Integer(-1) => "{\"status\":\"ok\",\"known\":false}\n",
            _ => "{\"status\":\"ok\"}\n",
        })
    }

    async fn handle(self: Rc<App>, request: Request<Body>) -> Result<Response<Body>, Infallible> {
        if request.uri().path() != PATH {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_FOUND;
            return Ok(response);
        }

        Ok(match self.deliver(request).await {
            Ok(text) => {
                let mut response = Response::new(Body::from(text));
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                response
            }
            Err(problem) => answer_problem(&problem),
        })
    }
}

fn answer_problem(problem: &Problem) -> Response<Body> {
    let status = StatusCode::from_u16(problem.status).unwrap();
    let mut document = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason(),
        "status": problem.status,
        "detail": problem.detail,
    });

    if let Some(field) = problem.field {
        document["field"] = format!("/{field}").into();
    }

    let mut response = Response::new(Body::from(document.to_string()));
    let headers = response.headers_mut();

    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));

    match problem.status {
        405 => drop(headers.insert(ALLOW, HeaderValue::from_static("POST"))),
        503 => drop(headers.insert(RETRY_AFTER, HeaderValue::from_static("1"))),
        _ => {}
    }

    *response.status_mut() = status;
    response
}

async fn serve() {
    let variable = |name| env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));

    let app = Rc::new(App {
        table: Table::read(&variable("BENCH_TABLE")),
        script: fs::read(variable("BENCH_SCRIPT")).unwrap(),
        sha: RefCell::default(),
        redis: Redis::connect(variable("BENCH_REDIS")),
    });

    app.load().await.unwrap();

    let port: u16 = variable("BENCH_PORT").parse().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();

    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let app = app.clone();

        stream.set_nodelay(true).unwrap();

        tokio::task::spawn_local(
            Http::new()
                .with_executor(LocalExecutor)
                .http1_only(true)
                .serve_connection(stream, service_fn(move |request| app.clone().handle(request))),
        );
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();

    LocalSet::new().block_on(&runtime, serve());
}

//! One connection to Redis: the commands of all requests that are served in a
//! turn of the event loop leave in one write.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::UnixStream;
use tokio::sync::{oneshot, Notify};

const RECONNECT: Duration = Duration::from_millis(100);
const READ_SIZE: usize = 64 * 1024;

#[derive(Debug)]
pub enum Reply {
    Integer(i64),
    Text(String),
    Array(Vec<Reply>),
    Nil,
    Error(String),
}

/// A command as Redis reads it, but for the line that says how many arguments it has.
#[derive(Default)]
pub struct Command {
    bytes: Vec<u8>,
    args: usize,
}

impl Command {
    pub fn new(name: &str) -> Command {
        let mut command = Command { bytes: Vec::with_capacity(1024), args: 0 };

        command.arg(name);
        command
    }

    pub fn arg(&mut self, arg: impl AsRef<[u8]>) {
        let arg = arg.as_ref();

        write_len(&mut self.bytes, b'$', arg.len());
        self.bytes.extend_from_slice(arg);
        self.bytes.extend_from_slice(b"\r\n");
        self.args += 1;
    }

    pub fn number(&mut self, number: u64) {
        self.arg(itoa::Buffer::new().format(number));
    }
}

#[derive(Default)]
pub struct Redis {
    out: RefCell<Vec<u8>>,
    waiting: RefCell<VecDeque<oneshot::Sender<Reply>>>,
    ready: Notify,
}

impl Redis {
    /// Connects, and again whenever the connection is lost.
    pub fn connect(path: String) -> Rc<Redis> {
        let redis = Rc::new(Redis::default());
        let other = redis.clone();

        tokio::task::spawn_local(async move {
            loop {
                let error = match UnixStream::connect(&path).await {
                    Ok(stream) => other.serve(stream).await,
                    Err(error) => error,
                };

                eprintln!("Redis: {error}");

                // who waits is told by that its sender is gone
                other.waiting.borrow_mut().clear();
                other.out.borrow_mut().clear();
                tokio::time::sleep(RECONNECT).await;
            }
        });

        redis
    }

    pub async fn send(&self, command: Command) -> Result<Reply, String> {
        let (sender, receiver) = oneshot::channel();

        write_len(&mut self.out.borrow_mut(), b'*', command.args);
        self.out.borrow_mut().extend_from_slice(&command.bytes);
        drop(command);
        self.waiting.borrow_mut().push_back(sender);
        self.ready.notify_one();

        match receiver.await {
            Ok(Reply::Error(error)) => Err(error),
            Ok(reply) => Ok(reply),
            Err(_) => Err("the connection was lost".to_string()),
        }
    }

    async fn serve(&self, stream: UnixStream) -> io::Error {
        let (input, output) = stream.into_split();

        let result = tokio::select! {
            result = self.write(output) => result,
            result = self.read(input) => result,
        };

        result.unwrap_err()
    }

    async fn write(&self, mut output: OwnedWriteHalf) -> io::Result<()> {
        let mut bytes = Vec::new();

        loop {
            self.ready.notified().await;
            std::mem::swap(&mut bytes, &mut self.out.borrow_mut());
            output.write_all(&bytes).await?;
            bytes.clear();
        }
    }

    async fn read(&self, mut input: OwnedReadHalf) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(READ_SIZE);

        loop {
            if input.read_buf(&mut bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }

            let mut rest = &bytes[..];

            while let Some((reply, after)) = decode(rest) {
                if let Some(sender) = self.waiting.borrow_mut().pop_front() {
                    let _ = sender.send(reply);
                }
                rest = after;
            }

            let done = bytes.len() - rest.len();
            bytes.drain(..done);
        }
    }
}

fn write_len(out: &mut Vec<u8>, kind: u8, len: usize) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(len).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The first reply, and what follows it; None if it is not complete.
fn decode(bytes: &[u8]) -> Option<(Reply, &[u8])> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let line = std::str::from_utf8(&bytes[1..end]).ok()?;
    let rest = &bytes[end + 2..];

    match bytes[0] {
        b'+' => Some((Reply::Text(line.to_string()), rest)),
        b'-' => Some((Reply::Error(line.to_string()), rest)),
        b':' => Some((Reply::Integer(line.parse().ok()?), rest)),

        b'$' => match line.parse::<usize>() {
            Ok(len) if rest.len() >= len + 2 => {
                let text = String::from_utf8_lossy(&rest[..len]).into_owned();
                Some((Reply::Text(text), &rest[len + 2..]))
            }
            Ok(_) => None,
            Err(_) => Some((Reply::Nil, rest)),
        },

        b'*' => {
            let mut rest = rest;
            let mut replies = Vec::new();

            for _ in 0..line.parse().unwrap_or(0) {
                let (reply, after) = decode(rest)?;
                replies.push(reply);
                rest = after;
            }

            Some((Reply::Array(replies), rest))
        }

        kind => Some((Reply::Error(format!("unknown kind of reply {kind}")), rest)),
    }
}

//! A process of its own, real signals, and what is there afterwards.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail by panicking")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// A `dev` process.
struct Dev {
    child: Child,
    address: SocketAddr,
    token: String,
}

impl Dev {
    fn start(data: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_scaivault-server"))
            .args(["dev", "--bind", "127.0.0.1:0", "--data-dir"])
            .arg(data)
            .env_clear()
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The first three lines are for scripts.
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut value = |name: &str| {
            let line = lines.next().expect("the process ended early").unwrap();
            line.strip_prefix(name).unwrap_or_else(|| panic!("{name:?} is not {line:?}")).to_owned()
        };
        let address = value("url: http://").parse().unwrap();
        assert_eq!(value("tenant: "), "tnt_dev");
        let token = value("admin token: ");
        // Read on, or the process would be stopped by a pipe that is closed.
        thread::spawn(move || lines.for_each(drop));
        Self { child, address, token }
    }

    fn connect(&self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(stream)
    }

    fn head(&self, method: &str, path: &str, more: &str) -> String {
        let token = &self.token;
        format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n{more}\r\n"
        )
    }

    /// The answer to one request; `None` if the server no longer takes one.
    fn send(&self, method: &str, path: &str, body: &str) -> Option<String> {
        let head = self.head(method, path, &format!("Content-Length: {}\r\n", body.len()));
        let mut stream = self.connect().ok()?;
        stream.write_all(format!("{head}{body}").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        (!answer.is_empty()).then_some(answer)
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Only if a test failed before it ended the process.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const BODY: &str = r#"{"data":{"k":"in flight"}}"#;

#[test]
fn a_sigterm_finishes_what_has_begun_and_loses_nothing() {
    let data = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(data.path());
    let acknowledged = Mutex::new(Vec::new());
    let count = AtomicUsize::new(0);
    thread::scope(|scope| {
        for writer in 0..4 {
            let (dev, acknowledged, count) = (&dev, &acknowledged, &count);
            scope.spawn(move || {
                for n in 0.. {
                    let path = format!("/v1/secrets/w{writer}/{n}");
                    let body = format!(r#"{{"data":{{"k":"{writer}-{n}"}}}}"#);
                    let Some(answer) = dev.send("PUT", &path, &body) else { break };
                    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
                    assert!(answer.ends_with('}'), "an answer was cut: {answer}");
                    acknowledged.lock().unwrap().push((path, format!("{writer}-{n}")));
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        // One handler waits for its body, which the server asked for, when the signal comes.
        let expects = format!("Content-Length: {}\r\nExpect: 100-continue\r\n", BODY.len());
        let mut waiting = dev.connect().unwrap();
        waiting.write_all(dev.head("PUT", "/v1/secrets/in/flight", &expects).as_bytes()).unwrap();
        let mut go_on = [0; 25];
        waiting.read_exact(&mut go_on).unwrap();
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
        while count.load(Ordering::SeqCst) < 40 {
            thread::yield_now();
        }
        dev.signal("-TERM");
        while dev.connect().is_ok() {
            thread::yield_now();
        }
        waiting.write_all(BODY.as_bytes()).unwrap();
        let mut answer = String::new();
        waiting.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
        acknowledged.lock().unwrap().push(("/v1/secrets/in/flight".to_owned(), "in flight".to_owned()));
    });
    assert_eq!(dev.wait(), Some(0));

    let mut dev = Dev::start(data.path());
    let acknowledged = acknowledged.into_inner().unwrap();
    assert!(acknowledged.len() > 40);
    for (path, value) in &acknowledged {
        let answer = dev.send("GET", path, "").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
        assert!(answer.contains(&format!(r#""data":{{"k":"{value}"}}"#)), "{path}: {answer}");
        let logs = format!("/v1/audit/logs?action=write&path_prefix={}", &path["/v1/secrets/".len()..]);
        let logs = dev.send("GET", &logs, "").unwrap();
        let exact = format!(r#""secret_path":"{}""#, &path["/v1/secrets/".len()..]);
        assert_eq!(logs.matches(&exact).count(), 1, "{path}: {logs}");
    }
    dev.signal("-INT");
    assert_eq!(dev.wait(), Some(0));
}

#[test]
fn a_second_signal_does_not_wait_for_those_who_do_not_come() {
    let data = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(data.path());
    let expects = "Content-Length: 10\r\nExpect: 100-continue\r\n";
    let mut waiting = dev.connect().unwrap();
    waiting.write_all(dev.head("PUT", "/v1/secrets/never", expects).as_bytes()).unwrap();
    let mut go_on = [0; 25];
    waiting.read_exact(&mut go_on).unwrap();
    dev.signal("-TERM");
    while dev.connect().is_ok() {
        thread::yield_now();
    }
    assert!(dev.child.try_wait().unwrap().is_none(), "it did not wait for what had begun");
    dev.signal("-TERM");
    assert_eq!(dev.wait(), Some(0));
    let mut dev = Dev::start(data.path());
    let answer = dev.send("GET", "/v1/secrets/never", "").unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    dev.signal("-TERM");
    assert_eq!(dev.wait(), Some(0));
}

#[test]
fn without_a_folder_nothing_is_left_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_scaivault-server"))
        .args(["dev", "--bind", "127.0.0.1:0"])
        .env_clear()
        .env("TMPDIR", temporary.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert!(line.starts_with("url: http://127.0.0.1:"), "{line}");
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 1);
    let mut rest = String::new();
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(rest.contains("removed when this stops"), "{rest}");
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}

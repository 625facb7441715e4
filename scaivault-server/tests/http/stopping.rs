use std::{sync::atomic::Ordering, time::Duration};

use scaivault_server::http::serve::{Ended, Limits};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::support::{Answer, read_all, start};

const SLOW: &[u8] = b"GET /v1/slow HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn a_stop_finishes_what_has_begun_and_takes_nothing_new() {
    let server = start(Limits::default()).await;
    let mut idle = server.connect().await;
    let mut stream = server.connect().await;
    stream.write_all(SLOW).await.unwrap();
    server.state.begun.notified().await;
    assert!(!server.stop.is_draining());
    server.stopper.stop();
    assert!(server.stop.is_draining());
    assert_eq!(read_all(&mut idle).await, "");
    assert!(TcpStream::connect(server.address).await.is_err());
    assert!(!server.ended.is_finished());
    server.state.go_on.notify_one();
    let answer = Answer::parse(&read_all(&mut stream).await);
    assert_eq!((answer.status, answer.json()["slow"].as_str()), (200, Some("done")));
    assert_eq!(server.ended.await.unwrap(), Ended::Drained);
}

#[tokio::test]
async fn a_caller_who_hangs_up_does_not_cut_the_work_and_the_drain_waits_for_it() {
    let server = start(Limits::default()).await;
    let mut stream = server.connect().await;
    stream.write_all(SLOW).await.unwrap();
    server.state.begun.notified().await;
    drop(stream);
    server.stopper.stop();
    server.state.go_on.notify_one();
    assert_eq!(server.ended.await.unwrap(), Ended::Drained);
    assert_eq!(server.state.finished.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_drain_has_a_deadline_and_a_second_stop_has_none() {
    for abort in [false, true] {
        let drain_time = if abort { Duration::from_secs(3600) } else { Duration::from_millis(100) };
        let server = start(Limits { drain_time, ..Limits::default() }).await;
        let mut stream = server.connect().await;
        stream.write_all(SLOW).await.unwrap();
        server.state.begun.notified().await;
        server.stopper.stop();
        if abort {
            server.stopper.stop();
        }
        assert_eq!(server.ended.await.unwrap(), Ended::Cut { connections: 1 });
        assert_eq!(read_all(&mut stream).await, "");
    }
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_for_a_place() {
    let server = start(Limits { connections: 1, ..Limits::default() }).await;
    let mut first = server.connect().await;
    first.write_all(b"GET /v1/slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    server.state.begun.notified().await;
    let mut second = server.connect().await;
    second.write_all(b"GET /v1/nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    server.state.go_on.notify_one();
    assert_eq!(Answer::parse(&read_all(&mut first).await).status, 200);
    assert_eq!(Answer::parse(&read_all(&mut second).await).status, 404);
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let server = start(Limits::default()).await;
    let error = scaivault_server::http::serve::Server::bind(
        server.address,
        std::sync::Arc::clone(&server.state),
        scaivault_server::http::router::Router::new(Vec::new()).unwrap(),
        None,
        Limits::default(),
    )
    .await
    .err()
    .unwrap();
    assert!(error.to_string().contains(&server.address.to_string()), "{error}");
}

//! Clients of `magpie serve --api` that send slowly.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::service::{serve, shop};
use crate::world::shape;

/// Bodies that drip in hold no place among the requests that are worked on, and are given up.
#[test]
fn who_sends_slowly_keeps_nobody_from_an_answer() {
    let shop = shop();
    let server = serve(&shop.path("site"), &["--max-requests", "2"]);
    let head = "POST /v1/recognize HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: \
                9000\r\n\r\n";
    let clients: Vec<_> = (0..64)
        .map(|_| {
            let mut stream = TcpStream::connect(&server.host).expect("a connection");
            stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a time limit");
            stream.write_all(head.as_bytes()).expect("a request");
            std::thread::spawn(move || {
                let began = Instant::now();
                while began.elapsed() < Duration::from_secs(30) && stream.write_all(b"x").is_ok() {
                    std::thread::sleep(Duration::from_millis(200));
                    stream.set_nonblocking(true).expect("a socket");
                    if stream.peek(&mut [0]).is_ok() {
                        break;
                    }
                    stream.set_nonblocking(false).expect("a socket");
                }
                stream.set_nonblocking(false).expect("a socket");
                let mut answer = String::new();
                let _ = stream.read_to_string(&mut answer);
                (answer, began.elapsed())
            })
        })
        .collect();
    std::thread::sleep(Duration::from_secs(1));
    let picture = shape(0, 1, 40).encode_png().expect("a PNG");
    for _ in 0..5 {
        let answer = server.ask("POST", "/v1/recognize", &["Content-Type: image/png"], &picture);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let mut told = 0;
    for client in clients {
        let (answer, time) = client.join().expect("a client");
        // One whose byte crosses the answer sees the connection end.
        let reason = "the body comes at less than 512 bytes a second";
        told += usize::from(answer.starts_with("HTTP/1.1 408") && answer.contains(reason));
        assert!(time < Duration::from_secs(25), "{time:?}");
    }
    assert!(told > 32, "{told} of 64 were told");
}

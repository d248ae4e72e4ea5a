//! `magpie serve`: parts, packed copies, other origins, and clients that hold on to their connections.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::world::{self, World};

/// A running server, which ends with the test.
struct Server {
    child: Child,
    host: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command that serves.
fn served(command: &mut Command) -> Server {
    let mut child = command.stdout(Stdio::piped()).spawn().expect("magpie runs");
    let mut address = String::new();
    let output = child.stdout.take().expect("a pipe");
    BufReader::new(output).read_line(&mut address).expect("the address");
    let host = address.trim().trim_start_matches("http://").trim_end_matches('/').to_owned();
    Server { child, host }
}

fn serve(site: &Path, more: &[&str]) -> Server {
    let mut command = Command::new(env!("CARGO_BIN_EXE_magpie"));
    served(command.arg("serve").arg(site).args(["--port", "0"]).args(more))
}

struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// Asks a server; `more` are whole lines of headers.
fn ask(server: &Server, method: &str, path: &str, more: &[&str]) -> Answer {
    let mut stream = TcpStream::connect(&server.host).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit");
    let first = format!("{method} {path} HTTP/1.1");
    let lines = [&[&*first, "Host: x"], more, &["Connection: close", "", ""]].concat();
    let text = lines.join("\r\n");
    stream.write_all(text.as_bytes()).expect("a request");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer");
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("the end of the headers");
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next().expect("a status line").split(' ').nth(1).expect("a status");
    let headers = lines.filter_map(|line| line.split_once(": "));
    Answer {
        status: status.parse().expect("a number"),
        headers: headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect(),
        body: bytes[end + 4..].to_vec(),
    }
}

/// A site whose text has packed copies (of other bytes, to be told apart).
fn site(world: &World) -> std::path::PathBuf {
    world.write("site/index.html", "<!doctype html>");
    world.write("site/a.json", "0123456789");
    world.write("site/a.json.br", "BROTLI");
    world.write("site/a.json.gz", "GZIP");
    world.path("site")
}

#[test]
fn a_part_is_one_of_the_file_and_not_of_its_packed_copy() {
    let world = World::new();
    let server = serve(&site(&world), &[]);
    let takes_all = "Accept-Encoding: gzip, deflate, br, zstd, identity";
    let whole = ask(&server, "GET", "/a.json", &[takes_all]);
    assert_eq!((whole.status, whole.header("content-encoding")), (200, "br"));
    assert_eq!(whole.body, b"BROTLI");
    assert_eq!(whole.header("accept-ranges"), "bytes");
    assert_eq!(whole.header("vary"), "accept-encoding");
    // The same headers without the file.
    let head = ask(&server, "HEAD", "/a.json", &[takes_all, "Range: bytes=0-1"]);
    assert!(head.status == 200 && head.body.is_empty());
    for name in ["content-encoding", "content-length", "content-type", "etag", "vary"] {
        assert_eq!(head.header(name), whole.header(name), "{name}");
    }

    let part = ask(&server, "GET", "/a.json", &[takes_all, "Range: bytes=2-4"]);
    assert_eq!((part.status, part.body.as_slice()), (206, &b"234"[..]));
    assert_eq!(part.header("content-range"), "bytes 2-4/10");
    assert_eq!(part.header("content-encoding"), "");
    assert_eq!(part.header("content-type"), "application/json");
    assert_eq!(part.header("vary"), "accept-encoding");
    let behind = ask(&server, "GET", "/a.json", &[takes_all, "Range: bytes=99-"]);
    assert_eq!((behind.status, behind.header("content-range")), (416, "bytes */10"));
    // A download of the packed copy that broke off begins anew, as the whole file.
    let again = format!("If-Range: {}", whole.header("etag"));
    let anew = ask(&server, "GET", "/a.json", &[takes_all, "Range: bytes=3-", &again]);
    assert_eq!((anew.status, anew.body.as_slice()), (200, &b"0123456789"[..]));

    // What a client rules out it does not get.
    let refused = ask(&server, "GET", "/a.json", &["Accept-Encoding: br;q=0, gzip;q=0.5"]);
    assert_eq!(
        (refused.header("content-encoding"), refused.body.as_slice()),
        ("gzip", &b"GZIP"[..])
    );
    for (path, status) in [("/a.json/b", 404), ("/none", 404), ("/%00", 404)] {
        assert_eq!(ask(&server, "GET", path, &[]).status, status, "{path}");
    }
    let posted = ask(&server, "POST", "/a.json", &["Content-Length: 0"]);
    assert_eq!((posted.status, posted.header("allow")), (405, "GET, HEAD, OPTIONS"));
    assert_eq!(ask(&server, "GET", "/", &[]).header("access-control-allow-origin"), "");
}

#[test]
fn pages_of_other_origins_are_let_in_where_the_owner_says_so() {
    let world = World::new();
    let site = site(&world);
    let origin = "Origin: https://example.org";
    let server = serve(&site, &["--cors", "*"]);
    let answer = ask(&server, "GET", "/a.json", &[origin, "Range: bytes=0-0"]);
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (206, "*"));
    assert_eq!(answer.header("cross-origin-resource-policy"), "cross-origin");
    assert!(answer.header("access-control-expose-headers").contains("content-range"));
    let asked = ["Access-Control-Request-Method: GET", "Access-Control-Request-Headers: range"];
    let before = ask(&server, "OPTIONS", "/a.json", &[origin, asked[0], asked[1]]);
    assert_eq!(before.status, 204);
    assert!(before.header("access-control-allow-headers").contains("range"));
    drop(server);

    let server = serve(&site, &["--cors", "https://Example.org", "--cors", "http://[::1]:3000"]);
    for (asking, answer) in [
        ("https://example.org", "https://example.org"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("https://other.org", ""),
        ("null", ""),
    ] {
        let answered = ask(&server, "GET", "/a.json", &[&format!("Origin: {asking}")]);
        assert_eq!(answered.header("access-control-allow-origin"), answer, "{asking}");
        assert_eq!(answered.header("vary"), "accept-encoding, origin");
    }
    for wrong in ["example.org", "https://example.org/", "https://", "https://a b", "null"] {
        let error = world::fail(&[&"serve", &site, &"--port", &"0", &"--cors", &wrong]);
        assert!(error.contains("write an origin without a path"), "{wrong}: {error}");
    }
}

#[test]
fn the_engines_workers_have_a_policy_of_their_own() {
    let world = World::new();
    let site = site(&world);
    world.write("site/worker.js", "");
    let server = serve(&site, &[]);
    let policy =
        |path: &str| ask(&server, "GET", path, &[]).header("content-security-policy").to_owned();
    assert_eq!(policy("/a.json"), "");
    let own = policy("/worker.js?engine=cpu&threads=4");
    assert!(own.contains("default-src 'none'") && own.contains("connect-src 'self';"), "{own}");
    // A page may have a bundle of another origin; the worker gets no further than there.
    let other =
        policy("/worker.js?engine=cpu&bundle=https%3A%2F%2Fb.example%2Fbundle%2Fmanifest.json");
    assert!(other.contains("connect-src 'self' https://b.example;"), "{other}");
}

#[test]
fn a_slow_client_holds_nobody() {
    let world = World::new();
    world.write("site/large.bin", vec![7; 8 << 20]);
    let server = serve(&site(&world), &[]);
    // Half a request, and one whose answer nobody reads.
    let mut half = TcpStream::connect(&server.host).expect("a connection");
    half.write_all(b"GET / HTTP/1.1\r\nHo").expect("half a request");
    let mut unread = TcpStream::connect(&server.host).expect("a connection");
    unread.write_all(b"GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n").expect("a request");
    let begin = Instant::now();
    for _ in 0..20 {
        assert_eq!(ask(&server, "GET", "/", &[]).status, 200);
    }
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[cfg(unix)]
#[test]
fn a_server_without_handles_goes_on() {
    let world = World::new();
    let site = site(&world);
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 40; exec \"$0\" serve \"$1\" --port 0"]);
    let mut server =
        served(command.arg(env!("CARGO_BIN_EXE_magpie")).arg(site).stderr(Stdio::null()));
    let connect = || TcpStream::connect(&server.host).expect("the system takes it");
    let held: Vec<TcpStream> = (0..60).map(|_| connect()).collect();
    // Those that say nothing make room.
    for _ in 0..3 {
        assert_eq!(ask(&server, "GET", "/a.json", &[]).status, 200);
    }
    drop(held);
    assert_eq!(ask(&server, "GET", "/", &[]).body, b"<!doctype html>");
    assert!(server.child.try_wait().expect("a status").is_none(), "it still serves");
}

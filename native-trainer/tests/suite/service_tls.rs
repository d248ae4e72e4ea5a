//! `magpie serve --api --certificate --key`: a client of another make reads by TLS what the certificate promises, and who
//! is slow or says something else is let go.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::service::{Running, shop, start};
use crate::sites::Shop;
use crate::world::ended;

fn test_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
}

/// A service with the certificate of the tests, from files that can be changed.
fn open() -> (Shop, Running) {
    let shop = shop();
    for name in ["certificate.pem", "key.pem"] {
        std::fs::copy(test_file(name), shop.path(name)).expect("a copy");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_magpie"));
    command.arg("serve").arg(shop.path("site")).args(["--api", "--port", "0", "--certificate"]);
    command.arg(shop.path("certificate.pem")).arg("--key").arg(shop.path("key.pem"));
    let server = start(command.stderr(std::process::Stdio::null()));
    (shop, server)
}

/// What Python's client says, which trusts the certificate in a file and nothing else.
fn python(server: &Running, trusted: &Path, code: &str) -> String {
    let (host, port) = address(server).rsplit_once(':').expect("a port");
    let begin = format!(
        "import ssl, socket, http.client\n\
         context = ssl.create_default_context(cafile={:?})\n\
         host, port = {host:?}, {port}\n",
        trusted.to_str().expect("UTF-8")
    );
    let output = ended(Command::new("python3").args(["-c", &(begin + code)]));
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).trim().to_owned()
}

fn address(server: &Running) -> &str {
    server.host.strip_prefix("https://").expect("an address of TLS")
}

const ASK: &str = "connection = http.client.HTTPSConnection(host, port, context=context)\n\
                   connection.request('GET', '/v1/gallery')\n\
                   answer = connection.getresponse()\n\
                   print(answer.status, len(answer.read()) > 100, connection.sock.version())\n\
                   connection.request('POST', '/v1/recognize', body=b'no picture' * 100000)\n\
                   print(connection.getresponse().status)\n";

#[test]
fn a_client_reads_by_tls_and_trusts_the_certificate_alone() {
    let (_shop, server) = open();
    let own = test_file("certificate.pem");
    assert_eq!(python(&server, &own, ASK), "200 True TLSv1.3\n415");
    let old = format!("context.maximum_version = ssl.TLSVersion.TLSv1_2\n{ASK}");
    assert_eq!(python(&server, &own, &old), "200 True TLSv1.2\n415");
    let other = python(&server, &test_file("renewed.pem"), ASK);
    assert!(other.contains("CERTIFICATE_VERIFY_FAILED"), "{other}");
    // What is no TLS is answered by none of the service's bytes.
    let mut plain = TcpStream::connect(address(&server)).expect("a connection");
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said);
    assert!(!said.windows(4).any(|window| window == b"HTTP"), "{said:?}");
}

#[test]
fn who_is_slow_to_agree_on_tls_holds_nobody_up_and_is_let_go() {
    let (_shop, server) = open();
    let begin = Instant::now();
    // More than there may be at once: silent ones, and one that sends a byte now and then.
    let mut silent: Vec<TcpStream> =
        (0..120).map(|_| TcpStream::connect(address(&server)).expect("a connection")).collect();
    let mut slow = TcpStream::connect(address(&server)).expect("a connection");
    let own = test_file("certificate.pem");
    assert_eq!(python(&server, &own, ASK), "200 True TLSv1.3\n415");
    assert!(begin.elapsed() < Duration::from_secs(12), "{:?}", begin.elapsed());
    // A hello of 16 KiB that comes byte by byte would take hours.
    let _ = slow.write_all(&[0x16, 3, 1, 0x3f, 0xff, 1, 0, 0x3f, 0xfb, 3, 3]);
    while slow.write_all(&[0]).is_ok() {
        assert!(begin.elapsed() < Duration::from_secs(40), "it is still listened to");
        std::thread::sleep(Duration::from_millis(300));
    }
    silent.clear();
}

#[test]
fn a_renewed_certificate_is_used_without_a_start() {
    let (shop, server) = open();
    let put = |name: &str, to: &str| std::fs::copy(test_file(name), shop.path(to)).expect("a copy");
    // Not a pair: the one before stays.
    put("other-key.pem", "key.pem");
    std::thread::sleep(Duration::from_secs(11));
    assert_eq!(python(&server, &test_file("certificate.pem"), ASK), "200 True TLSv1.3\n415");
    put("renewed.pem", "certificate.pem");
    let begin = Instant::now();
    while python(&server, &test_file("renewed.pem"), ASK) != "200 True TLSv1.3\n415" {
        assert!(begin.elapsed() < Duration::from_secs(40), "the old one is still used");
        std::thread::sleep(Duration::from_secs(1));
    }
}

#[test]
fn a_pair_that_cannot_be_used_ends_the_service_with_a_sentence() {
    let shop = shop();
    for name in ["certificate.pem", "key.pem", "other-key.pem", "encrypted-key.pem", "expired.pem"]
    {
        std::fs::copy(test_file(name), shop.path(name)).expect("a copy");
    }
    std::fs::copy(test_file("key.pem"), shop.path("site/key.pem")).expect("a copy");
    for (certificate, key, told) in [
        (
            "certificate.pem",
            "other-key.pem",
            "other-key.pem: is not the key of certificate.pem; give the two",
        ),
        (
            "certificate.pem",
            "encrypted-key.pem",
            "encrypted-key.pem: is encrypted, and nobody is asked",
        ),
        (
            "expired.pem",
            "key.pem",
            "expired.pem: the certificate has expired on 2020-01-02; renew it",
        ),
        ("key.pem", "key.pem", "key.pem: holds no certificate; give a PEM file"),
        ("certificate.pem", "site/key.pem", "--key: lies in the site"),
        ("gone.pem", "key.pem", "a file of certificates in PEM"),
    ] {
        let line = format!("serve site --api --port 0 --certificate {certificate} --key {key}");
        let said = shop.refused(&line);
        assert!(said.contains(told), "{line}: {said}");
    }
    let (_, said) = shop.told("serve site --api --certificate certificate.pem");
    assert!(said.contains("--key <FILE>"), "{said}");
}

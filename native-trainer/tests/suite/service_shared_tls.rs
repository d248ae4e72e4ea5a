//! Connections to the database that are encrypted, where the address says so.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::database::Server;
use crate::service::start;
use crate::service_shared::{add, open, same, serve};
use crate::world::ended;

/// Lets encrypted connections in and leads them to the server's socket: what a server does that has a certificate.
fn encrypted(server: &Server, broken: bool) -> u16 {
    let file = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name);
    let chain = CertificateDer::pem_file_iter(file("certificate.pem")).expect("a file");
    let chain: Vec<_> = chain.map(|certificate| certificate.expect("a certificate")).collect();
    let key = PrivateKeyDer::from_pem_file(file("key.pem")).expect("a key");
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a pair");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let socket = server.socket();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, config, socket) =
                (stream.expect("a client"), config.clone(), socket.clone());
            std::thread::spawn(move || {
                let mut asked = [0; 8];
                stream.read_exact(&mut asked).expect("a request");
                assert_eq!(asked, [0, 0, 0, 8, 4, 210, 22, 47], "it asks for TLS first");
                if broken {
                    let _ = stream.write_all(b"N");
                    return;
                }
                stream.write_all(b"S").expect("it listens");
                let connection = ServerConnection::new(config).expect("a connection");
                let mut outside = StreamOwned::new(connection, stream);
                let mut inside = UnixStream::connect(socket).expect("the server");
                // One side speaks at a time, and neither for long.
                let short = Some(Duration::from_millis(5));
                outside.sock.set_read_timeout(short).expect("a limit");
                inside.set_read_timeout(short).expect("a limit");
                let mut bytes = vec![0; 1 << 16];
                loop {
                    match outside.read(&mut bytes) {
                        Ok(0) => return,
                        Ok(count) => inside.write_all(&bytes[..count]).expect("the server"),
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => (),
                        Err(_) => return,
                    }
                    match inside.read(&mut bytes) {
                        Ok(0) => return,
                        Ok(count) => {
                            if outside.write_all(&bytes[..count]).is_err() {
                                return;
                            }
                        }
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => (),
                        Err(_) => return,
                    }
                }
            });
        }
    });
    port
}

#[test]
fn a_connection_to_postgres_is_encrypted_in_postgres_where_the_address_says_so() {
    let (server, shop) = open();
    let port = encrypted(&server, false);
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls/certificate.pem");
    let at = |host: &str, more: &str| {
        format!("postgres://postgres:geheim@{host}:{port}/postgres?{more}")
    };
    let roots = format!("sslmode=verify-full&sslrootcert={}", own.display());
    let gallery = shop.path("gallery.bin");
    let push = |address: &str| -> Vec<String> {
        let words = ["gallery", "push"].map(str::to_owned).to_vec();
        [words, vec![gallery.display().to_string(), "--server".to_owned(), address.to_owned()]]
            .concat()
    };
    let run = |address: &str| {
        let output = ended(Command::new(env!("CARGO_BIN_EXE_magpie")).args(push(address)));
        let told = [output.stdout, output.stderr].concat();
        let told = String::from_utf8(told).expect("a text");
        assert!(!told.contains("geheim"), "{told}");
        (output.status.success(), told)
    };
    let service = serve(&server, &shop);
    std::fs::write(&gallery, service.get("/v1/gallery/file").body).expect("a file");
    let (pushed, told) = run(&at("localhost", &roots));
    assert!(pushed, "{told}");
    // A name that the certificate does not have, an authority that nobody knows, a server that does not encrypt.
    let (pushed, told) = run(&at("localhost.localdomain", &roots));
    assert!(!pushed, "{told}");
    let (pushed, told) = run(&at("localhost", "sslmode=require&sslrootcert=/nowhere.pem"));
    assert!(!pushed && told.contains("/nowhere.pem"), "{told}");
    let other = shop
        .0
        .write("other.pem", std::fs::read(own.with_file_name("renewed.pem")).expect("a file"));
    let (pushed, told) =
        run(&at("localhost", &format!("sslmode=require&sslrootcert={}", other.display())));
    assert!(!pushed, "{told}");
    let plain = encrypted(&server, true);
    let address = format!("postgres://postgres:geheim@localhost:{plain}/postgres?{roots}");
    let (pushed, told) = run(&address);
    assert!(!pushed, "{told}");
    // A service speaks it, too.
    let mut command = Command::new(env!("CARGO_BIN_EXE_magpie"));
    command.arg("serve").arg(shop.path("site")).args(["--api", "--port", "0", "--name", "shop"]);
    command.args(["--server", &at("localhost", &roots)]).stderr(Stdio::null());
    let other = start(&mut command);
    assert_eq!(same(&[&service, &other]).0, service.get("/v1/gallery").header("etag"));
    assert_eq!(add(&service, "mug", 0, &[]).json()["version"], json!(1));
    assert_eq!(other.get("/v1/classes/mug").json()["entries"], 1);
}

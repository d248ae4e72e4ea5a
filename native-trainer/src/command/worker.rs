//! `magpie worker`: lends this machine to training runs elsewhere.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use clap::Args;

use crate::certificate;
use crate::cli::{DeviceKind, no_port};
use crate::replica::{PORT, Secret, Terms, listen};

const MEGABYTE: u64 = 1_000_000;
/// What a run may take where the machine does not say how much it has.
const MEMORY: u64 = 4_000 * MEGABYTE;

/// Computes a part of every batch for `magpie train --worker HOST:PORT`.
///
/// Needs no data and keeps none: pictures and weights come with each step. Serves one run at a time,
/// tells whoever comes meanwhile that it is busy, and waits for the next. Other machines reach it only where both sides
/// know a secret; what is sent is encrypted where it has a certificate.
#[derive(Debug, Args)]
#[command(
    after_help = "Example (the file with the secret is the same on both machines):\n  openssl rand -hex 32 > \
    secret\n  magpie worker --address 0.0.0.0 --port 7500 --secret-file secret\n  magpie train -c recipe.toml --out \
    runs/mine --worker other-machine:7500 --secret-file secret"
)]
pub struct Arguments {
    /// Address to listen at; other machines reach 0.0.0.0 or this machine's own, which needs --secret-file.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// Port to listen at; 0 takes a free one.
    #[arg(long, default_value_t = PORT)]
    port: u16,
    /// File with a secret that a trainer has to know: 16 or more printable characters.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// PEM file with this worker's certificate, by which connections are encrypted.
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// PEM file with the certificate's key.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// Where to compute.
    #[arg(long, value_enum, default_value_t)]
    device: DeviceKind,
    /// Most memory that a run may take, in MB; what needs more is refused before it is begun. By default half of
    /// this machine's.
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    memory: Option<u64>,
    /// Seconds after which a trainer that says nothing is given up; while it computes it shows signs of life.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(2..=86_400))]
    timeout: u64,
}

impl Arguments {
    /// Computes until the process is ended.
    ///
    /// # Errors
    ///
    /// A port that is taken, an address that others reach without a secret, files that cannot be used.
    pub fn run(&self) -> anyhow::Result<()> {
        if self.secret_file.is_none() && !self.address.is_loopback() {
            bail!(
                "{}: other machines reach this address, and whoever does could have this one compute; give \
                 --secret-file, or listen at 127.0.0.1",
                self.address
            );
        }
        let secret = self.secret_file.as_deref().map(Secret::read).transpose()?;
        let pair = self.certificate.as_deref().zip(self.key.as_deref());
        let tls =
            pair.map(|(certificate, key)| certificate::server(certificate, key)).transpose()?;
        let place = (self.address, self.port);
        let listener = TcpListener::bind(place).map_err(|error| no_port(place, error))?;
        println!("{}", listener.local_addr()?);
        let terms = Terms {
            memory: self.memory.map_or_else(half_of_all, |memory| memory.saturating_mul(MEGABYTE)),
            patience: Duration::from_secs(self.timeout),
            secret,
            tls: tls.map(Arc::new),
        };
        listen(&listener, &self.device.open(), terms, |text| println!("{text}"))
    }
}

/// Half of this machine's memory in bytes.
fn half_of_all() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    total(&text).map_or(MEMORY, |total| total / 2)
}

/// The machine's memory in bytes, from what Linux says about it.
fn total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_read() {
        let text = "MemTotal:       16384256 kB\nMemFree:         1000 kB\n";
        assert_eq!(total(text), Some(16_384_256 * 1024));
        assert_eq!(total("MemTotal: much"), None);
    }
}

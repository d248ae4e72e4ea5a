//! `magpie worker`: lends this machine to training runs elsewhere.

use std::net::{IpAddr, Ipv4Addr, TcpListener};

use anyhow::Context;
use clap::Args;

use super::DeviceKind;
use crate::replica::listen;

/// Computes a part of every batch for `magpie train --worker HOST:PORT`.
///
/// Needs no data and keeps none: pictures and weights come with each step. Serves one run at a time
/// and waits for the next. Whoever reaches its address can have it compute, and what is sent is not
/// encrypted: outside a network of your own, reach it through a tunnel (ssh -L).
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  magpie worker --address 0.0.0.0 --port 7500\n  \
    magpie train -c recipe.toml --output runs/mine --worker other-machine:7500")]
pub struct Arguments {
    /// Address to listen at; other machines reach 0.0.0.0 or this machine's own.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// Port to listen at; 0 takes a free one.
    #[arg(long, default_value_t = 7500)]
    port: u16,
    /// Where to compute.
    #[arg(long, value_enum, default_value_t)]
    device: DeviceKind,
}

impl Arguments {
    /// Computes until the process is ended.
    ///
    /// # Errors
    ///
    /// A port that is taken.
    pub fn run(&self) -> anyhow::Result<()> {
        let listener = TcpListener::bind((self.address, self.port))
            .with_context(|| format!("port {}; choose another --port", self.port))?;
        println!("{}", listener.local_addr()?);
        Ok(listen(&listener, &self.device.open(), |text| println!("{text}"))?)
    }
}

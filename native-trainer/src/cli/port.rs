//! Addresses and ports that commands listen on.

use std::io::ErrorKind;
use std::net::IpAddr;

use anyhow::{Error, anyhow};

/// Why there is no listening at an address and port, and what to do.
pub(crate) fn no_port((address, port): (IpAddr, u16), error: std::io::Error) -> Error {
    let advice = "give another --port (0: any that is free)";
    match error.kind() {
        ErrorKind::AddrInUse => {
            anyhow!("port {port} is in use by another program; stop that one, or {advice}")
        }
        ErrorKind::AddrNotAvailable => anyhow!(
            "{address} is no address of this machine; give --address one of its own, or {} for all of them",
            if address.is_ipv6() { "::" } else { "0.0.0.0" }
        ),
        ErrorKind::PermissionDenied => {
            Error::from(error).context(format!("port {port} cannot be had; {advice}"))
        }
        _ => {
            let what = format!("there is no listening at {address}, port {port}");
            Error::from(error).context(format!("{what}; give another --address or --port"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hinders_is_told_as_what_it_is() {
        let told = |address: &str, kind: ErrorKind| {
            no_port((address.parse().expect("an address"), 80), kind.into()).to_string()
        };
        for (address, kind, part) in [
            ("127.0.0.1", ErrorKind::AddrInUse, "port 80 is in use by another program"),
            ("8.8.8.8", ErrorKind::AddrNotAvailable, "8.8.8.8 is no address of this machine"),
            ("2001:db8::1", ErrorKind::AddrNotAvailable, ":: for all of them"),
            ("127.0.0.1", ErrorKind::PermissionDenied, "port 80 cannot be had"),
            ("::1", ErrorKind::Unsupported, "no listening at ::1, port 80"),
        ] {
            let told = told(address, kind);
            assert!(told.contains(part), "{told}");
        }
    }
}

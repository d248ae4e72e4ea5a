//! Ports that commands listen on.

/// Why there is no listening on a port, and what to do.
pub(crate) fn no_port(port: u16, error: std::io::Error) -> anyhow::Error {
    let advice = "give another --port (0: any that is free)";
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            anyhow::anyhow!("port {port} is in use by another program; stop that one, or {advice}")
        }
        _ => anyhow::Error::from(error).context(format!("port {port} cannot be had; {advice}")),
    }
}

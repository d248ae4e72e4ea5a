//! Settings of the memory allocator, which it reads before `main` begins.

/// Starts the program again, once, with an allocator that keeps the memory it has.
///
/// Training frees and takes the same large buffers every step. By default they go back to the
/// kernel in between, and a third of the processor's time is spent on clearing their pages anew.
/// The allocator learns its settings from the environment alone, so the process replaces itself
/// by one with the variable set: same process number, arguments and terminal. Where the variable
/// is set already, where the system cannot do it, or where it fails, nothing happens.
pub fn keep_memory() {
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;

        const NEVER: &str = "-1";
        const PURGE_DELAY: &str = "MIMALLOC_PURGE_DELAY";
        if std::env::var_os(PURGE_DELAY).is_some() {
            return;
        }
        if let Ok(program) = std::env::current_exe() {
            let mut arguments = std::env::args_os();
            let mut command = std::process::Command::new(program);
            if let Some(name) = arguments.next() {
                command.arg0(name);
            }
            // Returns only where it failed, which leaves a slower program and nothing to report.
            let _error = command.args(arguments).env(PURGE_DELAY, NEVER).exec();
        }
    }
}

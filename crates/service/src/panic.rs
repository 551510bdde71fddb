//! A failed assertion ends the process.
//!
//! In a storage node or coordinator a panic means that an invariant is broken: nothing that this process says
//! afterwards can be trusted. tokio would swallow the panic with its task, so the hook aborts instead, after the
//! reason is logged. The gateway does not install this: there a panic costs one connection.

use std::{backtrace::Backtrace, panic};

/// Installs a hook that logs a panic with its place and backtrace, and aborts the process.
///
/// A caller that means to catch panics (one shard's `apply`) wraps that call in [`caught`].
pub fn abort_after_logging() {
    panic::set_hook(Box::new(|info| {
        let message = info
            .payload_as_str()
            .unwrap_or("the panic carries no text")
            .to_owned();
        let location = info.location().map(ToString::to_string).unwrap_or_default();
        let backtrace = Backtrace::force_capture();
        if CATCHING.get() {
            tracing::error!(message, location, %backtrace, "assertion failed; caught");
            return;
        }
        tracing::error!(message, location, %backtrace, "assertion failed; the process aborts");
        std::process::abort();
    }));
}

thread_local! {
    static CATCHING: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Runs `work` and returns the text of its panic, if it panics, without ending the process.
///
/// What `work` had been changing is to be given up by the caller: it may be half done.
///
/// # Errors
/// The text of the panic.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let before = CATCHING.replace(true);
    let result = panic::catch_unwind(panic::AssertUnwindSafe(work));
    CATCHING.set(before);
    result.map_err(|payload| {
        payload
            .downcast_ref::<&str>()
            .map(ToString::to_string)
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "the panic carries no text".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use std::{env, process::Command};

    use super::*;

    const CHILD: &str = "QUORATE_TEST_PANIC_CHILD";

    /// Runs in a child process, started by the test below; does nothing otherwise.
    #[test]
    fn child_that_panics() {
        if env::var_os(CHILD).is_none() {
            return;
        }
        abort_after_logging();
        let text = caught(|| panic!("number {}", 7)).expect_err("the closure panics");
        assert_eq!(text, "number 7");
        let survived = std::thread::spawn(|| panic!("not caught")).join().is_err();
        println!("survived: {survived}");
    }

    #[test]
    fn a_panic_in_another_thread_aborts_and_a_caught_one_does_not() {
        let output = Command::new(env::current_exe().expect("the test has a path"))
            .args(["--exact", "panic::tests::child_that_panics", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .expect("the test binary starts");
        assert!(!output.status.success(), "the child ends by a signal");
        assert_eq!(output.status.code(), None, "aborted, not exited");
        assert!(!String::from_utf8_lossy(&output.stdout).contains("survived"));
    }
}

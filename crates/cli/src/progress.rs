//! A progress bar on standard error, if that is a terminal.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Creates a bar over bytes, or a spinner if their number is not known.
pub(crate) fn bytes(total: Option<u64>) -> ProgressBar {
    match total {
        Some(total) => styled(
            ProgressBar::with_draw_target(Some(total), target()),
            "{bar:40} {bytes}/{total_bytes}  {msg}  {eta} left",
        ),
        None => styled(
            ProgressBar::with_draw_target(None, target()),
            "{spinner} {bytes}  {msg}",
        ),
    }
}

/// Creates a bar over messages, or a spinner if their number is not known.
pub(crate) fn messages(total: Option<u64>) -> ProgressBar {
    match total {
        Some(total) => styled(
            ProgressBar::with_draw_target(Some(total), target()),
            "{bar:40} {human_pos}/{human_len} messages  {per_sec}  {eta} left",
        ),
        None => styled(
            ProgressBar::with_draw_target(None, target()),
            "{spinner} {human_pos} messages  {per_sec}",
        ),
    }
}

/// Creates a spinner with a text.
pub(crate) fn waiting(text: &str) -> ProgressBar {
    let bar = styled(
        ProgressBar::with_draw_target(None, target()),
        "{spinner} {msg} ({elapsed})",
    );
    bar.set_message(text.to_owned());
    bar
}

fn target() -> ProgressDrawTarget {
    if io::stderr().is_terminal() {
        ProgressDrawTarget::stderr_with_hz(5)
    } else {
        ProgressDrawTarget::hidden()
    }
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("the templates above are valid");
    bar.with_style(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_valid() {
        for total in [None, Some(1)] {
            bytes(total).finish();
            messages(total).finish();
        }
        waiting("x").finish();
    }
}

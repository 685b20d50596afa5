//! Progress on stderr: done, rate and time left, as a bar, or as a line every ten seconds where stderr
//! is no terminal (a job's log, `2> log`).

use crate::say::say;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// Time between two lines of a log.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// A bar over a known number of steps.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    name: String,
    last_line: Cell<Instant>,
}

impl Progress {
    /// A bar named `name`.
    pub fn steps(name: &str, total: u64) -> Self {
        let style = ProgressStyle::with_template(
            "{prefix:30!} {bar:24} {pos}/{len}  {per_sec}  {eta} left  {msg}",
        )
        .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(total)
            .with_style(style)
            .with_prefix(name.to_owned());
        Self {
            bar,
            name: name.to_owned(),
            last_line: Cell::new(Instant::now()),
        }
    }

    /// So many steps are done.
    pub fn step(&self, done: u64, message: &str) {
        self.bar.set_position(done);
        self.bar.set_message(message.to_owned());
        if self.bar.is_hidden() && self.last_line.get().elapsed() >= LINE_EVERY {
            self.last_line.set(Instant::now());
            say(self.line(message));
        }
    }

    /// Starts at `done`, for a run that was resumed.
    pub fn resumed_at(self, done: u64) -> Self {
        self.bar.set_position(done);
        self.bar.reset_eta();
        self
    }

    /// Ends the bar and leaves its last state on the screen.
    pub fn finish(&self) {
        self.bar.finish();
    }

    fn line(&self, message: &str) -> String {
        let (done, total) = (self.bar.position(), self.bar.length().unwrap_or(0));
        let (rate, left) = (self.bar.per_sec(), HumanDuration(self.bar.eta()));
        let line = format!(
            "{} {done}/{total}  {rate:.1}/s  {left} left  {message}",
            self.name
        );
        line.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_what_the_bar_has() {
        let progress = Progress::steps("training", 100).resumed_at(40);
        progress.step(50, "loss 0.5");
        let line = progress.line("loss 0.5");
        assert!(line.starts_with("training 50/100  "), "{line}");
        assert!(line.ends_with(" left  loss 0.5"), "{line}");
    }
}

//! Progress bars on stderr: done, rate and time left. Silent where stderr is no terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over a known number of steps.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
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
        Self { bar }
    }

    /// So many steps are done.
    pub fn step(&self, done: u64, message: &str) {
        self.bar.set_position(done);
        self.bar.set_message(message.to_owned());
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
}

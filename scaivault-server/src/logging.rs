//! Logs: one line an event, to standard error.

use std::panic;

use tracing::Level as Severity;
use tracing_subscriber::{filter::Targets, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::{Format, Level, Log};

/// Starts logging for this process; a second call changes nothing.
///
/// Our own events follow the configured level, those of libraries are capped at warnings: theirs may hold
/// header fields or statements. A panic is logged by its place alone, since what it says may hold a secret.
pub fn start(log: Log) {
    let ours = severity(log.level);
    let theirs = ours.min(Severity::WARN);
    let filter = Targets::new().with_target("scaivault", ours).with_default(theirs);
    let registry = tracing_subscriber::registry().with(filter);
    let writer = fmt::layer().with_writer(std::io::stderr);
    let started = match log.format {
        Format::Json => registry.with(writer.json().flatten_event(true)).try_init(),
        Format::Text => registry.with(writer.with_ansi(false)).try_init(),
    };
    if started.is_ok() {
        panic::set_hook(Box::new(|info| {
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            tracing::error!(place, "panic");
        }));
    }
}

fn severity(level: Level) -> Severity {
    match level {
        Level::Debug => Severity::DEBUG,
        Level::Info => Severity::INFO,
        Level::Warn => Severity::WARN,
        Level::Error => Severity::ERROR,
    }
}

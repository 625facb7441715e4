//! How a server is told to stop.

use std::io;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

/// Whether the server serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    Draining,
    Aborting,
}

/// Stops servers: the first call lets them finish what they have begun, the second does not.
#[derive(Debug)]
pub struct Stopper(watch::Sender<Phase>);

/// What a server listens to, and what readiness asks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<Phase>);

/// A pair of the two ends.
#[must_use]
pub fn pair() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(Phase::Serving);
    (Stopper(sender), Stop(receiver))
}

/// Stops on SIGTERM or SIGINT; a second one aborts.
///
/// # Errors
/// If the signals cannot be taken over.
pub fn on_signals() -> io::Result<Stop> {
    let (stopper, stop) = pair();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        next(&mut term, &mut int).await;
        tracing::info!("stopping: no new connections, finishing what has begun");
        stopper.stop();
        next(&mut term, &mut int).await;
        tracing::warn!("second signal: aborting");
        stopper.stop();
        // Kept, so that who waits for the next phase sees no end of the channel.
        std::future::pending::<()>().await;
    });
    Ok(stop)
}

async fn next(term: &mut Signal, int: &mut Signal) {
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

impl Stopper {
    /// Moves on: from serving to draining, from draining to aborting.
    pub fn stop(&self) {
        self.0.send_modify(|phase| {
            *phase = match phase {
                Phase::Serving => Phase::Draining,
                Phase::Draining | Phase::Aborting => Phase::Aborting,
            };
        });
    }
}

impl Stop {
    /// Whether the server is on its way out: readiness fails then.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.0.borrow() >= Phase::Draining
    }

    pub(crate) async fn draining(&self) {
        self.reached(Phase::Draining).await;
    }

    pub(crate) async fn aborting(&self) {
        self.reached(Phase::Aborting).await;
    }

    /// A dropped [`Stopper`] never stops anything.
    async fn reached(&self, phase: Phase) {
        if self.0.clone().wait_for(|now| *now >= phase).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

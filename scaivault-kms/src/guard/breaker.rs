use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Stops asking a service that failed several times in a row, and lets one call through at a time to see
/// whether it is back.
#[derive(Debug)]
pub(super) struct Breaker {
    state: Mutex<State>,
    failures: u32,
    open_for: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed { failed: u32 },
    Open { until: Instant },
    Probing,
}

/// What a call showed of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It answers, were it with a refusal.
    Alive,
    /// It does not.
    Failed,
    /// The call says nothing either way.
    Unknown,
}

/// What changed by a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Opened,
    Closed,
}

/// The right to make one call. Dropped without a verdict (the caller went away), it shows nothing.
#[derive(Debug)]
pub(super) struct Ticket<'a> {
    breaker: &'a Breaker,
    probe: bool,
    settled: bool,
}

impl Breaker {
    pub(super) fn new(failures: u32, open_for: Duration) -> Self {
        Self { state: Mutex::new(State::Closed { failed: 0 }), failures: failures.max(1), open_for }
    }

    /// How long a call would be refused from now on, without making it the probe.
    pub(super) fn refuses(&self) -> Option<Duration> {
        self.lock().refuses(self.open_for)
    }

    /// Lets a call through, or says when to come back.
    pub(super) fn admit(&self) -> Result<Ticket<'_>, Duration> {
        let mut state = self.lock();
        if let Some(wait) = state.refuses(self.open_for) {
            return Err(wait);
        }
        let probe = matches!(*state, State::Open { .. });
        if probe {
            *state = State::Probing;
        }
        Ok(Ticket { breaker: self, probe, settled: false })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is one plain value: a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn refuses(&self, open_for: Duration) -> Option<Duration> {
        match self {
            Self::Closed { .. } => None,
            Self::Open { until } => {
                until.checked_duration_since(Instant::now()).filter(|wait| !wait.is_zero())
            }
            Self::Probing => Some(open_for),
        }
    }
}

impl Ticket<'_> {
    pub(super) fn settle(mut self, verdict: Verdict) -> Option<Change> {
        self.settled = true;
        let mut state = self.breaker.lock();
        let open = State::Open { until: Instant::now() + self.breaker.open_for };
        let (next, change) = match (*state, verdict, self.probe) {
            (State::Probing, Verdict::Alive, true) => (State::Closed { failed: 0 }, Some(Change::Closed)),
            (State::Probing, Verdict::Failed, true) => (open, None),
            (State::Probing, Verdict::Unknown, true) => (State::Open { until: Instant::now() }, None),
            (State::Closed { .. }, Verdict::Alive, _) => (State::Closed { failed: 0 }, None),
            (State::Closed { failed }, Verdict::Failed, _) if failed + 1 >= self.breaker.failures => {
                (open, Some(Change::Opened))
            }
            (State::Closed { failed }, Verdict::Failed, _) => (State::Closed { failed: failed + 1 }, None),
            // A call that began before the circuit opened says nothing about now.
            (state, _, _) => (state, None),
        };
        *state = next;
        change
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.probe && !self.settled {
            let mut state = self.breaker.lock();
            if *state == State::Probing {
                *state = State::Open { until: Instant::now() };
            }
        }
    }
}

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use time::OffsetDateTime;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{Record, sequencer::Sequencer};
use crate::{
    Error, Result, TenantId,
    events::Event,
    limits,
    storage::{As, Db, query},
};

/// Writes the records of reads and refusals, and gives those of changes their places: whatever arrives while one
/// group is being written makes up the next group, so that a record costs a share of a flush and not a flush.
#[derive(Debug)]
pub(crate) struct Recorder {
    /// `None` once the vault is closing.
    queue: ArcSwapOption<mpsc::Sender<Pending>>,
    woken: Arc<Mutex<BTreeSet<String>>>,
}

/// A record, and what is written with it.
#[derive(Debug)]
pub(crate) struct Note {
    pub(crate) record: Record,
    pub(crate) event: Option<Event>,
    pub(crate) touch: Option<Touch>,
}

/// A secret whose `last_accessed_at` is to move forward.
#[derive(Clone, Debug)]
pub(crate) struct Touch {
    pub(crate) tenant: TenantId,
    pub(crate) secret_id: String,
    pub(crate) at: OffsetDateTime,
}

#[derive(Debug)]
enum Pending {
    /// To be written.
    Note(Box<Note>, Done),
    /// To be told when nothing of this tenant waits for its place any more.
    Linked(String, Done),
    /// Somebody's intake has something; see [`Recorder::wake`].
    Woken,
}

type Done = oneshot::Sender<Result<(), Arc<Error>>>;

impl Recorder {
    /// Starts the task that writes. It ends when the recorder is dropped and everything is written.
    pub(crate) fn start(db: Db, sequencer: Sequencer) -> (Self, tokio::task::JoinHandle<()>) {
        let (queue, waiting) = mpsc::channel(limits::AUDIT_QUEUE);
        let woken = Arc::default();
        let writer =
            Writer { db, sequencer, woken: Arc::clone(&woken), touching: Arc::new(Semaphore::new(1)) };
        let recorder = Self { queue: ArcSwapOption::from_pointee(queue), woken };
        (recorder, tokio::spawn(writer.run(waiting)))
    }

    /// Takes no more records; those that wait are still written.
    pub(crate) fn stop(&self) {
        self.queue.store(None);
    }

    /// Records that wait to be written.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.load().as_ref().map_or(0, |queue| queue.max_capacity() - queue.capacity())
    }

    /// Comes back when the record is durable.
    ///
    /// # Errors
    /// [`Code::ServiceUnavailable`] if it could not be written, or too many wait already.
    pub(crate) async fn record(&self, note: Note) -> Result<()> {
        self.ask(|done| Pending::Note(Box::new(note), done)).await
    }

    /// Comes back when every record of the tenant that was durable before has its place.
    ///
    /// # Errors
    /// As [`record`](Self::record).
    pub(crate) async fn linked(&self, tenant: &str) -> Result<()> {
        self.ask(|done| Pending::Linked(tenant.to_owned(), done)).await
    }

    /// Says that a record of the tenant waits for its place. If that goes unheard, a job finds it.
    pub(crate) fn wake(&self, tenant: &str) {
        let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        if woken.insert(tenant.to_owned())
            && let Some(queue) = self.queue.load_full()
        {
            // If there is no room, the task has work and looks at the set when it is done with it.
            let _ = queue.try_send(Pending::Woken);
        }
    }

    async fn ask(&self, pending: impl FnOnce(Done) -> Pending) -> Result<()> {
        let (done, written) = oneshot::channel();
        let busy = |()| {
            let wait = Duration::from_secs(1);
            Error::unavailable("The audit trail cannot keep up.", wait, "the audit queue is full or closed")
        };
        let queue = self.queue.load_full().ok_or_else(|| busy(()))?;
        queue.try_send(pending(done)).map_err(|_| busy(()))?;
        drop(queue);
        let written = written.await.map_err(|_| Error::internal("the audit writer stopped"))?;
        written.map_err(|error| {
            tracing::error!(error = %error, causes = error.causes(), "audit records could not be written");
            let wait = error.details().retry_after.unwrap_or(Duration::from_secs(1));
            Error::unavailable("The audit trail cannot be written.", wait, error)
        })
    }
}

/// What the task has.
struct Writer {
    db: Db,
    sequencer: Sequencer,
    woken: Arc<Mutex<BTreeSet<String>>>,
    touching: Arc<Semaphore>,
}

impl Writer {
    async fn run(self, mut waiting: mpsc::Receiver<Pending>) {
        let mut group = Vec::with_capacity(limits::AUDIT_BATCH);
        // Tenants with more in their intake than one group takes, and who waits for them.
        let mut behind: BTreeSet<String> = BTreeSet::new();
        let mut askers: Vec<(String, Done)> = Vec::new();
        loop {
            if behind.is_empty() {
                if waiting.recv_many(&mut group, limits::AUDIT_BATCH).await == 0 {
                    return;
                }
            } else {
                while group.len() < limits::AUDIT_BATCH
                    && let Ok(pending) = waiting.try_recv()
                {
                    group.push(pending);
                }
                if group.is_empty() && waiting.is_closed() {
                    // The next start goes on.
                    return;
                }
            }
            let (mut notes, mut done) = (Vec::new(), Vec::new());
            for pending in group.drain(..) {
                match pending {
                    Pending::Note(note, asker) => {
                        notes.push(*note);
                        done.push(asker);
                    }
                    Pending::Linked(tenant, asker) => {
                        behind.insert(tenant.clone());
                        askers.push((tenant, asker));
                    }
                    Pending::Woken => {}
                }
            }
            behind.append(&mut self.woken.lock().unwrap_or_else(PoisonError::into_inner));
            let result = match self.sequencer.write(&notes, &behind).await {
                Ok(more) => {
                    behind = more;
                    Ok(())
                }
                Err(error) => {
                    // Whoever is behind is found again by the job; who asks is told.
                    behind.clear();
                    Err(Arc::new(error))
                }
            };
            // A caller that went away has nothing to be told.
            done.drain(..).for_each(|asker| drop(asker.send(result.clone())));
            for (tenant, asker) in std::mem::take(&mut askers) {
                if result.is_ok() && behind.contains(&tenant) {
                    askers.push((tenant, asker));
                } else {
                    let _ = asker.send(result.clone());
                }
            }
            self.touch(&notes);
        }
    }

    /// A secret may be locked by a writer: the records of everybody else do not wait for that. If the last
    /// touches are still waiting, these are dropped; the next read of the secret touches it.
    fn touch(&self, notes: &[Note]) {
        let touches = last_touches(notes);
        if !touches.is_empty()
            && let Ok(free) = Arc::clone(&self.touching).try_acquire_owned()
        {
            let db = self.db.clone();
            tokio::spawn(async move {
                touch(&db, touches).await;
                drop(free);
            });
        }
    }
}

async fn touch(db: &Db, touches: Vec<Touch>) {
    for touch in touches {
        let update = query(sql::TOUCH).bind(touch.at).bind(&touch.tenant).bind(&touch.secret_id);
        if let Err(error) = db.on(As::Tenant(&touch.tenant)).execute(update).await {
            tracing::warn!(error = %error, causes = error.causes(), "when a secret was last read could not be written");
        }
    }
}

/// One touch a secret, the latest.
fn last_touches(notes: &[Note]) -> Vec<Touch> {
    let mut touches: Vec<Touch> = notes.iter().filter_map(|n| n.touch.clone()).collect();
    touches.sort_by(|a, b| (&a.tenant, &a.secret_id, b.at).cmp(&(&b.tenant, &b.secret_id, a.at)));
    touches.dedup_by(|a, b| a.secret_id == b.secret_id && a.tenant == b.tenant);
    touches
}

pub(crate) mod sql {
    pub(crate) const TOUCH: &str = "\
        UPDATE secret SET last_accessed_at = $1 WHERE tenant_id = $2 AND id = $3 \
        AND (last_accessed_at IS NULL OR last_accessed_at < $1)";
    #[cfg(test)]
    pub(crate) const ALL: &[&str] = &[TOUCH];
}

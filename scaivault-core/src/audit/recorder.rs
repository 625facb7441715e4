use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use time::OffsetDateTime;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{Record, store};
use crate::{
    Error, Result, TenantId,
    events::{self, Event},
    limits,
    storage::{As, Db, query},
};

/// Writes the records of reads and refusals: whatever arrives while one group is being written makes up
/// the next group, so that a record costs a share of a flush and not a flush.
#[derive(Debug)]
pub(crate) struct Recorder {
    /// `None` once the vault is closing.
    queue: ArcSwapOption<mpsc::Sender<Pending>>,
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
struct Pending {
    note: Note,
    done: oneshot::Sender<Result<(), Arc<Error>>>,
}

impl Recorder {
    /// Starts the task that writes. It ends when the recorder is dropped and everything is written.
    pub(crate) fn start(db: Db) -> (Self, tokio::task::JoinHandle<()>) {
        let (queue, waiting) = mpsc::channel(limits::AUDIT_QUEUE);
        (Self { queue: ArcSwapOption::from_pointee(queue) }, tokio::spawn(write_groups(db, waiting)))
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
        let (done, written) = oneshot::channel();
        let busy = |()| {
            let wait = Duration::from_secs(1);
            Error::unavailable("The audit trail cannot keep up.", wait, "the audit queue is full or closed")
        };
        let queue = self.queue.load_full().ok_or_else(|| busy(()))?;
        queue.try_send(Pending { note, done }).map_err(|_| busy(()))?;
        drop(queue);
        let written = written.await.map_err(|_| Error::internal("the audit writer stopped"))?;
        written.map_err(|error| {
            tracing::error!(error = %error, causes = error.causes(), "audit records could not be written");
            let wait = error.details().retry_after.unwrap_or(Duration::from_secs(1));
            Error::unavailable("The audit trail cannot be written.", wait, error)
        })
    }
}

async fn write_groups(db: Db, mut waiting: mpsc::Receiver<Pending>) {
    let mut group = Vec::with_capacity(limits::AUDIT_BATCH);
    let touching = Arc::new(Semaphore::new(1));
    while waiting.recv_many(&mut group, limits::AUDIT_BATCH).await > 0 {
        let (notes, done): (Vec<_>, Vec<_>) = group.drain(..).map(|p| (p.note, p.done)).unzip();
        let result = write(&db, &notes).await.map_err(Arc::new);
        for waiter in done {
            // A caller that went away has nothing to be told.
            let _ = waiter.send(result.clone());
        }
        // A secret may be locked by a writer: the records of everybody else do not wait for that. If the last
        // touches are still waiting, these are dropped; the next read of the secret touches it.
        if let Ok(free) = Arc::clone(&touching).try_acquire_owned() {
            let touches = last_touches(&notes);
            if !touches.is_empty() {
                let db = db.clone();
                tokio::spawn(async move {
                    touch(&db, touches).await;
                    drop(free);
                });
            }
        }
    }
}

async fn write(db: &Db, notes: &[Note]) -> Result<()> {
    let records: Vec<Record> = notes.iter().map(|n| n.record.clone()).collect();
    let mut inserts = store::insert(&records);
    if inserts.len() == 1
        && notes.iter().all(|n| n.event.is_none())
        && let Some(insert) = inserts.pop()
    {
        return db.on(As::Recorder).execute(insert).await.map(drop);
    }
    let mut tx = db.on(As::Recorder).begin().await?;
    for insert in inserts {
        tx.execute(insert).await?;
    }
    for event in notes.iter().filter_map(|n| n.event.as_ref()) {
        tx.execute(events::store::insert(event)).await?;
    }
    tx.commit().await
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

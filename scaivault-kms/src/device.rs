//! Threads that own a device. A session of an HSM may not be shared and a TPM answers one caller at a time,
//! and both block: so each lives on a thread of its own and is asked through one bounded queue.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::KmsError;

type Job<W> = Box<dyn FnOnce(&mut W) + Send>;

/// Threads, each with a `W` of its own, that take jobs from one bounded queue. They end when the pool is dropped, which
/// waits a moment for them: what a device holds for us is given back before the process ends.
pub(crate) struct Pool<W> {
    provider: &'static str,
    /// Always there until the pool is dropped.
    jobs: Option<SyncSender<Job<W>>>,
    threads: Vec<thread::JoinHandle<()>>,
    deadline: Duration,
}

/// How long dropping a pool waits for its threads. One that hangs in its device is left behind.
const PARTING: Duration = Duration::from_secs(1);

impl<W> Drop for Pool<W> {
    fn drop(&mut self) {
        self.jobs = None;
        let until = Instant::now() + PARTING;
        while self.threads.iter().any(|thread| !thread.is_finished()) && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl<W: 'static> Pool<W> {
    /// Starts `threads` threads; `make` is called on each of them, so that a `W` need not be `Send`.
    pub(crate) fn start(
        provider: &'static str,
        threads: usize,
        queue: usize,
        deadline: Duration,
        make: impl Fn() -> W + Send + Sync + 'static,
    ) -> Result<Self, KmsError> {
        let (jobs, queued) = sync_channel(queue.max(1));
        let (queued, make) = (Arc::new(Mutex::new(queued)), Arc::new(make));
        let mut pool = Self { provider, jobs: Some(jobs), threads: Vec::new(), deadline };
        for number in 0..threads.max(1) {
            let (queued, make) = (Arc::clone(&queued), Arc::clone(&make));
            let thread = thread::Builder::new()
                .name(format!("{provider}-{number}"))
                .spawn(move || work(&queued, &*make))
                .map_err(|e| KmsError::Device {
                    provider,
                    message: "its thread could not be started".into(),
                    source: Some(e.into()),
                })?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// Runs `job` on one of the threads. A job that waited past the deadline is not begun; one that is under
    /// way when it passes is no longer waited for.
    ///
    /// # Errors
    /// What `job` answers; `Unavailable` if the queue is full or the deadline passed.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut W) -> Result<T, KmsError> + Send + 'static,
    ) -> Result<T, KmsError> {
        let (answer, answered) = oneshot::channel();
        let until = Instant::now() + self.deadline;
        let job: Job<W> = Box::new(move |worker| {
            if !answer.is_closed() && Instant::now() < until {
                // Whoever asked may have gone meanwhile; then nobody misses the answer.
                drop(answer.send(job(worker)));
            }
        });
        let jobs = self.jobs.as_ref().ok_or_else(|| self.unavailable("it is being closed".into()))?;
        jobs.try_send(job).map_err(|e| match e {
            TrySendError::Full(_) => self.unavailable("too many requests are waiting for the device".into()),
            TrySendError::Disconnected(_) => self.unavailable("its threads have ended".into()),
        })?;
        match tokio::time::timeout(self.deadline, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) if Instant::now() >= until => Err(self.late()),
            Ok(Err(_)) => Err(KmsError::Device {
                provider: self.provider,
                message: "the request ended without an answer".into(),
                source: None,
            }),
            Err(_) => Err(self.late()),
        }
    }

    fn late(&self) -> KmsError {
        self.unavailable(format!("no answer within {} ms", self.deadline.as_millis()))
    }

    fn unavailable(&self, message: String) -> KmsError {
        KmsError::Unavailable { provider: self.provider, message, retry_after: None, source: None }
    }
}

fn work<W>(queued: &Mutex<Receiver<Job<W>>>, make: &(impl Fn() -> W + ?Sized)) {
    let mut worker = make();
    loop {
        let job = queued.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if catch_unwind(AssertUnwindSafe(|| job(&mut worker))).is_err() {
            // What the device is in the middle of is unknown: begin with a fresh one.
            worker = make();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(threads: usize, queue: usize) -> Pool<u32> {
        Pool::start("test", threads, queue, Duration::from_millis(200), || 0).unwrap()
    }

    #[tokio::test]
    async fn a_device_that_hangs_costs_each_caller_its_deadline_and_no_more() {
        let pool = pool(1, 1);
        let hang = |_: &mut u32| {
            thread::sleep(Duration::from_secs(1));
            Ok(())
        };
        let begun = Instant::now();
        let (hung, waited, refused) =
            tokio::join!(pool.call(hang), async { pool.call(|_| Ok(())).await }, async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                pool.call(|_| Ok(())).await
            });
        assert!(begun.elapsed() < Duration::from_millis(800), "{:?}", begun.elapsed());
        for answer in [hung, waited, refused] {
            assert!(matches!(answer, Err(KmsError::Unavailable { .. })), "{answer:?}");
        }
        tokio::time::sleep(Duration::from_millis(1000)).await;
        pool.call(|_| Ok(())).await.unwrap();
    }

    #[tokio::test]
    async fn a_job_whose_caller_gave_up_is_not_begun() {
        let pool = pool(1, 4);
        let _ = tokio::time::timeout(
            Duration::from_millis(20),
            pool.call(|_| {
                thread::sleep(Duration::from_millis(100));
                Ok(())
            }),
        )
        .await;
        let _ = tokio::time::timeout(
            Duration::from_millis(20),
            pool.call(|n| {
                *n += 1;
                Ok(())
            }),
        )
        .await;
        assert_eq!(pool.call(|n| Ok(*n)).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_panic_ends_one_request_and_not_the_thread() {
        // Telling of a panic may take a while.
        let pool: Pool<u32> = Pool::start("test", 1, 4, Duration::from_secs(20), || 0).unwrap();
        #[expect(clippy::panic, reason = "the panic is what is tested")]
        let panics = |_: &mut u32| -> Result<(), KmsError> { panic!("made on purpose") };
        assert!(matches!(pool.call(panics).await, Err(KmsError::Device { .. })));
        pool.call(|_| Ok(())).await.unwrap();
    }
}

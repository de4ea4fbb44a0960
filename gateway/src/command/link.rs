//! Whether Kafka can be reached, known before a command is handed over.
//!
//! A command that was handed to the client library and got no acknowledgement may be on its way: of that one nobody
//! can say "not sent". So the truth is kept in front of it: while the link is down, commands wait here, and after a
//! short time are refused with nothing sent. The link goes from up to suspect at the first error of the client or
//! when an acknowledgement is late; a thread then asks for metadata until a broker answers.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Shared by the sender, the client's callbacks and the probing thread.
pub struct Link {
    up: watch::Sender<bool>,
    phase: Mutex<Phase>,
    changed: Condvar,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Up,
    /// Down until a probe proves otherwise.
    Suspect,
    Closed,
}

impl Default for Link {
    fn default() -> Self {
        Self::new()
    }
}

impl Link {
    /// Down until the first probe.
    #[must_use]
    pub fn new() -> Self {
        Self { up: watch::Sender::new(false), phase: Mutex::new(Phase::Suspect), changed: Condvar::new() }
    }

    /// Whether commands may be handed over.
    pub fn is_up(&self) -> bool {
        *self.up.borrow()
    }

    /// Waits until the link is up, for at most that long; says whether it is.
    pub async fn wait_until_up(&self, longest: Duration) -> bool {
        let mut up = self.up.subscribe();
        let waited = tokio::time::timeout(longest, up.wait_for(|up| *up)).await;
        matches!(waited, Ok(Ok(_)))
    }

    /// Something went wrong: nobody sends before a probe has succeeded.
    pub fn suspect(&self) {
        self.enter(Phase::Suspect);
    }

    /// Ends the probing.
    pub fn close(&self) {
        self.enter(Phase::Closed);
    }

    /// The probing thread: `probe` says whether a broker answered, and takes its time when none does. Returns when
    /// the link is closed.
    pub fn probe_until_closed(&self, mut probe: impl FnMut() -> bool) {
        loop {
            {
                let phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
                let idle = self.changed.wait_while(phase, |phase| *phase == Phase::Up);
                if *idle.unwrap_or_else(PoisonError::into_inner) == Phase::Closed {
                    return;
                }
            }
            if probe() {
                self.enter(Phase::Up);
            }
        }
    }

    fn enter(&self, next: Phase) {
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        if *phase == Phase::Closed || *phase == next {
            return;
        }
        *phase = next;
        self.up.send_replace(next == Phase::Up);
        self.changed.notify_all();
        match next {
            Phase::Up => tracing::info!("Kafka answers: commands are taken"),
            Phase::Suspect => tracing::warn!("Kafka does not answer: commands wait, then are refused"),
            Phase::Closed => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn goes_up_when_a_probe_succeeds_and_down_when_suspected() {
        let link = Arc::new(Link::new());
        let answers = Arc::new(AtomicBool::new(false));
        let probes = Arc::new(AtomicUsize::new(0));
        let prober = std::thread::spawn({
            let (link, answers, probes) = (Arc::clone(&link), Arc::clone(&answers), Arc::clone(&probes));
            move || {
                link.probe_until_closed(|| {
                    probes.fetch_add(1, Ordering::SeqCst);
                    std::thread::yield_now();
                    answers.load(Ordering::SeqCst)
                });
            }
        });
        assert!(!link.wait_until_up(Duration::from_millis(5)).await);
        answers.store(true, Ordering::SeqCst);
        assert!(link.wait_until_up(LONG).await);

        answers.store(false, Ordering::SeqCst);
        link.suspect();
        assert!(!link.is_up());
        assert!(!link.wait_until_up(Duration::from_millis(5)).await);

        answers.store(true, Ordering::SeqCst);
        assert!(link.wait_until_up(LONG).await);
        link.close();
        prober.join().unwrap();
        assert!(probes.load(Ordering::SeqCst) >= 2);
        link.suspect();
        assert!(!link.is_up(), "a closed link stays down");
    }
}

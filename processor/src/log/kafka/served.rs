//! A producer of the client library and the thread that serves its events.
//!
//! rdkafka 0.39 has one, `ThreadedProducer`, which is not used: it polls for 100 ms at a time, and the last part of a
//! millisecond of each poll is a busy loop (the rest of the time is rounded down to 0 ms for the client library). That was
//! 0.5 % of a core for each idle producer, three quarters of what an idle processor used. Here a poll takes a second;
//! events are served when they come, as there.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::{BaseProducer, Producer, ProducerContext, PurgeConfig};

/// Of one poll, and so how long a drop may take.
const POLL: Duration = Duration::from_secs(1);

/// See the module. Its drop waits for the thread, if there is one: leave it to a thread of its own.
pub(super) struct ServedProducer<C: ProducerContext + 'static> {
    inner: Arc<BaseProducer<C>>,
    ended: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl<C: ProducerContext + 'static> ServedProducer<C> {
    /// Without the thread: enough to be initialised, and dropped at once when it was not.
    pub fn create(config: &ClientConfig, context: C) -> KafkaResult<ServedProducer<C>> {
        let inner = Arc::new(BaseProducer::from_config_and_context(config, context)?);
        Ok(ServedProducer { inner, ended: Arc::new(AtomicBool::new(false)), thread: None })
    }

    /// From now on its events are served.
    pub fn serve(&mut self) -> KafkaResult<()> {
        let (served, stop) = (Arc::clone(&self.inner), Arc::clone(&self.ended));
        let serve = move || {
            while !stop.load(Ordering::Relaxed) {
                served.poll(POLL);
            }
        };
        let thread = std::thread::Builder::new().name("producer-events".to_owned()).spawn(serve);
        self.thread = Some(thread.map_err(|error| KafkaError::ClientCreation(format!("thread: {error}")))?);
        Ok(())
    }
}

impl<C: ProducerContext + 'static> Deref for ServedProducer<C> {
    type Target = BaseProducer<C>;

    fn deref(&self) -> &BaseProducer<C> {
        &self.inner
    }
}

impl<C: ProducerContext + 'static> Drop for ServedProducer<C> {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // What is still queued is not sent any more while the thread ends.
        self.inner.purge(PurgeConfig::default().queue().inflight());
        if let Some(thread) = self.thread.take() {
            // A panic of a callback was told already.
            let _ = thread.join();
        }
    }
}

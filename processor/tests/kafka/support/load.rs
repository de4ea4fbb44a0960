//! A steady load: transfers between accounts of all partitions at a fixed rate, from a thread of its own, whatever
//! happens to the processor.

#![expect(clippy::disallowed_methods, reason = "the rate of a load is in real time")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kontor_compose::eventually;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext};
use schemas::records::{ConfirmMoneyTransfer, Uuid};
use schemas::{Encoder, partition_of};

use super::{Bank, DEADLINE, Holder, PARTITIONS};

/// Between two looks how many are due.
const TICK: Duration = Duration::from_millis(2);

/// A running load; ends when it is stopped or dropped.
pub struct Load {
    stop: Arc<AtomicBool>,
    taken: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<Vec<Uuid>>>,
}

struct Counting(Arc<AtomicU64>);

impl ClientContext for Counting {}

impl ProducerContext for Counting {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_ok() {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Load {
    /// Sends `per_second` transfers among `holders`; `limit` of them at most.
    pub fn start(bank: &Bank, holders: &[Holder], per_second: u64, limit: u64, seed: u64) -> Load {
        Load::with_descriptions(bank, holders, (per_second, limit), seed, 0)
    }

    /// The same, `(per_second, limit)`, with descriptions of so many random characters of four bytes.
    pub fn with_descriptions(
        bank: &Bank,
        holders: &[Holder],
        (per_second, limit): (u64, u64),
        seed: u64,
        letters: usize,
    ) -> Load {
        let (stop, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bank.space.bootstrap()).set("enable.idempotence", "true").set("linger.ms", "1");
        // However long the broker is away, what was handed over is not given up.
        config.set("message.timeout.ms", "0");
        // A broker that was restarted is found again soon: by default it may take ten seconds.
        config.set("reconnect.backoff.max.ms", "500");
        let producer: ThreadedProducer<Counting> = config.create_with_context(Counting(Arc::clone(&taken))).unwrap();
        let mut source = Source {
            topic: bank.space.topic("commands"),
            encoder: bank.encoder("commands"),
            holders: holders.to_vec(),
            random: StdRng::seed_from_u64(seed),
            letters,
            sent: Vec::new(),
            producer,
        };
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let began = Instant::now();
            let mut sent = 0;
            while !stopped.load(Ordering::SeqCst) && sent < limit {
                let due = (began.elapsed().as_micros() as u64 * per_second / 1_000_000).min(limit);
                while sent < due {
                    source.send();
                    sent += 1;
                }
                std::thread::sleep(TICK);
            }
            source.producer.flush(DEADLINE).unwrap();
            source.sent
        });
        Load { stop, taken, thread: Some(thread) }
    }

    /// Commands that the broker has taken.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::SeqCst)
    }

    /// Waits until the broker has taken `more` commands than now.
    pub async fn another(&self, more: u64) {
        let target = self.taken() + more;
        eventually(DEADLINE, "the load goes on", || async { self.taken() >= target }).await.unwrap();
    }

    /// Stops it. Returns the ids of all its commands; the broker has taken every one.
    pub async fn stop(mut self) -> Vec<Uuid> {
        self.stop.store(true, Ordering::SeqCst);
        self.finish().await
    }

    /// Waits until the limit is sent. Returns the ids as [`Load::stop`] does.
    pub async fn finish(&mut self) -> Vec<Uuid> {
        let thread = self.thread.take().unwrap();
        let sent = tokio::task::spawn_blocking(move || thread.join().unwrap()).await.unwrap();
        assert_eq!(self.taken(), sent.len() as u64, "the broker took every command");
        sent
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

struct Source {
    topic: String,
    encoder: Encoder<ConfirmMoneyTransfer>,
    holders: Vec<Holder>,
    random: StdRng,
    letters: usize,
    sent: Vec<Uuid>,
    producer: ThreadedProducer<Counting>,
}

impl Source {
    /// Most move money between two accounts; some come from cash, some leave the bank, some are refused.
    fn send(&mut self) {
        let random = &mut self.random;
        let (from, to) = (random.random_range(0..self.holders.len()), random.random_range(1..self.holders.len()));
        let (from, to) = (&self.holders[from], &self.holders[(from + to) % self.holders.len()]);
        let mut command = ConfirmMoneyTransfer {
            id: Uuid(random.random()),
            token: from.token.clone(),
            amount: random.random_range(1..100),
            from: from.iban.clone(),
            to: to.iban.clone(),
            description: (0..self.letters).map(|_| random.random_range('\u{20000}'..='\u{2a6d6}')).collect(),
        };
        let mut key = if random.random() { from.username.clone() } else { from.iban.clone() };
        match random.random_range(0..10) {
            0 => {
                (command.from, command.token) = ("cash".to_owned(), "cash".to_owned());
                key.clone_from(&command.to);
            }
            1 => "a shop".clone_into(&mut command.to),
            2 => "0".clone_into(&mut command.token),
            _ => {}
        }
        let mut value = Vec::new();
        self.encoder.encode(&command, &mut value).unwrap();
        let partition = partition_of(key.as_bytes(), PARTITIONS);
        let record = BaseRecord::to(&self.topic).partition(partition).key(key.as_bytes()).payload(&value);
        self.producer.send(record).map_err(|(error, _)| error).unwrap();
        self.sent.push(command.id);
    }
}

//! A processor from maps: a bank of a few lines, served over a real socket that a test can cut, freeze and open again.
//! Several may serve the same maps, as owners do that follow each other.

mod service;

use gateway::command::Command;
use gateway::rows::{self, Account, Outcome, Transaction, User, outcome::State};
use parking_lot::Mutex;
use prost::Message;
use schemas::bank_view::IbanToken;
use schemas::query::query_server::QueryServer;
use schemas::query::{Entry, Token};
use schemas::records::{ConfirmAccountCreation, ConfirmMoneyTransfer};
use service::Service;
use std::collections::{BTreeMap, HashMap};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Status;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Default)]
struct State_ {
    tables: HashMap<(i32, String), Rows>,
    /// Every row ever written, in order.
    log: Vec<(i32, String, Entry)>,
    fingerprints: HashMap<Vec<u8>, [u8; 16]>,
    sequences: HashMap<i32, i64>,
    commits: HashMap<i32, u64>,
    /// What `Status` says.
    state: String,
    /// Reasons to give to the next account creations.
    refusals: Vec<String>,
    /// Tell so many watches that they fell behind.
    watches_behind: usize,
    /// Transactions of a partition up to this id are not kept.
    forgotten: HashMap<i32, i64>,
    next_iban: u64,
}

/// What a processor says instead of an answer.
type Refusal = Box<dyn Fn() -> Status + Send>;

pub struct FakeProcessor {
    pub name: String,
    pub partitions: i32,
    address: SocketAddr,
    state: Arc<Mutex<State_>>,
    changed: Arc<watch::Sender<usize>>,
    refusal: Mutex<Option<Refusal>>,
    /// The same to reads alone.
    read_refusal: Mutex<Option<Refusal>>,
    /// Of a standby: how old its rows are.
    staleness_ms: Mutex<Option<u32>>,
    /// Calls so far, without watches and questions about the state.
    calls: watch::Sender<usize>,
    /// What serves; a runtime of its own, so that a kill takes every connection with it.
    serving: Mutex<Option<Runtime>>,
    frozen: Mutex<Option<mpsc::Sender<()>>>,
}

impl FakeProcessor {
    pub async fn start(partitions: i32) -> Arc<Self> {
        let state = State_ { state: "running".into(), ..State_::default() };
        Self::over("fake", partitions, Arc::new(Mutex::new(state)), Arc::new(watch::Sender::new(0)))
    }

    /// One more processor of the same bank.
    pub fn beside(&self, name: &str) -> Arc<Self> {
        Self::over(name, self.partitions, Arc::clone(&self.state), Arc::clone(&self.changed))
    }

    fn over(name: &str, partitions: i32, state: Arc<Mutex<State_>>, changed: Arc<watch::Sender<usize>>) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let processor = Arc::new(Self {
            name: name.into(),
            partitions,
            address: listener.local_addr().unwrap(),
            state,
            changed,
            refusal: Mutex::new(None),
            read_refusal: Mutex::new(None),
            staleness_ms: Mutex::new(None),
            calls: watch::Sender::new(0),
            serving: Mutex::new(None),
            frozen: Mutex::new(None),
        });
        processor.serve(listener);
        processor
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Says this to every call from now on, and ends what is open with it.
    pub fn refuse(&self, refusal: impl Fn() -> Status + Send + 'static) {
        *self.refusal.lock() = Some(Box::new(refusal));
        self.announce();
    }

    /// Says this to every read of rows from now on; commands are still answered.
    pub fn refuse_reads(&self, refusal: impl Fn() -> Status + Send + 'static) {
        *self.read_refusal.lock() = Some(Box::new(refusal));
    }

    pub fn calls(&self) -> usize {
        *self.calls.borrow()
    }

    pub async fn until_called(&self, times: usize) {
        let mut calls = self.calls.subscribe();
        let called = calls.wait_for(|calls| *calls >= times);
        tokio::time::timeout(Duration::from_secs(20), called).await.expect("nobody calls").unwrap();
    }

    /// Stands still as a stopped process does: connections stay open, nothing is said any more.
    pub fn freeze(&self) {
        let (thaw, thawed) = mpsc::channel();
        let (freezing, is_frozen) = mpsc::channel();
        // The only thread that serves is the one that waits here.
        let stand_still = async move {
            freezing.send(()).unwrap();
            let _ = thawed.recv();
        };
        self.serving.lock().as_ref().expect("it serves").spawn(stand_still);
        is_frozen.recv().unwrap();
        *self.frozen.lock() = Some(thaw);
    }

    /// Cuts every connection, as a killed process does.
    pub fn kill(&self) {
        self.frozen.lock().take();
        if let Some(runtime) = self.serving.lock().take() {
            runtime.shutdown_background();
        }
    }

    /// Serves again at the same address.
    pub async fn restart(self: &Arc<Self>) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        let listener = loop {
            match TcpListener::bind(self.address) {
                Ok(listener) => break listener,
                Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        self.serve(listener);
    }

    fn serve(self: &Arc<Self>, listener: TcpListener) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let service = QueryServer::new(Service { bank: Arc::clone(self) });
        runtime.spawn(async move {
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let incoming = TcpListenerStream::new(listener);
            tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await
        });
        *self.serving.lock() = Some(runtime);
    }

    pub fn say_state(&self, state: &str) {
        self.state.lock().state = state.into();
    }

    pub fn refuse_next_creation(&self, reason: &str) {
        self.state.lock().refusals.push(reason.into());
    }

    pub fn next_watches_fall_behind(&self, how_many: usize) {
        self.state.lock().watches_behind = how_many;
    }

    /// Does not keep the transactions that were committed so far, as when their events were deleted from the topic and
    /// the store was lost.
    pub fn forget_transactions(&self, partition: i32) {
        let mut state = self.state.lock();
        let last = self.last_id(&state, partition);
        state.forgotten.insert(partition, last);
        state.tables.remove(&(partition, rows::TRANSACTION.to_owned()));
    }

    /// Loses one transaction out of the middle.
    pub fn lose_transaction(&self, partition: i32, id: i64) {
        let mut state = self.state.lock();
        let table = state.tables.get_mut(&(partition, rows::TRANSACTION.to_owned())).unwrap();
        table.remove(&rows::transaction_key(id)).unwrap();
    }

    /// Begins anew, as a bank whose topics were deleted.
    pub fn reset(&self) {
        *self.state.lock() = State_ { state: "running".into(), ..State_::default() };
    }

    /// A standby from now on, whose rows are old by so much.
    pub fn stand_by(&self, staleness_ms: u32) {
        *self.staleness_ms.lock() = Some(staleness_ms);
    }

    pub fn partition_of(&self, key: &str) -> i32 {
        schemas::partition_of(key.as_bytes(), self.partitions)
    }

    pub fn user(&self, username: &str) -> Option<User> {
        self.read(self.partition_of(username), rows::USER, username.as_bytes())
    }

    pub fn account(&self, iban: &str) -> Option<Account> {
        self.read(self.partition_of(iban), rows::ACCOUNT, iban.as_bytes())
    }

    pub fn transactions(&self) -> usize {
        self.state.lock().log.iter().filter(|(_, table, _)| table == rows::TRANSACTION).count()
    }

    fn read<T: Message + Default>(&self, partition: i32, table: &str, key: &[u8]) -> Option<T> {
        let state = self.state.lock();
        let bytes = state.tables.get(&(partition, table.to_owned()))?.get(key)?;
        Some(T::decode(bytes.as_slice()).unwrap())
    }

    /// A transaction out of nowhere.
    pub fn change_balance(&self, iban: &str, changed_by: i64, from_to: &str, description: &str) -> i64 {
        let mut state = self.state.lock();
        let id = self.change(&mut state, iban, changed_by, from_to, description, None);
        self.commit(&mut state, self.partition_of(iban));
        drop(state);
        self.announce();
        id
    }

    /// An account with a user of the same name, and no password.
    pub fn put_account(&self, iban: &str, balance: i64) {
        let mut state = self.state.lock();
        let partition = self.partition_of(iban);
        let account =
            Account { iban: iban.into(), username: iban.into(), balance, limit: -50_000, ..Account::default() };
        write(&mut state, partition, rows::ACCOUNT, iban.as_bytes().to_vec(), &account);
        let ibans = vec![IbanToken { iban: iban.into(), token: "0".repeat(20) }];
        let user = User { username: iban.into(), password_hash: None, ibans };
        write(&mut state, partition, rows::USER, iban.as_bytes().to_vec(), &user);
        self.commit(&mut state, partition);
        drop(state);
        self.announce();
    }

    pub fn process(&self, partition: i32, command: &Command) {
        {
            let mut state = self.state.lock();
            let id = command.id().as_bytes().to_vec();
            if state.fingerprints.contains_key(&id) {
                return;
            }
            state.fingerprints.insert(id.clone(), command.fingerprint());
            let outcome = match command {
                Command::AccountCreation(command) => self.create(&mut state, partition, command),
                Command::Transfer(command) => self.transfer(&mut state, command),
            };
            write(&mut state, partition, rows::OUTCOME, id, &outcome);
            self.commit(&mut state, partition);
        }
        self.announce();
    }

    fn create(&self, state: &mut State_, partition: i32, command: &ConfirmAccountCreation) -> Outcome {
        let id = command.id.0.to_vec();
        if let Some(reason) = state.refusals.pop() {
            return failed(id, &reason);
        }
        let key = command.username.as_bytes().to_vec();
        if state.tables.get(&(partition, rows::USER.into())).is_some_and(|users| users.contains_key(&key)) {
            return failed(id, "username already exists");
        }
        let iban = loop {
            state.next_iban += 1;
            let iban = format!("NL00OPEN0{:09}", state.next_iban);
            if self.partition_of(&iban) == partition {
                break iban;
            }
        };
        let token = format!("{:020}", state.next_iban);
        let account =
            Account { iban: iban.clone(), username: command.username.clone(), limit: -50_000, ..Account::default() };
        write(state, partition, rows::ACCOUNT, iban.as_bytes().to_vec(), &account);
        let ibans = vec![IbanToken { iban: iban.clone(), token: token.clone() }];
        let password_hash = command.password_hash.clone();
        write(state, partition, rows::USER, key, &User { username: command.username.clone(), password_hash, ibans });
        Outcome { id, state: State::Confirmed.into(), iban, token, ..Outcome::default() }
    }

    fn transfer(&self, state: &mut State_, command: &ConfirmMoneyTransfer) -> Outcome {
        let id = command.id.0.to_vec();
        let partition = self.partition_of(&command.from);
        if command.from != "cash" {
            let account = state.tables.get(&(partition, rows::ACCOUNT.into()));
            let row = account.and_then(|rows| rows.get(command.from.as_bytes()));
            let Some(row) = row.map(|bytes| Account::decode(bytes.as_slice()).unwrap()) else {
                return failed(id, "from is invalid");
            };
            if row.balance - command.amount < row.limit {
                return failed(id, "insufficient funds");
            }
            self.change(state, &command.from, -command.amount, &command.to, &command.description, Some(&id));
        }
        let to_partition = self.partition_of(&command.to);
        let known = state.tables.get(&(to_partition, rows::ACCOUNT.into()));
        if known.is_some_and(|rows| rows.contains_key(command.to.as_bytes())) {
            self.change(state, &command.to, command.amount, &command.from, &command.description, Some(&id));
            self.commit(state, to_partition);
        }
        Outcome { id, state: State::Confirmed.into(), ..Outcome::default() }
    }

    fn change(
        &self,
        state: &mut State_,
        iban: &str,
        changed_by: i64,
        from_to: &str,
        description: &str,
        transfer_id: Option<&[u8]>,
    ) -> i64 {
        let partition = self.partition_of(iban);
        let bytes = &state.tables[&(partition, rows::ACCOUNT.to_owned())][iban.as_bytes()];
        let mut account = Account::decode(bytes.as_slice()).unwrap();
        account.balance += changed_by;
        account.sequence += 1;
        let sequence = state.sequences.entry(partition).or_default();
        *sequence += 1;
        let transaction = Transaction {
            transaction_id: *sequence * i64::from(self.partitions) + i64::from(partition),
            iban: iban.into(),
            sequence: account.sequence,
            new_balance: account.balance,
            changed_by,
            from_to: from_to.into(),
            description: description.into(),
            transfer_id: transfer_id.map(<[u8]>::to_vec),
            time_ms: 1_767_225_600_000,
        };
        let id = transaction.transaction_id;
        write(state, partition, rows::ACCOUNT, iban.as_bytes().to_vec(), &account);
        write(state, partition, rows::HISTORY, rows::history_key(iban, account.sequence), &transaction);
        write(state, partition, rows::TRANSACTION, rows::transaction_key(id), &transaction);
        id
    }

    fn commit(&self, state: &mut State_, partition: i32) {
        *state.commits.entry(partition).or_default() += 1;
    }

    fn announce(&self) {
        self.changed.send_modify(|changes| *changes += 1);
    }

    /// Id of the last transaction of a partition; 0 before the first.
    fn last_id(&self, state: &State_, partition: i32) -> i64 {
        let number = state.sequences.get(&partition).copied().unwrap_or_default();
        if number == 0 { 0 } else { number * i64::from(self.partitions) + i64::from(partition) }
    }

    fn token(&self, state: &State_, partition: i32) -> Token {
        Token { partition, commit_sequence: state.commits.get(&partition).copied().unwrap_or_default() }
    }
}

fn failed(id: Vec<u8>, reason: &str) -> Outcome {
    Outcome { id, state: State::Failed.into(), reason: reason.into(), ..Outcome::default() }
}

fn write(state: &mut State_, partition: i32, table: &str, key: Vec<u8>, row: &impl Message) {
    let value = row.encode_to_vec();
    state.tables.entry((partition, table.to_owned())).or_default().insert(key.clone(), value.clone());
    state.log.push((partition, table.to_owned(), Entry { key, value, deleted: false }));
}

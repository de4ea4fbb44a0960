//! Faults of the in-memory log: which ones there are, and the plan that says when they strike.
//!
//! Two ways that add up: a script (`inject`: the next matching call gets it) and seeded chance by [`Rates`]. Nothing
//! here changes the log; the producer and the consumer ask the plan and act.

use std::collections::VecDeque;
use std::time::Duration;

use super::chance::Chance;

/// What can go wrong at a call. Each stands for something that a real broker or client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injected {
    /// `producer`: times out before anything happened.
    InitTimesOut,
    /// `producer`: times out after the earlier owner was fenced and its transaction aborted.
    InitReplyLost,
    /// `producer`: cannot be created now.
    InitUnavailable,
    /// `send`: the transaction must be aborted.
    SendAborts,
    /// `send`: the queue of the client is full; the same call may be made again.
    SendQueueFull,
    /// `send`, `commit`: the transaction outlived its time-out. It is aborted, its epoch raised.
    Expired,
    /// `commit`: committed, but the answer was lost.
    CommitReplyLost,
    /// `commit`: the request never arrived; the transaction stays open.
    CommitRequestLost,
    /// `commit`: no answer before the deadline; the request is on its way and is applied by
    /// `MemoryLog::deliver_late`, unless another producer is initialised first.
    CommitLate,
    /// `commit`: answered after this time; past the deadline it is as [`Injected::CommitLate`].
    CommitSlow(Duration),
    /// `commit`: acknowledged, the markers land later and one by one (`MemoryLog::deliver_late`), at the latest
    /// before the next transaction of this id.
    MarkersLate,
    /// `commit`: a record could not be delivered, the transaction must be aborted.
    CommitAborts,
    /// `abort`: aborted, but the answer was lost.
    AbortReplyLost,
    /// `abort`: the request never arrived; the transaction stays open.
    AbortRequestLost,
    /// `poll`: the broker cannot be reached.
    PollUnavailable,
    /// `poll`: nothing arrived in time although there is something.
    PollEmpty,
    /// `watermarks`: the broker cannot be reached.
    WatermarksUnavailable,
    /// `assign`: the broker cannot be reached.
    AssignUnavailable,
}

/// The call at which a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Init,
    Send,
    Commit,
    Abort,
    Poll,
    Watermarks,
    Assign,
}

impl Injected {
    fn strikes(self, call: Call) -> bool {
        use Injected::*;
        match self {
            InitTimesOut | InitReplyLost | InitUnavailable => call == Call::Init,
            SendAborts | SendQueueFull => call == Call::Send,
            Expired => matches!(call, Call::Send | Call::Commit),
            CommitReplyLost | CommitRequestLost | CommitLate | CommitSlow(_) | MarkersLate | CommitAborts => {
                call == Call::Commit
            }
            AbortReplyLost | AbortRequestLost => call == Call::Abort,
            PollUnavailable | PollEmpty => call == Call::Poll,
            WatermarksUnavailable => call == Call::Watermarks,
            AssignUnavailable => call == Call::Assign,
        }
    }
}

/// How often faults strike by chance, in a thousand calls of their kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// All of `producer`.
    pub init: u32,
    /// All of `send`.
    pub send: u32,
    /// All of `commit` but late markers.
    pub commit: u32,
    /// Late markers.
    pub markers_late: u32,
    /// All of `abort`.
    pub abort: u32,
    /// All of `poll`.
    pub poll: u32,
    /// `watermarks`.
    pub watermarks: u32,
    /// `assign`.
    pub assign: u32,
    /// `poll` gives only a part of what it could give.
    pub short_poll: u32,
}

impl Rates {
    /// Nothing goes wrong by chance.
    pub const NONE: Rates = Rates {
        init: 0,
        send: 0,
        commit: 0,
        markers_late: 0,
        abort: 0,
        poll: 0,
        watermarks: 0,
        assign: 0,
        short_poll: 0,
    };

    /// Everything goes wrong now and then, and still there is progress.
    pub const ROUGH: Rates = Rates {
        init: 100,
        send: 3,
        commit: 80,
        markers_late: 100,
        abort: 100,
        poll: 50,
        watermarks: 100,
        assign: 50,
        short_poll: 300,
    };
}

/// When faults strike.
#[derive(Debug)]
pub(super) struct Plan {
    script: VecDeque<(Option<String>, Injected)>,
    rates: Rates,
    chance: Chance,
}

impl Plan {
    pub fn quiet() -> Plan {
        Plan { script: VecDeque::new(), rates: Rates::NONE, chance: Chance::new(0) }
    }

    pub fn seed(&mut self, seed: u64, rates: Rates) {
        self.chance = Chance::new(seed);
        self.rates = rates;
    }

    pub fn script(&mut self, name: Option<String>, fault: Injected) {
        self.script.push_back((name, fault));
    }

    pub fn scripted(&self) -> usize {
        self.script.len()
    }

    pub fn clear(&mut self) {
        self.script.clear();
        self.rates = Rates::NONE;
    }

    /// The fault of this call by the producer or consumer of this name, if there is one.
    pub fn strike(&mut self, call: Call, name: &str) -> Option<Injected> {
        let scripted = self
            .script
            .iter()
            .position(|(only, fault)| fault.strikes(call) && only.as_deref().is_none_or(|only| only == name));
        if let Some(index) = scripted {
            return self.script.remove(index).map(|(_, fault)| fault);
        }
        self.by_chance(call)
    }

    /// How many of `max` records a poll gives.
    pub fn shorten(&mut self, max: usize) -> usize {
        if max > 1 && self.chance.per_mille(self.rates.short_poll) { 1 + self.chance.index(max.min(8)) } else { max }
    }

    fn by_chance(&mut self, call: Call) -> Option<Injected> {
        use Injected::*;
        let rates = self.rates;
        if call == Call::Commit && self.chance.per_mille(rates.markers_late) {
            return Some(MarkersLate);
        }
        let (rate, faults): (u32, &[Injected]) = match call {
            Call::Init => (rates.init, &[InitTimesOut, InitReplyLost, InitUnavailable]),
            Call::Send => (rates.send, &[SendAborts, SendQueueFull, Expired]),
            Call::Commit => (rates.commit, &[CommitReplyLost, CommitRequestLost, CommitLate, CommitAborts, Expired]),
            Call::Abort => (rates.abort, &[AbortReplyLost, AbortRequestLost]),
            Call::Poll => (rates.poll, &[PollUnavailable, PollEmpty]),
            Call::Watermarks => (rates.watermarks, &[WatermarksUnavailable]),
            Call::Assign => (rates.assign, &[AssignUnavailable]),
        };
        self.chance.per_mille(rate).then(|| faults[self.chance.index(faults.len())])
    }
}

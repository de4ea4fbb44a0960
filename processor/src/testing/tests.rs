//! The engine under simulation, with a small topology of its own.

mod harness;
mod ledger;
mod schedules;
mod workload;

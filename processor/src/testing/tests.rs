//! The engine under simulation, with a small topology of its own.

mod bad_records;
mod claims;
mod harness;
mod idle;
mod layouts;
mod ledger;
mod schedules;
mod stall;
mod workload;
mod world;

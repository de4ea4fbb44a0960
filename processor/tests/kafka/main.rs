//! The processor as a process, on a real broker and a real registry. One file per behaviour; the numbers in the names
//! of tests are rows of the lists of features and faults.
//!
//! Every test has a name space of its own (topics, directories, processes) and ends with a clean `processor audit` of
//! it. All files make one program, because a program for each would be linked a dozen times. A test waits for
//! conditions, never for a time; where chance is used its seed is printed and can be given back in `KONTOR_SEED`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod support;

mod accounts;
mod audit;
mod bounded;
mod broker;
mod command_line;
mod crashes;
mod damage;
mod damaged_log;
mod declaration;
mod derived;
mod expiry;
mod fence;
mod instances;
mod layout;
mod partition_faults;
mod peer;
mod poison;
mod reads;
mod registry_down;
mod repeats;
mod replay;
mod restore;
mod serving;
mod shutdown;
mod slow;
mod status;
mod storm;
mod transfers;
mod unknown_outcome;
mod upgrade;

//! Two processes that both believe they own the shards (the same transactional ids): the younger one is the owner.
//! Neither is a member of anything, so only the fence and the claim are there to tell.

use tonic::Code;

use crate::support::{Bank, DEADLINE, Load, SHARDS, seed};
use kontor_compose::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn f5_the_older_of_two_owners_is_fenced_says_so_and_does_not_steal_back() {
    let seed = seed("fence");
    let bank = Bank::new("fence").await;
    let mut older = bank.run_alone("older").await;
    let holders = bank.holders(&older, 2, 1_000_000).await;
    let load = Load::start(&bank, &holders, 200, u64::MAX, seed);
    load.another(100).await;

    let younger = bank.run_alone("younger").await;
    let all_dropped = || async {
        let states = older.states().await;
        !states.is_empty() && states.iter().all(|state| state == "stopped")
    };
    eventually(DEADLINE, "the older drops all its shards", all_dropped).await.unwrap();

    // It says so, once for each shard, with the name of the other; and it lives.
    let said = || async { older.lines("another instance owns this shard now").len() >= SHARDS as usize };
    eventually(DEADLINE, "the older says so", said).await.unwrap();
    let lines = older.lines("another instance owns this shard now");
    assert_eq!(lines.len(), SHARDS as usize, "{lines:?}");
    assert!(lines.iter().all(|line| line.contains("fenced") && line.contains("other=\"processor-")), "{lines:?}");
    assert_eq!((older.status("/readyz").await, older.status("/livez").await), (503, 200));
    let refused = older.queries().get(0, "account", holders[0].iban.as_bytes()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("owned by processor-"), "{refused}");
    // It produces nothing any more: counted transactions stay where they are, while the younger one goes on.
    let transactions = older.metric("kontor_records_produced_total").await;
    let (taken, answered) = (load.taken(), younger.metric("kontor_decisions_total").await);
    let goes_on =
        || async { load.taken() > taken + 200 && younger.metric("kontor_decisions_total").await > answered + 200.0 };
    eventually(DEADLINE, "commands go on at the younger", goes_on).await.unwrap();
    assert_eq!(older.metric("kontor_records_produced_total").await, transactions);
    assert_eq!(younger.lines("fenced"), Vec::<String>::new(), "the older did not steal back");
    assert_eq!(younger.lines("initialising again"), Vec::<String>::new());
    assert_eq!(younger.status("/readyz").await, 200);

    let sent = load.stop().await;
    bank.assert_clean().await;
    bank.assert_answered_once(&sent).await;
    assert_eq!(older.terminate().await.code(), Some(0), "it still ends cleanly");
    bank.assert_clean().await;
}

/// An idle owner has nothing to produce, so it cannot be told by a fence; its claim is gone all the same, and with the
/// first command after that it finds out. Nothing that it reads is lost: the younger one has it.
#[tokio::test(flavor = "multi_thread")]
async fn f5_an_idle_older_owner_gives_up_with_the_next_command() {
    let bank = Bank::new("idle-fence").await;
    let older = bank.run_alone("older").await;
    let holders = bank.holders(&older, 1, 1_000).await;
    let younger = bank.run_alone("younger").await;
    for holder in &holders {
        assert_eq!(younger.queries().reason(&bank.pay(holder, "a shop", 10)).await, "");
        assert_eq!(younger.queries().balance(&holder.iban).await, 990);
    }
    let dropped = || async { older.states().await.iter().all(|state| state == "stopped") };
    eventually(DEADLINE, "the older drops all its shards", dropped).await.unwrap();
    bank.assert_clean().await;
}

/// Fenced by somebody who died before the claim: nobody else owns the shard, so its owner goes on.
#[tokio::test(flavor = "multi_thread")]
async fn f5_an_owner_that_was_fenced_by_one_that_never_claimed_goes_on() {
    let seed = seed("no-claim");
    let bank = Bank::new("no-claim").await;
    let owner = bank.run_alone("owner").await;
    let holders = bank.holders(&owner, 2, 1_000_000).await;
    let load = Load::start(&bank, &holders, 200, u64::MAX, seed);
    load.another(50).await;
    // It initialises its producers, and dies with its first claim staged.
    let mut passing = bank
        .launch_alone("passing", |builder| builder.program("processor-faults").env("KONTOR_CRASH_AT", "after-stage:1"));
    passing.end().await;
    let (taken, answered) = (load.taken(), owner.metric("kontor_decisions_total").await);
    let goes_on =
        || async { load.taken() > taken + 100 && owner.metric("kontor_decisions_total").await > answered + 100.0 };
    eventually(DEADLINE, "the owner goes on", goes_on).await.unwrap();
    // It waits a while for a claim before it takes the shard again.
    let taken_again =
        || async { owner.status("/readyz").await == 200 && !owner.lines("the claim is still ours").is_empty() };
    eventually(DEADLINE, "all shards run again", taken_again).await.unwrap();
    let sent = load.stop().await;
    bank.assert_clean().await;
    bank.assert_answered_once(&sent).await;
}

/// Its claim is on its way and never arrives: the transaction that holds it hides the end of the changelog until its
/// time-out, and the owner does not wait for that.
#[tokio::test(flavor = "multi_thread")]
async fn f5_an_owner_that_was_fenced_by_one_whose_claim_stays_open_goes_on() {
    let seed = seed("open-claim");
    let bank = Bank::new("open-claim").await;
    let owner = bank.run_alone("owner").await;
    let holders = bank.holders(&owner, 2, 1_000_000).await;
    let load = Load::start(&bank, &holders, 200, u64::MAX, seed);
    load.another(50).await;
    let mut stuck = bank.launch_alone("stuck", |builder| {
        builder.program("processor-faults").env("KONTOR_STALL_AT", "before-commit:each:600000")
    });
    let gave_up = || async { owner.lines("could not be read to its end in time").len() == SHARDS as usize };
    eventually(DEADLINE, "the owner waits for the claims no longer", gave_up).await.unwrap();
    let answered = owner.metric("kontor_decisions_total").await;
    let goes_on = || async {
        owner.status("/readyz").await == 200 && owner.metric("kontor_decisions_total").await > answered + 100.0
    };
    eventually(DEADLINE, "all shards run again", goes_on).await.unwrap();
    stuck.kill();
    let sent = load.stop().await;
    bank.assert_clean().await;
    bank.assert_answered_once(&sent).await;
}

/// The younger has everything to restore before it can claim, and the older finds out meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn f5_the_older_does_not_steal_back_while_the_younger_still_restores() {
    let seed = seed("slow-claim");
    let bank = Bank::new("slow-claim").await;
    let older = bank.run_alone("older").await;
    let holders = bank.holders(&older, 2, 1_000_000).await;
    // Something to restore.
    Load::start(&bank, &holders, 5_000, 20_000, seed).finish().await;
    bank.assert_clean().await;
    let load = Load::start(&bank, &holders, 200, u64::MAX, seed + 1);
    load.another(50).await;
    let mut younger = bank.launch_alone("younger", |builder| builder);
    let one_owner = || async {
        let (older, younger) = (older.states().await, younger.states().await);
        let all = |states: &[String], state: &str| !states.is_empty() && states.iter().all(|one| one == state);
        all(&older, "stopped") && all(&younger, "running")
    };
    let told = eventually(DEADLINE, "the younger owns all shards", one_owner).await;
    assert!(told.is_ok(), "older: {}\nyounger: {}", older.said(), younger.said());
    assert_eq!(younger.lines("fenced"), Vec::<String>::new());
    let sent = load.stop().await;
    bank.assert_clean().await;
    bank.assert_answered_once(&sent).await;
    assert!(younger.ended().is_none());
}

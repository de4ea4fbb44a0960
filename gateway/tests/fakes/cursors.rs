//! Cursors after which transactions are missing: the subscriber is told, and never shown less than there was.

use crate::fake::World;
use crate::streams::{Stream, with};
use gateway::live::cursor::Cursor;
use gateway::rows::partition_of_transaction;
use std::time::Duration;

/// A bank with an account and so many transactions of 1, 2, 3 … cents, which the gateway has seen; their ids.
async fn with_transactions(count: i64) -> (World, String, Vec<i64>) {
    let world = World::new().await;
    let (iban, _) = world.open("somebody").await;
    let mut seen = Stream::live(&world, &with("")).await;
    let ids = (1..=count).map(|cents| world.bank.change_balance(&iban, cents, "cash", "")).collect();
    assert_eq!(seen.amounts(count as usize).await, (1..=count).collect::<Vec<_>>());
    drop(seen);
    while world.gateway.live.channels() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    (world, iban, ids)
}

fn after(iban: &str, transaction_id: i64, sequence: i64) -> String {
    wanted_after(iban, transaction_id, sequence, "")
}

/// With more conditions.
fn wanted_after(iban: &str, transaction_id: i64, sequence: i64, conditions: &str) -> String {
    let cursor = Cursor::Account { transaction_id, sequence }.encode();
    with(&format!("(iban: \"{iban}\", after: \"{cursor}\"{conditions})"))
}

#[tokio::test]
async fn a_cursor_whose_transactions_are_not_kept_is_too_old_and_the_newest_is_not() {
    let (world, iban, ids) = with_transactions(3).await;
    let mut live = Stream::live(&world, &with("")).await;
    world.bank.kill();
    world.bank.forget_transactions(world.bank.partition_of(&iban));
    world.bank.restart().await;
    assert_eq!(Stream::open(&world, &after(&iban, ids[1], 2)).code().await, "CURSOR_TOO_OLD");
    // Whoever has seen them all misses nothing.
    world.bank.change_balance(&iban, 4, "cash", "");
    assert_eq!(live.amounts(1).await, [4]);
    let mut resumed = Stream::open(&world, &after(&iban, ids[2], 3));
    assert_eq!(resumed.amounts(1).await, [4]);
    // Now the table begins behind them.
    assert_eq!(Stream::open(&world, &after(&iban, ids[1], 2)).code().await, "CURSOR_TOO_OLD");
    world.bank.change_balance(&iban, 5, "cash", "");
    assert_eq!((live.amounts(1).await, resumed.amounts(1).await), (vec![5], vec![5]));
}

#[tokio::test]
async fn a_cursor_of_all_accounts_is_too_old_when_one_partition_lacks_something() {
    let (world, iban, ids) = with_transactions(2).await;
    let partition = partition_of_transaction(ids[0], crate::fake::PARTITIONS).unwrap();
    world.bank.kill();
    world.bank.forget_transactions(partition);
    world.bank.restart().await;
    world.bank.change_balance(&iban, 3, "cash", "");
    let cursor = |id: i64| {
        let last = (0..crate::fake::PARTITIONS).map(|one| if one == partition { id } else { 0 });
        with(&format!("(after: \"{}\")", Cursor::All(last.collect()).encode()))
    };
    assert_eq!(Stream::open(&world, &cursor(ids[0])).code().await, "CURSOR_TOO_OLD");
    assert_eq!(Stream::open(&world, &cursor(ids[1])).amounts(1).await, [3]);
}

#[tokio::test]
async fn a_hole_in_the_middle_is_not_passed_over() {
    let (world, iban, ids) = with_transactions(5).await;
    world.bank.lose_transaction(world.bank.partition_of(&iban), ids[2]);
    let mut stream = Stream::open(&world, &after(&iban, ids[0], 1));
    assert_eq!(stream.amounts(1).await, [2]);
    assert_eq!(stream.code().await, "CURSOR_TOO_OLD");
    assert_eq!(Stream::open(&world, &after(&iban, ids[2], 3)).amounts(2).await, [4, 5]);
}

#[tokio::test]
async fn a_filter_withholds_nothing_that_is_wanted_and_hides_no_hole() {
    // More than one call looks at.
    let (world, iban, ids) = with_transactions(2500).await;
    let resume = |nth: usize, conditions: &str| wanted_after(&iban, ids[nth - 1], nth as i64, conditions);
    let before = world.bank.calls();
    let mut large = Stream::open(&world, &resume(1, ", min_amount: 2400"));
    assert_eq!(large.amounts(101).await, (2400..=2500).collect::<Vec<_>>());
    assert_eq!(world.bank.calls() - before, 3, "each page is asked for once, and filtered by the processor");
    let everywhere = Cursor::All(vec![0; crate::fake::PARTITIONS as usize]).encode();
    let mut all = Stream::open(&world, &with(&format!("(after: \"{everywhere}\", min_amount: 2499)")));
    assert_eq!(all.amounts(2).await, [2499, 2500]);
    let mut few = Stream::open(&world, &resume(1, ", max_amount: 3"));
    assert_eq!(few.amounts(2).await, [2, 3]);
    world.bank.change_balance(&iban, 1, "cash", "");
    assert_eq!(few.amounts(1).await, [1], "live behind pages of which nothing was wanted");
    // Among rows of which none is wanted.
    world.bank.lose_transaction(world.bank.partition_of(&iban), ids[1999]);
    let mut few = Stream::open(&world, &resume(1, ", max_amount: 3"));
    assert_eq!(few.amounts(2).await, [2, 3]);
    assert_eq!(few.code().await, "CURSOR_TOO_OLD");
    assert_eq!(Stream::open(&world, &resume(2000, ", max_amount: 3")).amounts(1).await, [1]);
}

#[tokio::test]
async fn a_subscriber_is_told_when_the_gateway_could_not_read_what_came_meanwhile() {
    let (world, iban, _) = with_transactions(1).await;
    let mut live = Stream::live(&world, &with("")).await;
    world.bank.kill();
    world.bank.change_balance(&iban, 2, "cash", "committed and deleted before anybody read it");
    world.bank.forget_transactions(world.bank.partition_of(&iban));
    world.bank.restart().await;
    assert_eq!(live.code().await, "CURSOR_TOO_OLD");
    let mut again = Stream::live(&world, &with("")).await;
    world.bank.change_balance(&iban, 3, "cash", "");
    assert_eq!(again.amounts(1).await, [3]);
}

#[tokio::test]
async fn a_cursor_from_before_a_reset_or_of_another_bank_is_refused() {
    let (world, iban, ids) = with_transactions(3).await;
    let beyond = after(&iban, ids[2] + i64::from(crate::fake::PARTITIONS), 4);
    assert_eq!(Stream::open(&world, &beyond).code().await, "CURSOR_TOO_OLD");
    let mut live = Stream::live(&world, &with("")).await;
    world.bank.kill();
    world.bank.reset();
    world.bank.restart().await;
    assert_eq!(live.code().await, "CURSOR_TOO_OLD");
    assert_eq!(Stream::open(&world, &after(&iban, ids[2], 3)).code().await, "CURSOR_TOO_OLD");
    // It goes on from the new beginning.
    let mut again = Stream::live(&world, &with("")).await;
    world.bank.put_account(&iban, 0);
    world.bank.change_balance(&iban, 9, "cash", "");
    assert_eq!(again.amounts(1).await, [9]);
}

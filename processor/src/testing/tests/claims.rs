//! Two processes that both own a shard, without anybody to decide between them.

use super::world::World;
use crate::layout::Layout;
use crate::shard::{Exit, Interrupt};

const LAYOUT: Layout = Layout { number: 1, shards: 1 };

#[test]
fn who_is_fenced_by_the_owner_before_gives_way_to_it() {
    let world = World::new();
    let mut elsewhere = world.elsewhere();
    let mut older = world.owners(LAYOUT).remove(0);
    let mut younger = elsewhere.owners(LAYOUT).remove(0);
    // As after an answer that was not clear. Its claim reads like the one that the younger has found.
    older.own().unwrap();
    elsewhere.command(0);
    let interrupt = younger.step().unwrap_err();
    assert!(matches!(interrupt, Interrupt::Fenced(_)), "{interrupt:?}");
    let exit = younger.recover(interrupt);
    let Some(Exit::NotOwner(other)) = exit else { panic!("{exit:?}") };
    assert!(other.starts_with("processor "), "{other}");
}

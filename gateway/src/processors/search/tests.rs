use super::*;
use crate::routing::Control;
use crate::routing::samples::directory;
use futures_util::FutureExt;

const LONG: Duration = Duration::from_secs(20);

fn control(epoch: i64, owner: &str) -> Arc<Control> {
    let control = Arc::new(Control::new(1));
    publish(&control, epoch, owner);
    control
}

fn publish(control: &Control, epoch: i64, owner: &str) {
    control.publish(&directory(epoch, &[owner], &["a", "b", "c"]));
}

fn search(control: &Arc<Control>) -> Search {
    Search::new(Arc::clone(control) as Arc<dyn Routing>, 0)
}

fn names(epoch: i64, endpoint: &str) -> Status {
    NotOwner { epoch, endpoint: endpoint.to_owned() }.into_status("not the owner")
}

fn at(search: &mut Search) -> String {
    search.owner().unwrap().processor.endpoint.to_string()
}

#[tokio::test]
async fn only_a_later_owner_is_gone_to_at_once() {
    let control = control(5, "a");
    let mut search = search(&control);
    for earlier in [names(5, "http://b"), names(4, "http://b"), names(6, ""), Status::failed_precondition("elsewhere")]
    {
        assert!(!search.learn(&earlier), "{earlier:?}");
        assert_eq!(at(&mut search), "http://a");
    }
    assert!(search.learn(&names(6, "http://b")));
    assert_eq!(at(&mut search), "http://b");
    assert!(!search.learn(&names(6, "http://a")), "two of one epoch contradict each other");
    assert_eq!(at(&mut search), "http://b");
}

#[tokio::test]
async fn the_routing_is_believed_again_when_it_knows_as_much_or_the_named_one_does_not_serve() {
    let control = control(5, "a");
    let mut search = search(&control);
    assert!(search.learn(&names(7, "http://b")));
    publish(&control, 6, "c");
    assert_eq!(at(&mut search), "http://b");
    publish(&control, 7, "c");
    assert_eq!(at(&mut search), "http://c");

    assert!(search.learn(&names(8, "http://b")));
    assert!(!search.learn(&Status::unavailable("restoring")));
    assert_eq!(at(&mut search), "http://c");
}

#[tokio::test]
async fn however_often_a_later_owner_is_named_there_are_few_hops() {
    let control = control(0, "a");
    let mut search = search(&control);
    let hops = (1..100).filter(|epoch| search.learn(&names(*epoch, ["http://a", "http://b"][(epoch % 2) as usize])));
    assert_eq!(hops.count(), 3);
    assert_eq!(at(&mut search), "http://b", "the last name counts all the same");
}

#[tokio::test]
async fn a_change_of_the_routing_ends_a_pause() {
    let control = control(1, "a");
    let mut search = search(&control);
    search.pause = LONG * 100;
    assert_eq!(at(&mut search), "http://a");
    publish(&control, 2, "b");
    // It came after the look, so there is no pause at all.
    tokio::time::timeout(LONG, search.pause(Instant::now() + LONG * 100)).await.unwrap();
    assert_eq!(at(&mut search), "http://b");
    assert_eq!(search.pause, LONGEST_PAUSE);
}

#[tokio::test]
async fn a_pause_ends_with_the_deadline_and_by_itself() {
    let mut search = search(&control(1, "a"));
    tokio::time::timeout(LONG, search.pause(Instant::now() + LONG * 100)).await.unwrap();
    assert_eq!(search.pause, FIRST_PAUSE * 2);
    search.pause = LONG * 100;
    tokio::time::timeout(LONG, search.pause(Instant::now())).await.unwrap();
}

#[tokio::test]
async fn only_another_and_not_an_earlier_owner_takes_a_call_away() {
    let control = control(5, "a");
    let mut search = search(&control);
    assert!(search.learn(&names(7, "http://b")));
    let from = search.owner().unwrap();
    let moved = search.moved(&from);
    tokio::pin!(moved);
    let cases = [(6, "a", false), (7, "b", false), (8, "b", false), (9, "gone", false), (10, "c", true)];
    for (epoch, owner, is_moved) in cases {
        publish(&control, epoch, owner);
        assert_eq!(moved.as_mut().now_or_never().is_some(), is_moved, "{epoch} {owner}");
    }
}

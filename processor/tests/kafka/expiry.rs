//! Outcomes leave after their time, by tombstones, a few with each transaction; and with them the memory of their ids.

use kontor_compose::eventually;

use crate::support::{Bank, DEADLINE, Stopped};

/// A third of a second.
const RETENTION_HOURS: &str = "0.0001";

#[tokio::test(flavor = "multi_thread")]
async fn e15_final_outcomes_expire_in_the_store_and_in_the_changelog_alike() {
    let bank = Bank::new("expiry").await;
    let mut processor = bank.launch("p1", |builder| builder.env("KONTOR_OUTCOME_RETENTION_HOURS", RETENTION_HOURS));
    processor.ready().await;
    let holder = bank.holder(&processor, 0, 100_000).await;
    let old: Vec<_> = (0..20).map(|_| bank.pay(&holder, "a shop", 1)).collect();
    for one in &old {
        assert_eq!(processor.queries().reason(one).await, "");
    }
    // Time is that of records: only later commands of the same partition make it pass.
    let gone = || async {
        let later = bank.pay(&holder, "a shop", 1);
        assert_eq!(processor.queries().reason(&later).await, "");
        let mut left = 0;
        for one in &old {
            left += usize::from(processor.queries().get(0, "outcome", &one.id.0).await.unwrap().is_some());
        }
        left == 0
    };
    eventually(DEADLINE, "the old outcomes are gone", gone).await.unwrap();
    assert_clean(&bank).await;
    // For an auditor who takes them for remembered they are gone too early.
    let (code, said) = bank.audit_now().await;
    assert!(code == 1 && said.contains("the id is forgotten too early"), "{said}");
    let tombstones = bank.space.read("changelog").await.unwrap();
    let gone = |id| move |key: &[u8]| key == format!("outcome/{id}").as_bytes();
    for one in &old {
        let last = tombstones.iter().rfind(|record| record.key.as_deref().is_some_and(gone(one.id)));
        assert_eq!(last.unwrap().value, None, "a tombstone");
    }
    // Rebuilt from the changelog, the stores are the same: nothing comes back.
    for lost in [false, true] {
        assert_eq!(processor.terminate().await.code(), Some(0));
        let stores = Stopped::read(&bank, &processor.state_dir()).await;
        stores.assert_committed_only(&bank).await;
        if lost {
            std::fs::remove_dir_all(processor.state_dir()).unwrap();
        }
        processor.restart().await;
        for one in &old {
            assert_eq!(processor.queries().get(0, "outcome", &one.id.0).await.unwrap(), None);
        }
    }
    assert_clean(&bank).await;
}

async fn assert_clean(bank: &Bank) {
    let (code, said) = bank.space.audit_remembering(60, RETENTION_HOURS).await.unwrap();
    assert_eq!(code, 0, "{said}");
}

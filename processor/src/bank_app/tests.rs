mod simulation;

use schemas::{fingerprint, records};

use super::codec;

/// Gateways wait for (id, fingerprint): both sides must compute the same.
#[test]
fn the_fingerprint_of_the_rules_is_that_of_the_gateways() {
    let record = records::ConfirmMoneyTransfer {
        id: records::Uuid([9; 16]),
        token: "12345678901234567890".into(),
        amount: -7,
        from: "NL66OPEN0000000000".into(),
        to: "cash".into(),
        description: "d\u{e9}j\u{e0} vu".into(),
    };
    let theirs = fingerprint::transfer(&record);
    assert_eq!(bank::Fingerprint::of_transfer(&codec::transfer("k", record)).0, theirs);
    let record = records::ConfirmAccountCreation {
        id: records::Uuid([8; 16]),
        username: "somebody".into(),
        a_type: records::Atype::Auto,
        password_hash: Some("hash".into()),
    };
    let theirs = fingerprint::account_creation(&record);
    assert_eq!(bank::Fingerprint::of_account_creation(&codec::account_creation("k", record)).0, theirs);
}

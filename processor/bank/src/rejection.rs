//! Why the bank says no. The texts are the contract with clients, word for word: programs compare them.

/// A refusal of the bank: recorded as the outcome of the command, and answered. The letters are the rows of the
/// ladder of a transfer; the first that holds decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Rejection {
    /// b. The id is that of another command.
    #[error("id was used for another transfer")]
    IdUsedForAnotherTransfer,
    /// c.
    #[error("amount must be positive")]
    AmountNotPositive,
    /// d.
    #[error("description is too long")]
    DescriptionTooLong,
    /// e. Neither cash nor a valid own iban.
    #[error("from is invalid")]
    FromIsInvalid,
    /// f.
    #[error("from and to can't be same for transfer")]
    FromAndToAreTheSame,
    /// g.
    #[error("invalid token")]
    InvalidToken,
    /// h. Also where the key of the command gives no right to `from`.
    #[error("from does not belong to user")]
    FromDoesNotBelongToUser,
    /// i. Meant as an own iban, but not valid: the money would vanish.
    #[error("to is invalid")]
    ToIsInvalid,
    /// j.
    #[error("insufficient funds")]
    InsufficientFunds,
    /// k, and a deposit to an own iban without account.
    #[error("both to and from not known at this bank")]
    BothNotKnown,
    /// l. A valid own iban without account.
    #[error("to is not known at this bank")]
    ToIsNotKnown,
    /// A sum that would not fit any more.
    #[error("amount is too large")]
    AmountTooLarge,

    /// Account creation: the id is that of another command.
    #[error("id was used for another command")]
    IdUsedForAnotherCommand,
    /// Account creation: a name that could be taken for an account, or for cash.
    #[error("username is not allowed")]
    UsernameNotAllowed,
    /// Account creation: only the partition of the name can say whether it is free.
    #[error("key is not the username")]
    KeyIsNotTheUsername,
    /// Account creation: the name is taken.
    #[error("username already exists")]
    UsernameExists,
    /// Account creation: every iban that was drawn is taken. The name stays free.
    #[error("generated iban already exists, try again")]
    IbanExists,
}

/// One row of a ladder: goes on where the condition holds, else refuses.
pub(crate) fn ensure(holds: bool, otherwise: Rejection) -> Result<(), Rejection> {
    if holds { Ok(()) } else { Err(otherwise) }
}

//! What the rules are asked to decide: the commands of clients, and the messages between partitions.

use crate::{AccountType, Cents, CommandId, Iban, PasswordHash, Token};

/// Stands for money that is brought to the bank or taken from it.
pub const CASH: &str = "cash";
/// Bytes of a username, and of whoever is paid outside of the bank. Such names come back in every row about them, and a
/// page of rows is one message.
pub const NAME_BYTES_MAX: usize = 400;

/// One record of an input topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// A client wants an account.
    AccountCreation(AccountCreation),
    /// A client wants to move money.
    Transfer(Transfer),
    /// Another partition has reserved money for an account here.
    CreditRequested(CreditRequested),
    /// Another partition answers a reservation made here.
    CreditSettled(CreditSettled),
}

/// Opens an account for a new user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccountCreation {
    /// Key of the record.
    pub key: String,
    /// Id of the command.
    pub id: CommandId,
    /// The wanted name.
    pub username: String,
    /// Who uses the account.
    pub account_type: AccountType,
    /// Without one nobody can log in.
    pub password_hash: Option<PasswordHash>,
}

/// Moves money from an account, or cash, to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transfer {
    /// Key of the record: a username or an iban.
    pub key: String,
    /// Id of the command.
    pub id: CommandId,
    /// As given by the client.
    pub token: Token,
    /// As given by the client, so maybe not positive.
    pub amount: Cents,
    /// An own iban, or `cash`.
    pub from: String,
    /// An iban, `cash`, or the name of a shop.
    pub to: String,
    /// Free text.
    pub description: String,
}

/// Money is reserved for an account of another partition. Keyed by `to`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreditRequested {
    /// Id of the transfer.
    pub id: CommandId,
    /// The account that pays.
    pub from: Iban,
    /// The account to credit.
    pub to: Iban,
    /// How much.
    pub amount: Cents,
    /// For the event of the credit.
    pub description: String,
    /// Time of the transfer's record, in milliseconds since 1970.
    pub time_ms: i64,
}

/// The answer to [`CreditRequested`]. Keyed by `from`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreditSettled {
    /// Id of the transfer.
    pub id: CommandId,
    /// The account that pays.
    pub from: Iban,
    /// The account that was credited, or not.
    pub to: Iban,
    /// `None` when the money was credited, else why not.
    pub refused: Option<String>,
    /// Partition of `to`.
    pub partition: i32,
    /// The commit of that partition that holds the credit.
    pub commit_sequence: i64,
}

impl From<AccountCreation> for Input {
    fn from(command: AccountCreation) -> Input {
        Input::AccountCreation(command)
    }
}

impl From<Transfer> for Input {
    fn from(command: Transfer) -> Input {
        Input::Transfer(command)
    }
}

impl From<CreditRequested> for Input {
    fn from(request: CreditRequested) -> Input {
        Input::CreditRequested(request)
    }
}

impl From<CreditSettled> for Input {
    fn from(answer: CreditSettled) -> Input {
        Input::CreditSettled(answer)
    }
}

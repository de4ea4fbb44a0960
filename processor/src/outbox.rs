//! Records staged by a transaction, before any of them is produced.
//!
//! Staging first means that a record which cannot be processed costs nothing at the broker: no transaction has begun.

use crate::log::{OutRecord, TopicId};

struct Head {
    topic: TopicId,
    partition: i32,
    start: usize,
    key_len: Option<usize>,
    value_len: Option<usize>,
    headers: Vec<(String, Vec<u8>)>,
}

/// Staged records in order, keys and values in one buffer that is reused.
#[derive(Default)]
pub struct Outbox {
    arena: Vec<u8>,
    heads: Vec<Head>,
}

impl Outbox {
    /// Stages a record; `write` appends the value (`None`: a tombstone).
    pub fn push<E>(
        &mut self,
        topic: TopicId,
        partition: i32,
        key: Option<&[u8]>,
        write: Option<impl FnOnce(&mut Vec<u8>) -> Result<(), E>>,
    ) -> Result<(), E> {
        let start = self.arena.len();
        self.arena.extend_from_slice(key.unwrap_or_default());
        let value_start = self.arena.len();
        let value_len = match write {
            Some(write) => match write(&mut self.arena) {
                Ok(()) => Some(self.arena.len() - value_start),
                Err(error) => {
                    self.arena.truncate(start);
                    return Err(error);
                }
            },
            None => None,
        };
        let key_len = key.map(<[u8]>::len);
        self.heads.push(Head { topic, partition, start, key_len, value_len, headers: Vec::new() });
        Ok(())
    }

    /// Adds headers to the record staged last.
    pub fn with_headers(&mut self, headers: Vec<(String, Vec<u8>)>) {
        if let Some(last) = self.heads.last_mut() {
            last.headers = headers;
        }
    }

    /// The staged records in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = OutRecord<'_>> {
        self.heads.iter().map(|head| {
            let value_start = head.start + head.key_len.unwrap_or(0);
            OutRecord {
                topic: head.topic,
                partition: head.partition,
                key: head.key_len.map(|len| &self.arena[head.start..head.start + len]),
                value: head.value_len.map(|len| &self.arena[value_start..value_start + len]),
                headers: &head.headers,
            }
        })
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    /// True without records.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Bytes staged.
    pub fn bytes(&self) -> usize {
        self.arena.len()
    }

    /// A mark to which [`Outbox::rewind`] can go back.
    pub fn mark(&self) -> (usize, usize) {
        (self.heads.len(), self.arena.len())
    }

    /// Forgets what was staged after the mark.
    pub fn rewind(&mut self, mark: (usize, usize)) {
        self.heads.truncate(mark.0);
        self.arena.truncate(mark.1);
    }

    /// Forgets everything, keeps a bounded buffer.
    pub fn clear(&mut self) {
        self.rewind((0, 0));
        self.arena.shrink_to(4 << 20);
    }
}
